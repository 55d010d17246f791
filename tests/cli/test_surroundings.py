"""The command line in poor surroundings (encodings, closed streams, no home) and inside other Hydra applications.

dd.cli.terminal, dd.cli.loading, dd.cli.compose.

Covers: dd/cli/compose.py, dd/cli/loading.py, dd/cli/terminal.py, dd/errors.py.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import hydra
import pandas as pd
import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig

import dd
from dd.cli.compose import compose_runs
from dd.cli.conf import conf_dir
from dd.cli.help import help_text
from dd.data._download import cache_folder
from dd.errors import ConfigError
from dd.run import main
from tests.helpers import NEEDS_HYDRA

BASE = {"version_base": "1.3"} if hydra.__version__ < "1.4" else {}
ONE = ("width=5", "optimizer=min_norm")


def shell(line: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    line = line.replace("PYTHON", sys.executable)
    return subprocess.run(
        ["bash", "-c", line], cwd=cwd, env=os.environ | environment, capture_output=True, text=True, errors="replace",
        stdin=subprocess.DEVNULL, timeout=120, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_help_is_readable_in_any_encoding(encoding: str, tmp_path: Path) -> None:
    done = shell("PYTHON -m dd.run --help", tmp_path, PYTHONIOENCODING=encoding)
    assert (done.returncode, done.stderr) == (0, "")
    assert "n_jobs" in done.stdout
    assert done.stdout.count("?") == help_text().count("?"), "none but those of the presets' questions"


def test_summary_and_errors_are_readable_in_ascii(tmp_path: Path) -> None:
    environment = {"PYTHONIOENCODING": "ascii"}
    done = shell("PYTHON -m dd.run -m width=5 optimizer=min_norm seed=0,1 name=Ä–λ n_jobs=1", tmp_path, **environment)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout.splitlines()[-2].startswith("table: results/")
    done = shell("PYTHON -m dd.run optimizer=λ–1", tmp_path, **environment)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)


@pytest.mark.parametrize(
    "line",
    [
        "PYTHON -m dd.run --help | head -1",
        "PYTHON -m dd.run -m width=5,6 optimizer=min_norm n_jobs=1 2>&1 | head -1",
        "PYTHON -m dd.run width=5 optimizer=min_norm >&- 2>&- <&- ; echo $?",
        "PYTHON -m dd.run width=0 2>&- ; echo $?",
    ],
)
def test_closed_streams_end_no_run(line: str, tmp_path: Path) -> None:
    done = shell(line, tmp_path)
    assert "Error" not in done.stderr, done.stderr
    assert "Traceback" not in done.stderr
    last = done.stdout.splitlines()[-1]
    assert last == ("2" if "width=0" in line else "0") if "echo" in line else last
    if "help" not in line and "width=0" not in line:
        assert len(pd.read_parquet(tmp_path / "results/default/runs")) in (1, 2)


def test_a_folder_for_downloads_without_home(monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", homeless)
    assert cache_folder().name == f"dd-cache-{os.getuid()}"


@pytest.mark.parametrize("scale", ["1e39", "1e300"])
def test_weights_beyond_every_number_are_a_diverged_run(
    scale: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([f"init.scale={scale}", "width=5", "epochs=1"]) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    assert printed.out.startswith("random_features, width 5: diverged: no loss was finite\n")
    assert pd.read_parquet(tmp_path / "results/default/runs").status.tolist() == ["diverged"]


LINES = [
    (("optimizer=5",), "optimizer=5 (from the command line): must be one of adagrad, adam"),
    (("-m", "optimizer=5,sgd"), "optimizer=5,sgd (from the command line): must be one of adagrad, adam"),
    (("optimizer=[a,[b]]",), "optimizer=[a,[b]] (from the command line): must be one of adagrad, adam"),
    (("width={a:1}",), "width={'a': 1} (from the command line): must be an integer"),
    (("width=" + "9" * 400,), "(from the command line): must be an integer >= 1"),
    (("width=" + "9" * 5000,), "Exceeds the limit (4300 digits)"),
    (("lr=" + "9" * 400,), "(from the command line): must be a number > 0"),
    (("lr=1e400",), "lr=inf (from the command line): must be a number > 0"),
    (("seed=${oc.env:NOPE}",), "Environment variable 'NOPE' not found"),
    (("-m", "seed=${oc.env:NOPE}"), "Environment variable 'NOPE' not found"),
    (("seed=${bad",), "seed=${bad (from the command line): "),
    (("lr=${nowhere:1}",), "Unsupported interpolation type nowhere"),
    (("width",), "width (from the command line): "),
    (("",), "(from the command line): "),
    (("-m", "lr=range(0,inf,0.1)"), "sweep=endless (from the command line): at most "),
    (("-m", "lr=interval(0,1)"), "lr=interval(0,1) (from the command line): an interval has no grid"),
    (("name='a\nb'",), r"name=a\nb (from the command line): must be a word, in one line"),
    (("name=a\nb",), "(from the command line): "),
    (("name='a '",), "name=a  (from the command line): must be a plain folder name: not ending in a space"),
    (("name=a/b",), "name=a/b (from the command line): must be a plain folder name"),
    (("name=",), "name= (from the command line): must be a plain folder name: not empty"),
    (("name=" + "x" * 101,), "must be a plain folder name: at most 100 bytes"),
]


@pytest.mark.hydra
@pytest.mark.parametrize(("arguments", "line"), LINES, ids=[" ".join(a)[:40] for a, _ in LINES])
def test_bad_lines_are_told_in_one_line(
    arguments: tuple[str, ...], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert line in printed.err
    assert printed.err.startswith("dd: ")
    assert printed.err.count("\n") == 1


BAD = [
    ("optimizer=5", "must be one of adagrad"),
    ("optimizer=null", "must be one of adagrad"),
    ("optimizer=[a,[b]]", "must be one of adagrad"),
    ("lr=${nope}", "'nope' not found"),
    ("seed=${oc.env:NOPE}", "NOPE"),
    ("seed=${bad", "seed="),
    ("seed=${nowhere:1}", "nowhere"),
    ("hydra.mode=._", "hydra.mode=._"),
    ("", "'' (from the command line): "),
    ("width", "missing EQUAL"),
    ("=", "'' (from the command line): "),
    ("width=" + "[" * 3000, ""),
    ("width=" + "9" * 5000, "4300"),
    (5, "must be a string"),
    (None, "must be a string"),
    (["width=5"], "must be a string"),
    (Path("width=5"), "must be a string"),
]


@pytest.mark.hydra
@pytest.mark.parametrize(("override", "text"), BAD, ids=[str(bad)[:30] for bad, _ in BAD])
def test_bad_values_from_python_are_one_line(override: object, text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        dd.sweep(override)  # type: ignore[arg-type]
    assert text in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    assert len(str(caught.value)) < 2000


@pytest.mark.parametrize("n_jobs", [0, -1, True, 1.5, "many", "1,2", [1, 2], ""])
def test_bad_numbers_of_processes_are_one_line(n_jobs: object, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^n_jobs") as caught:
        dd.sweep(*ONE, f"results_dir={tmp_path}", n_jobs=n_jobs)
    assert "\n" not in str(caught.value)


def state() -> tuple[object, ...]:
    argument_checks = vars(argparse._ActionsContainer).get("_check_help")
    full_error = os.environ.get("HYDRA_FULL_ERROR")
    return GlobalHydra.instance().hydra, HydraConfig.instance().cfg, sys.argv[:], full_error, argument_checks


@pytest.mark.hydra
def test_inside_initialize_both_work_and_leave_no_trace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with initialize_config_dir(str(conf_dir()), **BASE):
        before = state()
        assert len(dd.sweep(*ONE, "seed=0,1", n_jobs=1)) == 2
        assert state() == before
        with pytest.raises(ConfigError):
            dd.sweep("width=0")
        assert main(["-m", *ONE, "seed=2,3", "n_jobs=1"]) == 0
        assert main(["optimizer=5"]) == 2
        assert main(["-m", *ONE, "seed=2,3", "n_jobs=1"]) == 0
        assert state() == before
        assert compose("config").width == 100
    assert len(dd.sweep(*ONE, "seed=4", n_jobs=1)) == 1
    assert len(dd.load()) == 5
    assert "Traceback" not in capsys.readouterr().err


@NEEDS_HYDRA
@pytest.mark.hydra
def test_inside_another_application(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(
        "import hydra, dd\n"
        "from hydra.core.hydra_config import HydraConfig\n"
        "from hydra.core.global_hydra import GlobalHydra\n"
        "from dd.run import main\n"
        f"@hydra.main(config_path=None, **{BASE!r})\n"
        "def app(config):\n"
        "    before = GlobalHydra.instance().hydra, HydraConfig.get().job.name\n"
        "    assert len(dd.sweep('width=5,6', 'optimizer=min_norm', n_jobs=1)) == 2\n"
        "    try:\n"
        "        dd.sweep('lr=${nope}')\n"
        "    except dd.errors.ConfigError:\n"
        "        pass\n"
        "    assert main(['-m', 'width=7,8', 'optimizer=min_norm', 'n_jobs=1']) == 0\n"
        "    assert main(['width=0']) == 2\n"
        "    assert (GlobalHydra.instance().hydra, HydraConfig.get().job.name) == before\n"
        "    assert HydraConfig.get().job.name == 'app'\n"
        "app()\n"
        "print('done')\n"
    )
    done = shell(f"PYTHON -W error {tmp_path}/app.py hydra.run.dir=.", tmp_path)
    assert done.stdout.endswith("done\n"), done.stderr
    assert len(pd.read_parquet(tmp_path / "results/default/runs")) == 4


@pytest.mark.hydra
def test_threads_compose_side_by_side() -> None:
    found: dict[int, object] = {}

    def go(number: int) -> None:
        try:
            found[number] = [run.width for run in compose_runs(f"width={number},{number + 1}", "seed=0")]
        except BaseException as error:
            found[number] = error

    threads = [threading.Thread(target=go, args=(number,)) for number in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {number: [number, number + 1] for number in range(1, 5)}


def test_the_callers_version_base_does_not_matter() -> None:
    if hydra.__version__ >= "1.4":
        pytest.skip("Hydra 1.4 has no older habits")
    from hydra.core.singleton import Singleton
    from hydra.version import VersionBase, setbase

    before = Singleton._instances.pop(VersionBase, None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        setbase("1.1")
    assert [run.width for run in compose_runs("width=5,6", "+experiment=ridge", "seed=0", "optimizer.penalty=0")] == [
        5,
        6,
    ]
    Singleton._instances.pop(VersionBase)
    if before is not None:
        Singleton._instances[VersionBase] = before
