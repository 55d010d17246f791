"""Override lists of every kind: a list of runs that is right, or one line that says what is wrong.

``DD_FAULTS=long`` draws 2000 lists instead of 40.
"""

from __future__ import annotations

import itertools
import os
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from dd.cli.choices import known_keys
from dd.cli.compose import compose_jobs
from dd.errors import ConfigError
from dd.run import main
from dd.runs.run import core_axes

pytestmark = pytest.mark.hydra

LONG = os.environ.get("DD_FAULTS") == "long"
SOME = settings(
    max_examples=2000 if LONG else 40,
    deadline=None,
    database=None,
    derandomize=not LONG,
    phases=[Phase.explicit, Phase.generate],  # shrinking takes minutes
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)


@dataclass(frozen=True)
class Part:
    """One override and what it means: the values of its key in order, None for garbage."""

    text: str
    key: str
    values: tuple[Any, ...] | None


def decimal(value: int, digits: int) -> str:
    return f"{value / 10**digits:.{digits}f}"


@st.composite
def ranges(draw: st.DrawFn, key: str, digits: int) -> Part:
    """A range, ascending or descending, as it is or sorted; bounds in units of the last digit."""
    start = draw(st.integers(1, 400))
    step = draw(st.integers(1, 150)) * draw(st.sampled_from([1, -1]))
    stop = start + step * draw(st.integers(1, 3)) + draw(st.integers(0, abs(step) - 1)) * (1 if step > 0 else -1)
    numbers = list(range(start, stop, step))
    if min(numbers) < 1:
        step, stop = abs(step), start + abs(stop - start)
        numbers = list(range(start, stop, step))
    typed = ",".join(decimal(v, digits) if digits else str(v) for v in (start, stop, step))
    text = f"range({typed})"
    order = draw(st.sampled_from(["{}", "sort({})", "sort({},reverse=true)", "sort(shuffle({}))", "tag(a,{})"]))
    if order.startswith("sort"):
        numbers.sort(reverse="reverse" in order)
    values = tuple(float(Fraction(v, 10**digits)) if digits else v for v in numbers)
    return Part(f"{key}={order.format(text)}", key, values)


def choices(key: str, values: list[Any]) -> st.SearchStrategy[Part]:
    """One value, or several in one of the ways to write them."""
    some = st.lists(st.sampled_from(values), min_size=1, max_size=3, unique=True)
    several = st.sampled_from(["{}", "choice({})"])
    return st.builds(lambda v, form: Part(f"{key}={form.format(','.join(map(str, v)))}", key, tuple(v)), some, several)


NAMES = ["2024_01_01", "1.10", "1.1", "1e5", "true", "0x10", "null", "NaN", "a b", "ein_Ä", "-1", "a-b", "x.y"]
VALID = {
    "width": ranges("width", 0) | choices("width", [3, 10, 77]),
    "lr": ranges("lr", 2) | choices("lr", [0.5, 1e-5, 0.30000000000000004]),
    "seed": ranges("seed", 0) | choices("seed", [0, 5, 2**63 - 1]),
    "optimizer": choices("optimizer", ["sgd", "adam", "momentum"]),
    "init.scale": choices("init.scale", [1, 0.5, 1e39]),
    "dtype": choices("dtype", ["float32", "float64"]),
    "name": st.sampled_from(NAMES).map(lambda name: Part(f"name={name}", "name", (name,))),
}
FIELDS = {axis.key: name for name, axis in core_axes().items()}

