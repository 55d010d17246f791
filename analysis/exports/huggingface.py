"""A table as a data set in the layout of the Hugging Face Hub: ``data/`` with its parts, and a card, ``README.md``."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from analysis.commands import made_by
from analysis.curves import SEEDS, axis_columns, exact
from analysis.tables import copy_table, environments, load_runs

MARK = "<!-- written by dd-lab export huggingface -->"
"""A line of the card: what has it may be written anew."""

SIZES = ((10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M"))
"""Rows below the number, and what the Hub calls such a data set; a table has at most 500,000 rows."""

TYPES = {"double": "float64", "float": "float32"}
"""What the Hub calls types where pyarrow calls them otherwise."""

FEATURES = ("runs", "curves")
"""Kinds of rows whose columns the card lists: parts of an older dd lack some, and readers fill them with nulls."""

LISTED = 10
"""Values of an axis that are listed; of more, their number and the range."""

TITLE = "dd: a laboratory for double descent"
SOURCE = "https://github.com/dd-lab/dd"

LOAD = """\
```python
import datasets

runs = datasets.load_dataset("<this repository>", "runs", split="train")
```"""

AGAIN = "python -m dd.reproduce table=data results_dir=."

CITATION = """\
@software{{dd,
  title   = {{{title}}},
  author  = {{{{The dd authors}}}},
  version = {{{version}}},
  url     = {{{source}}}
}}"""


def write(table: str, results_dir: Path, out: Path, license: str | None) -> str:
    """Write ``out/data/<kind>/*.parquet``, byte for byte those of the table, and ``out/README.md``.

    ``out/data`` is a table of dd's again. What was exported there before is replaced.

    Args:
        table: its name.
        results_dir: folder of the tables.
        out: folder of the data set.
        license: its licence as the Hub spells it; none is named where it is None.

    Raises:
        FileExistsError: the folder holds something else.
        UnreadableTable: naming the file.
    """
    card = out / "README.md"
    if out.exists() and any(out.iterdir()) and not (card.is_file() and MARK in card.read_text(encoding="utf-8")):
        raise FileExistsError(out)
    out.mkdir(parents=True, exist_ok=True)
    card.write_text(f"{MARK}\n", encoding="utf-8")
    footers = copy_table(results_dir, table, out / "data")
    rows, packages = load_runs(out, "data"), environments(out, "data")
    front = yaml.safe_dump(_front(table, footers, license), sort_keys=False, allow_unicode=True)
    body = "\n\n".join(_body(table, footers, rows, packages))
    card.write_text(f"---\n{front}---\n\n{body}\n", encoding="utf-8")
    return f"datasets.load_dataset({str(out)!r}, 'runs', split='train')"


def _front(table: str, footers: Mapping[str, Sequence[pq.FileMetaData]], license: str | None) -> dict[str, object]:
    """The YAML of the card: one configuration a kind of rows, each with the one split that the Hub asks for."""
    count = _rows(footers["runs"])
    configs = [
        {"config_name": kind, "data_files": [{"split": "train", "path": f"data/{kind}/*.parquet"}]}
        | ({"default": True} if kind == "runs" else {})
        for kind in footers
    ]
    features = [
        {"config_name": kind, "features": [{"name": f.name, "dtype": _dtype(f.type)} for f in _fields(footers[kind])]}
        for kind in FEATURES
        if kind in footers
    ]
    return {
        "pretty_name": f"Double descent: {table}",
        **({"license": license} if license else {}),
        "tags": ["double-descent", "dd-lab", "tabular"],
        "size_categories": [next(word for most, word in SIZES if count < most)],
        "configs": configs,
        "dataset_info": features,
    }


def _body(
    table: str,
    footers: Mapping[str, Sequence[pq.FileMetaData]],
    rows: pd.DataFrame,
    packages: Sequence[Mapping[str, object]],
) -> Iterator[str]:
    """Sections of the card."""
    from dd import __version__

    yield f"# Double descent: {table}"
    yield MARK
    yield (
        f"A table of [dd]({SOURCE}), a laboratory for double descent: one row a training run, with its settings, final "
        "losses, condition numbers and test error. Test loss against width shows the peak, or its absence."
    )
    yield LOAD
    yield (
        "All rows are in the split `train`, which is the word of the Hub for a data set that is not split. "
        "The folder `data` is a table of dd: `dd-lab peaks data --results .` judges its peaks."
    )
    yield "## Rows"
    yield _table(("configuration", "rows", "files"), ((kind, _rows(f), len(f)) for kind, f in footers.items()))
    counts = rows["status"].value_counts()
    yield "Runs by status: " + ", ".join(f"{count} {status}" for status, count in counts.items()) + "."
    yield "## What varies"
    yield _table(("axis", "values"), ((f"`{axis}`", _values(rows[axis])) for axis in _varying(rows)))
    yield "## Command"
    lines, total = made_by(rows, table)
    said = "This command makes the table:" if total == 1 else "These commands make the table:"
    yield "\n".join([said, "", *(f"    {line}" for line in lines)])
    if total > len(lines):
        yield f"These are {len(lines)} of {total} commands."
    yield f"This computes ten of its runs again, and compares them bit for bit:\n\n    {AGAIN}"
    yield "Computed with " + "; ".join(dict.fromkeys(map(_environment, packages))) + "."
    yield "## Columns"
    yield "Columns that are null in all rows are left out."
    meant = meanings()
    types = {f.name: _dtype(f.type) for kind in FEATURES if kind in footers for f in _fields(footers[kind])}
    alike: dict[tuple[str, str], list[str]] = {}
    for column in (c for c in types if c not in rows or rows[c].notna().any()):
        alike.setdefault((types[column], meant.get(column, "")), []).append(f"`{column}`")
    yield _table(
        ("columns", "type", "meaning"), ((", ".join(names), kind, text) for (kind, text), names in alike.items())
    )
    yield "## Citation"
    yield "```bibtex\n" + CITATION.format(title=TITLE, version=__version__, source=SOURCE) + "\n```"


def meanings() -> dict[str, str]:
    """Column -> what it means: of axes as ``--help`` says it, of all others as docs/columns.md does."""
    from dd.runs.registry import option_axes
    from dd.runs.run import core_axes

    here = Path(__file__).parents[1]
    page = next(p for p in (here / "columns.md", here.parent / "docs" / "columns.md") if p.is_file())
    found: dict[str, str] = {}
    for names, meaning in re.findall(r"^\| (`[^|]+`) \| (.+) \|$", page.read_text(encoding="utf-8"), re.MULTILINE):
        text = re.sub(r"\[([^]]+)]\([^)]+\)", r"\1", meaning)  # links of the page lead nowhere here
        for name in re.findall(r"`([^`]+)`", names):
            found.setdefault(name, text)  # columns of runs come before others of the same name
    for key, axis in [*core_axes().items(), *option_axes()]:
        found[key.replace(".", "_")] = axis.help if axis.unit in axis.help else f"{axis.help} ({axis.unit})"
    return found


def _fields(footers: Sequence[pq.FileMetaData]) -> list[pa.Field]:
    """Columns of any part."""
    schemas = [footer.schema.to_arrow_schema().remove_metadata() for footer in footers]
    return list(pa.unify_schemas(schemas, promote_options="permissive"))


def _dtype(kind: pa.DataType) -> str:
    return TYPES.get(str(kind), str(kind))


def _rows(footers: Sequence[pq.FileMetaData]) -> int:
    return sum(footer.num_rows for footer in footers)


def _varying(rows: pd.DataFrame) -> list[str]:
    return [c for c in dict.fromkeys((*axis_columns(rows), *SEEDS)) if c in rows and rows[c].nunique() > 1]


def _values(column: pd.Series) -> str:
    values = sorted(column.dropna().unique())
    texts = [exact(float(v)) if pd.api.types.is_number(v) and not isinstance(v, bool) else f"`{v}`" for v in values]
    if len(values) > LISTED:
        return f"{len(values)} values from {texts[0]} to {texts[-1]}"
    return ", ".join(texts)


def _environment(environment: Mapping[str, object]) -> str:
    """One line, for example ``dd-lab 0.1.0, torch 2.13.0, Python 3.12 on Linux``."""
    packages = environment.get("packages")
    named = packages if isinstance(packages, Mapping) else {}
    versions = [f"{name} {named[name]}" for name in ("dd-lab", "torch", "numpy") if name in named]
    versions.append(f"Python {environment.get('python')}")
    return f"{', '.join(versions)} on {environment.get('platform')}"


def _table(head: Sequence[str], lines: Iterator[Sequence[object]]) -> str:
    rows = [head, ["---"] * len(head), *lines]
    return "\n".join(f"| {' | '.join(map(str, row))} |" for row in rows)
