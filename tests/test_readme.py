"""README.md: every command in it runs, and leaves what the page says.

A walk over the page finds the commands: lines of its blocks, code in its sentences and tables, and the recipes of the
make targets that it names. Each runs in a process of its own, in a folder of its own. A command that the walk does not
know how to run fails. The rules:

- A sweep that takes longer than :data:`LONG` by its plan gets small values appended.
- A data set that would be fetched is made up. What would start processes of its own does not.
- ``python -m dd.experiments`` runs the shortest of the presets that it names.
- A command that reads tables finds those that are named on the page, made by the page's own sweeps.
- :data:`NOT_RUN` has the commands that cannot run in a test, with the reason.

``tests/executors/test_auto.py`` runs the blocks of Python.
"""

from __future__ import annotations

import importlib.util
import re
import shlex
import shutil
import subprocess
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token

import dd
from dd import experiments
from dd import run as command_line
from dd.cli.compose import compose_runs
from dd.cli.conf import with_bases
from dd.cli.presets import path_of, size
from dd.data.fashion_mnist import FashionMNIST
from dd.packs.place import place_of
from dd.packs.plan import plan
from dd.runs.settings import Settings
from tests.data.files import mnist_arrays, write_mnist
from tests.helpers import started

ROOT = Path(__file__).parents[1]

PROGRAMS = ("python", "dd-lab", "make", "pip")
"""What a command in a sentence begins with."""

NOT_RUN = {
    r"pip install\b": "installs packages",
    r"\. \.venv/bin/activate$": "needs a .venv",
    r"ruff|mypy$|lint-imports|python -m dd\.cli\.axes_page": "checks the sources, as CI does",
    r"python -m pytest\b": "is what runs here",
    r"python -m sphinx\b": "builds the pages as a site, as CI does",
    r"echo\b": "prints a line",
    r"python -m dd\.reproduce$": "takes ten seconds, and runs in tests/test_reproduce.py",
}
"""Commands that do not run here, as patterns of how they begin, and why."""

LONG = 1.0
"""Seconds on one core from which a sweep is made small."""

AROUND, FEW = "50,100,150,200,250,300,350", "2,4"
"""Widths of a small sweep: around the threshold of features that are not trained; of networks and presets."""

SMALL = {"data.n_train": "200", "data.n_test": "100", "epochs": "2"}
"""Further values of a small sweep: of the keys that it types or whose default is large."""

OF_PRESET = {"seed": "0", "epochs": "2"}
"""Further values of a small preset: of the keys that its files have."""

LEAVES = {
    r"python -m dd\.experiments": ("results/*/runs/*.parquet",),
    r"python -m analysis\.figures .*--name default$": ("figures/default.png", "figures/default.pdf"),
    r"python -m analysis\.figures (?!.*--name)": ("figures/index.html", "figures/peaks.csv", "figures/*.pdf"),
    r"dd-lab export csv name=default$": ("exports/csv/default.csv",),
}
"""Files that a command leaves."""

SAYS = {
    r"python -m dd\.run --help": "data.n_train",
    r"python -m dd\.run optimizer=adam --help": "optimizer.beta1",
    r"python -m dd\.presets": "\nlabel_noise ",
    r"python -m dd\.theory random_features activation=erf": "\nerf,1.8,2,",
    r"python -m dd\.results check": "results/default: in order",
    r"python -m dd\.reproduce table=default": "computed again: the same",
    r"make$": "make figures",
}
"""What a command prints."""

NETWORK = """\
import torch


def make(width, inputs, outputs):
    return torch.nn.Sequential(torch.nn.Linear(inputs, width), torch.nn.ReLU(), torch.nn.Linear(width, outputs))
"""
"""A user's ``mynets.py``."""

SAMPLES = 100
"""Samples of a user."""


def tokens() -> list[Token]:
    """The page, taken apart."""
    return MarkdownIt("commonmark").enable("table").parse((ROOT / "README.md").read_text(encoding="utf-8"))


def spans() -> list[str]:
    """Code in sentences and tables."""
    return [part.content for token in tokens() for part in token.children or () if part.type == "code_inline"]


def blocks(python: bool) -> list[str]:
    """Blocks of Python, or of commands."""
    every = (token for token in tokens() if token.type in ("code_block", "fence"))
    return [token.content for token in every if (token.info == "python") == python]


def recipe(target: str) -> list[str]:
    """Commands of a make target, its environment being there."""
    there = ["--no-print-directory", "-n", "-o", ".venv/installed", "-o", ".venv/documented"]
    done = subprocess.run(["make", *there, target], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.replace("\\\n", "").splitlines() if not re.match(r"make\b.*: Nothing", line)]
    return [re.sub(r"^(\w+=\S+ )*(\.venv/bin/)?", "", line) for line in lines]


