"""Hydra's own launcher test-suite, cheap composition, ranges, job directories.

Covers: dd/cli/jobs.py, dd/cli/task.py.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import pytest
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.core.singleton import Singleton
from hydra.plugins.launcher import Launcher
from hydra.test_utils.launcher_common_tests import LauncherTestSuite
from hydra.test_utils.test_utils import TSweepRunner
from hydra.version import VersionBase
from omegaconf import open_dict

from dd.cli.compose import compose_jobs
from dd.cli.conf import container_of
from dd.cli.grid import Grid, Reader
from dd.cli.jobs import Composer
from dd.cli.launcher import PackedLauncher
from dd.cli.loading import load, own_loader
from dd.cli.resolve import resolve
from dd.errors import ConfigError
from dd.runs.settings import Settings
from tests.helpers import dd_run

pytestmark = pytest.mark.hydra

assert TSweepRunner  # the suite's fixtures come from Hydra's pytest plugin


@pytest.fixture(autouse=True)
def _hydra_state() -> Iterator[None]:
    # Hydra's suite expects a process in which nobody has named a version_base yet
    before = Singleton._instances.pop(VersionBase, None)
    yield
    if before is not None:
        Singleton._instances[VersionBase] = before
    GlobalHydra.instance().clear()
    HydraConfig.instance().cfg = None


def test_is_discovered() -> None:
    found = [x.__name__ for x in Plugins.instance().discover(Launcher)]
    assert "DDLauncher" in found


@pytest.mark.parametrize(("launcher_name", "overrides"), [("dd", [])])
class TestHydrasLauncherSuite(LauncherTestSuite):
    """What Hydra asks of every launcher."""


def expand(*texts: str) -> list[list[str]]:
    reader = Reader(own_loader())
    return list(Grid.of(reader, reader.overrides(texts)))


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("lr=range(0.1,0.4,0.1)", ["0.1", "0.2", "0.3"]),
        ("lr=range(0.01,0.05,0.01)", ["0.01", "0.02", "0.03", "0.04"]),
        ("lr=range(0,1,0.25)", ["0.0", "0.25", "0.5", "0.75"]),
        ("lr=range(1,0.4,-0.2)", ["1.0", "0.8", "0.6"]),
        ("width=range(10,31,10)", ["10", "20", "30"]),
        ("width=1,2", ["1", "2"]),
        ("lr=0.3", ["0.3"]),
    ],
)
def test_ranges_mean_what_they_say(text: str, values: list[str]) -> None:
    assert expand(text) == [[f"{text.split('=')[0]}={v}"] for v in values]


def test_ten_range_steps_of_a_tenth_are_ten() -> None:
    assert [x[0] for x in expand("lr=range(0,1,0.1)")][-1] == "lr=0.9"
    assert len(expand("lr=range(0,1,0.1)")) == 10


def test_the_product_keeps_the_order_of_the_command_line() -> None:
    assert expand("a=1,2", "b=x,y") == [["a=1", "b=x"], ["a=1", "b=y"], ["a=2", "b=x"], ["a=2", "b=y"]]


def test_interpolations_and_added_keys_are_composed_by_hydra(tmp_path: Path) -> None:
    done = dd_run("-m", "width=20,30", "seed='${width}'", "epochs=2", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    frame = pd.read_parquet(tmp_path / "results/default/runs")
    assert sorted(zip(frame.width, frame.seed, strict=True)) == [(20, 20), (30, 30)]


Texts = Callable[[int], list[str]]


@pytest.mark.parametrize(
    "texts",
    [
        lambda i: [f"width={i}", "optimizer=min_norm"],
        lambda i: [f"++width={i}", "++seed=3"],
        lambda i: [f"lr={i / 1000}", f"data.label_noise={i / 10_000}"],
        lambda i: [f"width={i}", "seed=${width}"],
        lambda i: [f"width={i}", "results_dir='${oc.env:HOME}/results'", "name='${now:%Y}'"],
    ],
)
def test_jobs_are_composed_by_their_keys_whatever_the_values(texts: Texts, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hydra takes milliseconds to say whether a key is a group, and fifty to compose a job."""
    loader = own_loader()
    found = [texts(i) for i in range(1, 41)]
    calls: Counter[str] = Counter()

    def count(name: str) -> None:
        stock = getattr(loader, name)

        def counted(*args: object, **more: object) -> object:
            calls[name] += 1
            return stock(*args, **more)

        monkeypatch.setattr(loader, name, counted)

    count("get_group_options")
    count("load_sweep_config")
    runs, settings = Composer(load(loader, []), loader).runs(found, [])
    assert calls["load_sweep_config"] <= 1, "what the configuration has already is not composed again"
    assert calls["get_group_options"] <= len(found[0])
    for run, job in ((runs[0], found[0]), (runs[-1], found[-1])):
        config = loader.load_sweep_config(load(loader, []), job)
        with open_dict(config):
            del config["hydra"]
        assert run.run_id == resolve(container_of(config)).run_id, "as Hydra composes it"
        assert settings == Settings.from_dict(container_of(config))