VALUES = [
    *("9" * 400, "-" + "9" * 400, "9" * 5000, "1e400", "-1e400", "1e-400", "nan", "inf", "-inf", "null", "true", ""),
    *("[a,[b]]", "{a:1}", "{a:{b:[1,2]}}", "[" * 60, "[" * 30 + "]" * 30, "${nope}", "${oc.env:NOPE}", "${bad", "${}"),
    *(
        "${width}",
        "${seed}",
        "${.x}",
        "${lr}",
        "${oc.decode:1}",
        "???",
        "range(1,100000000)",
        "range(0,inf)",
        "glob(*)",
    ),
    *("range(0,1,0)", "range(1,nan)", "range(5,1)", "interval(0,1)", "sort(1,a)", "sort(range(3,1,-1))", "choice()"),
    *("shuffle(1,2)", "choice(a,choice(b))", "int(2.7)", "int(x)", "int(range(0.5,3))", "str(range(1,3))", "foo(1)"),
    *(
        "tag(1)",
        "1,2,",
        ",1",
        "a,b",
        "'a",
        '"a"',
        "'a\\nb'",
        "x" * 100_000,
        "1_0",
        "0x10",
        "1.0",
        "2.5",
        "-0",
        "\ud800",
    ),
    *("\x1b[2J", "'${width}'", "\\${width}", "1;2", "!!python/object:os", "&a", "*a", "- a", "%YAML", "\u2028", "none"),
    *("sgd,5", "'a\nb'"),
]
KEYS = [
    *("", "widht", "a.b", "width.x", "data", "data.", ".data", "hydra.run.dir", "hydra/launcher", "+width", "++width"),
    *(
        "~width",
        "~optimizer",
        "+experiment",
        "experiment",
        "measure",
        "scale",
        "optimizer@x",
        "hydra",
        "++name",
        "+a.b",
    ),
    *("optimizer/sgd", "data.tensors", "0", "a b", "run_id", "~", "+", "hydra.mode", "hydra.searchpath"),
    "hydra.sweeper.params.x",
]
values = st.one_of(
    st.text(st.characters(codec="utf-8"), max_size=12),
    st.text("()[]{},:=$'\"\\ 0123456789.eE+-_~@/#%&*abrnge\n\t\x00", max_size=16),
    st.sampled_from(VALUES),
)
keys = st.sampled_from(known_keys()) | st.sampled_from(KEYS) | st.text(max_size=6)
garbage = st.builds(lambda key, value: Part(f"{key}={value}", "", None), keys, values) | st.builds(
    lambda text: Part(text, "", None), st.text(max_size=8)
)


@st.composite
def lines(draw: st.DrawFn) -> list[Part]:
    """Some overrides of distinct keys in any order; every other line has garbage in it."""
    chosen = draw(st.lists(st.sampled_from(sorted(VALID)), max_size=4, unique=True))
    parts = [draw(VALID[key]) for key in chosen]
    if draw(st.booleans()):
        parts += draw(st.lists(garbage, min_size=1, max_size=2))
    return draw(st.permutations(parts))


def is_one_line(text: str) -> bool:
    return len(text.splitlines()) == 1 and len(text) < 5000 and all(c >= " " or c == "\n" for c in text)


@SOME
@given(lines())
def test_any_line_gives_the_right_runs_or_one_line(parts: list[Part]) -> None:
    texts = [part.text for part in parts]
    error = ""
    try:
        runs, shared = compose_jobs(texts)
    except ConfigError as refusal:
        error = str(refusal)
    if any(part.values is None for part in parts):
        assert is_one_line(error) if error else runs
        return
    assert error == ""
    axes = [part for part in parts if part.key != "name"]
    expected = list(itertools.product(*(part.values or () for part in axes)))
    found = [tuple(run.values[FIELDS[part.key]] for part in axes) for run in runs]
    rounded = [tuple(float(f"{v:.12g}") if isinstance(v, float) else v for v in row) for row in expected]
    assert found == rounded
    assert shared.name == next((part.values[0] for part in parts if part.key == "name" and part.values), "default")


@settings(SOME, max_examples=300 if LONG else 8)
@given(line=lines(), many=st.booleans())
def test_the_command_line_ends_with_a_plan_or_one_line(
    line: list[Part], many: bool, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    capsys.readouterr()
    # what is typed before an = is never an option here: those have a test of their own
    texts = [part.text for part in line if not part.text.startswith("-")]
    own = [f"results_dir={tmp_path}", "plan_only=true", f"hydra.run.dir={tmp_path}", f"hydra.sweep.dir={tmp_path}"]
    code = main([*(["-m"] if many else []), *texts, *own, "n_jobs=1"])
    errors = capsys.readouterr().err
    if code:
        assert code == 2
        assert is_one_line(errors), errors
        assert errors.startswith("dd: ")
    # without -m a function that sweeps is refused
    valid = all(part.values is not None and (many or ("(" not in part.text and len(part.values) == 1)) for part in line)
    assert code == 0 or not valid, errors