def commands() -> list[str]:
    """Every command of the page, without comments; a make target by the commands of its recipe."""
    typed = [line for block in blocks(python=False) for line in block.splitlines()]
    typed += [span for span in spans() if span.split()[0] in PROGRAMS]
    found = []
    for line in typed:
        program, *targets = shlex.split(line, comments=True)
        if program == "make" and targets:
            found += [command for target in targets for command in recipe(target)]
        else:
            found.append(line)
    return list(dict.fromkeys(shlex.join(shlex.split(command, comments=True)) for command in found))


def runnable() -> list[str]:
    """Commands of the page that can run here."""
    return [command for command in commands() if not re.match("|".join(NOT_RUN), command)]


def overrides(command: str) -> list[str]:
    """What is typed behind ``python -m dd.run``; nothing of another command."""
    words = shlex.split(command)
    return [word for word in words[3:] if word != "-m"] if words[:3] == ["python", "-m", "dd.run"] else []


def table_of(typed: list[str]) -> str:
    """The table that a sweep writes to."""
    names = [word.partition("=")[2] for word in typed if word.startswith(("name=", "+experiment="))]
    return names[-1] if names else "default"


def small(typed: list[str]) -> list[str]:
    """What is appended to a sweep to make it short: nothing, where it is."""
    runs, given = compose_runs(*typed), dict(word.lstrip("+").split("=", 1) for word in typed)
    settings = Settings(measure_name=given.get("measure", "basic"), device="cpu")
    if sum(pack.seconds for pack in plan(runs, place_of(settings))) < LONG:
        return []
    if "experiment" in given:
        files = "".join(path.read_text(encoding="utf-8") for path in with_bases(path_of(given["experiment"])))
        added = {"width": FEW} | {key: value for key, value in OF_PRESET.items() if f"{key}:" in files}
    else:
        large = ["data.n_train", *(["epochs"] if runs[0].epochs and "steps" not in given else [])]
        added = {"width": AROUND if runs[0].linear else FEW}
        added |= {key: value for key, value in SMALL.items() if key in (*given, *large)}
    return [f"{key}={value}" for key, value in added.items()]


def shortest(arguments: list[str]) -> list[str]:
    """Arguments of ``python -m dd.experiments``, of one preset in the place of all that they name."""
    patterns = [word for word in arguments if "=" not in word]
    name = min(experiments.chosen(patterns), key=lambda name: size(name).seconds)
    return [name, *(word for word in arguments if "=" in word), *small([f"+experiment={name}"])]


def swept(typed: list[str], folder: Path) -> None:
    """Run ``python -m dd.run`` with overrides of one run, or of a sweep; every run must get its row."""
    runs = compose_runs(*typed)
    arguments = [*["-m"] * (len(runs) > 1), *typed, "n_jobs=1"]
    if runs[0].data.from_files:
        in_place_of_fetched(arguments, folder)
    else:
        done = started("dd.run", *arguments, cwd=folder)
        assert done.returncode == 0, done.stderr
    rows = pd.read_parquet(folder / "results" / table_of(typed) / "runs")
    assert set(rows["status"]) == {"ok"}
    assert len(rows) == len(runs)
    assert sorted(rows["width"]) == sorted(run.width for run in runs)


def in_place_of_fetched(arguments: list[str], folder: Path) -> None:
    """Run a sweep in this process, where images of noise pass for the published ones."""
    root = write_mnist(folder / "images", mnist_arrays(train=1000, test=1000), zipped=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FashionMNIST, "content_sha256", None)
        patch.chdir(folder)
        assert command_line.main([*arguments, f"data.root={root}"]) == 0


def sweeps() -> dict[str, list[str]]:
    """The first sweep of the page into each table."""
    found: dict[str, list[str]] = {}
    for command in runnable():
        if "-m" in shlex.split(command)[3:]:
            found.setdefault(table_of(overrides(command)), overrides(command))
    return found