def test_an_added_key_is_hydras_business() -> None:
    with pytest.raises(ConfigError, match="surprise"):
        compose_jobs(["++surprise=1,2"])
    with pytest.raises(ConfigError, match="Could not append"):
        compose_jobs(["+width=1,2"])
    runs, _ = compose_jobs(["width=1,2", "++width=3", "seed=4"])
    assert [run.width for run in runs] == [3, 3], "as with Hydra the later one counts"


def test_job_directories_on_request(tmp_path: Path) -> None:
    done = dd_run(
        "-m", "width=20,30", "optimizer=sgd,adam", "epochs=2", "hydra.output_subdir=.hydra", "hydra.sweep.dir=jobs",
        cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    jobs = tmp_path / "jobs"
    assert {p.name for p in jobs.iterdir()} == {"0", "1", "2", "3", "multirun.yaml"}
    overrides = [(jobs / str(i) / ".hydra/overrides.yaml").read_text() for i in range(4)]
    assert overrides[1] == "- width=20\n- optimizer=adam\n- epochs=2\n"
    assert len(pd.read_parquet(tmp_path / "results/default/runs")) == 4


def test_a_failed_job_ends_as_with_hydras_launcher(tmp_path: Path) -> None:
    log = tmp_path / "callback.json"
    (tmp_path / "callback.py").write_text(
        "import json\nfrom hydra.experimental.callback import Callback\n"
        "class Log(Callback):\n"
        "    def on_job_end(self, config, job_return, **kw):\n"
        f"        with open({str(log)!r}, 'a') as f: f.write(json.dumps(job_return.status.name) + '\\n')\n"
    )
    done = dd_run(
        "-m", "model=two_layer", "model.bias=false", "init=zero,torch", "width=4", "epochs=1",
        "hydra.output_subdir=.hydra", "+hydra.callbacks.log._target_=callback.Log",
        cwd=tmp_path, PYTHONPATH=str(tmp_path),
    )  # fmt: skip
    assert done.returncode == 1
    assert [json.loads(line) for line in log.read_text().splitlines()] == ["FAILED", "COMPLETED"]


def test_stock_launcher_gives_the_same_rows(tmp_path: Path) -> None:
    sweep = ("-m", "width=20,30", "optimizer=sgd,min_norm", "epochs=2")
    assert dd_run(*sweep, "name=packed", cwd=tmp_path).returncode == 0
    stock = dd_run(*sweep, "name=stock", "hydra/launcher=basic", "hydra/sweeper=basic", cwd=tmp_path)
    assert stock.returncode == 0, stock.stderr
    frames = [
        pd.read_parquet(tmp_path / f"results/{name}/runs").sort_values("run_id", ignore_index=True)
        for name in ("packed", "stock")
    ]
    drop = ["name", "seconds", "finished_at"]
    pd.testing.assert_frame_equal(*(f.drop(columns=drop) for f in frames), check_exact=True)


def test_another_launcher_works_and_says_what_packs(tmp_path: Path) -> None:
    done = dd_run("-m", "width=20,30", "optimizer=min_norm", "hydra/launcher=basic", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    line = "dd: hydra/launcher=basic starts each run by itself: no packs, no summary; hydra/launcher=dd, the default,"
    assert done.stderr.count(line) == 1
    assert len(pd.read_parquet(tmp_path / "results/default/runs")) == 2


def test_launcher_needs_no_torch() -> None:
    """Every Hydra command of the environment imports the plugin."""
    import subprocess
    import sys

    code = "import hydra_plugins.dd_plugins, sys; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
    assert issubclass(PackedLauncher, Launcher)