def read_tables() -> set[str]:
    """Tables that a command of the page reads, or that a figure on it shows."""
    readers = [command for command in runnable() if not overrides(command)]
    text = " ".join([*readers, *(span for span in spans() if span.startswith("figures/"))])
    return set(re.findall(r"(?:name=|table=|--name |figures/)(\w+)", text)) & set(sweeps())


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the tables that commands of the page read."""
    folder = tmp_path_factory.mktemp("tables")
    for name in sorted(read_tables()):
        swept([*sweeps()[name], *small(sweeps()[name])], folder)
    return folder


SWEPT = [command for command in runnable() if command.startswith("python -m dd.run") and "--help" not in command]


@pytest.mark.parametrize("command", SWEPT)
def test_a_sweep_leaves_a_row_of_each_run(command: str, tmp_path: Path) -> None:
    typed, several = overrides(command), "-m" in shlex.split(command)[3:]
    assert several == (len(compose_runs(*typed)) > 1)
    swept([*typed, *(small(typed) if several else [])], tmp_path)


@pytest.mark.parametrize("command", [command for command in runnable() if command not in SWEPT])
def test_a_command_leaves_and_prints_what_it_is_for(command: str, tmp_path: Path, tables: Path) -> None:
    folder = shutil.copytree(tables, tmp_path / "copy")
    match shlex.split(command):
        case ["make"]:
            done = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=False)
        case ["dd-lab", *arguments]:
            done = started("dd_lab", *arguments, cwd=folder)
        case ["python", "-m", "dd.experiments", *arguments]:
            done = started("dd.experiments", *shortest(arguments), "n_jobs=1", cwd=tmp_path)
            folder = tmp_path
        case ["python", "-m", "analysis.figures", *arguments]:
            done = started("analysis.figures", *arguments, "--jobs", "1", cwd=folder)
        case ["python", "-m", module, *arguments]:
            done = started(module, *arguments, cwd=folder)
        case _:
            pytest.fail(f"how does {command} run in a test? Say it in {__file__}")
    assert done.returncode == 0, done.stderr
    left = [pattern for start, patterns in LEAVES.items() if re.match(start, command) for pattern in patterns]
    said = [text for start, text in SAYS.items() if re.match(start, command)]
    assert left or said, f"what does {command} leave or print? Say it in {__file__}"
    assert not [pattern for pattern in left if not list(folder.glob(pattern))]
    assert not [text for text in said if text not in done.stdout]
    if "figures/index.html" in left:
        named = [span for span in spans() if span.startswith("figures/")]
        assert "figures/budget-card.png" in named
        assert not [path for path in named if not (folder / path).is_file()]
        page = (folder / "figures/index.html").read_text(encoding="utf-8")
        for part in ("The verdict", "Explore every run", "Settings and command", "Peaks of"):
            assert f">{part}" in page


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A working folder with a network and a table of a user's own, and the names that the page gives to things."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mynets.py").write_text(NETWORK)
    spec = importlib.util.spec_from_file_location("mynets", tmp_path / "mynets.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    x = np.random.default_rng(0).normal(size=(SAMPLES, 4))
    pd.DataFrame(x, columns=["rooms", "age", "size", "price"]).to_csv("my.csv", index=False)
    return SimpleNamespace(x=x, y=np.arange(SAMPLES) % 3, make=module.make)


@pytest.mark.parametrize("typed", [span for span in spans() if re.fullmatch(r"[\w.]+=\S+( [\w.]+=\S+)*", span)])
def test_overrides_in_a_sentence_are_a_run(typed: str, own: SimpleNamespace, tmp_path: Path) -> None:
    swept([*typed.split(), "epochs=1"], tmp_path)


@pytest.mark.parametrize("call", [span for span in spans() if re.match(r"dd\.\w+\(", span)])
def test_a_call_in_a_sentence_returns(call: str, own: SimpleNamespace) -> None:
    short = SimpleNamespace(sweep=partial(dd.sweep, "n_jobs=1", "epochs=1"), train=dd.train, inspect=dd.inspect)
    if "run_id" in call:
        own.run_id = dd.sweep("width=5", "optimizer=min_norm", "n_jobs=1")["run_id"].item()
    found = eval(call, {"dd": short, **vars(own)})
    if call.startswith("dd.sweep"):
        assert set(found["status"]) == {"ok"}
        assert len(found) == call.count(",", 0, call.index('"', 10)) + 1
    else:
        assert found is not None


def test_python_that_no_other_test_runs_is_that_of_a_file() -> None:
    named = [ROOT / span for span in spans() if span.endswith((".py", ".yaml")) and (ROOT / span).is_file()]
    texts = [path.read_text(encoding="utf-8") for path in named]
    for block in blocks(python=True):
        assert "import dd" in block or any(block in text for text in texts), block
    assert "name: fan_in" in spans()
    assert any("name: fan_in" in text for text in texts)


def test_what_does_not_run_is_on_the_page() -> None:
    for pattern, reason in NOT_RUN.items():
        assert any(re.match(pattern, command) for command in commands()), f"{pattern} ({reason}) is not needed any more"
