"""Exports of curves and tables, read back with the readers of those who take them.

Covers: analysis/exports.
"""

from __future__ import annotations

import json
import sqlite3
import struct
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import yaml

import dd
from analysis import export
from analysis.exports import huggingface
from analysis.exports.tracks import METRICS, Track, of_curves, of_runs
from analysis.tables import load_curves, load_runs
from dd.errors import ConfigError, DDError
from dd.results.schema import CURVES_SCHEMA, runs_schema
from tests.analysis.synthetic import WIDTHS, runs
from tests.analysis.test_commands import composed

ROOT = Path(__file__).parents[2]
TRACKED = [10, 30, 60, 100]


def needs(package: str) -> pytest.MarkDecorator:
    """Skips a test where a package is absent."""
    return pytest.mark.skipif(find_spec(package) is None, reason=f"{package} is not installed")


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table with logged steps (adam) and without (min_norm)."""
    folder = tmp_path_factory.mktemp("export") / "results"
    dd.sweep(
        width=TRACKED, optimizer=["adam", "min_norm"], epochs=2, data_n_train=60, data_n_test=100, seed=range(3),
        results_dir=folder, n_jobs=1,
    )  # fmt: skip
    return folder


def exported(results: Path, to: str, out: Path, *keys: str) -> str:
    return export.export(*export.parse([to, f"results_dir={results}", f"out={out}", *keys]))


def started(results: Path, to: str, out: Path) -> None:
    """Export by the command, twice."""
    command = [sys.executable, "-m", "analysis.export", to, f"results_dir={results}", f"out={out}"]
    for _ in range(2):
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=300)
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith("2 curves of table default, 24 runs, are in")


def medians(results: Path, optimizer: str, metric: str = "test_loss") -> list[float]:
    rows = load_runs(results, "default")
    return list(rows[rows["optimizer"] == optimizer].groupby("width")[metric].median())


def test_csv_has_the_medians_and_quantiles_that_pandas_finds(results: Path, tmp_path: Path) -> None:
    told = exported(results, "csv", tmp_path)
    path = tmp_path / "default.csv"
    assert told.endswith(f"next: pandas.read_csv('{path}')")
    found = pd.read_csv(path).set_index(["optimizer", "width"]).sort_index()
    rows = load_runs(results, "default")
    groups = rows.groupby(["optimizer", "width"])
    assert list(found.index) == sorted(groups.groups)
    for metric in METRICS:
        if rows[metric].isna().all():
            assert f"{metric}_median" not in found
            continue
        for column, share in (("median", 0.5), ("q10", 0.1), ("q90", 0.9)):
            expected = groups[metric].quantile(share)
            np.testing.assert_allclose(found[f"{metric}_{column}"], expected.sort_index(), rtol=1e-9, err_msg=metric)
    assert set(found["runs"]) == {3}
    assert set(found["diverged"]) == {0}
    assert set(found["n_train"]) == {60}
    before = path.read_bytes()
    exported(results, "csv", path)
    assert path.read_bytes() == before


def test_runs_that_diverged_are_counted_and_left_out_of_medians() -> None:
    rows = runs(seeds=3)
    worst = (rows["width"] == 50) & (rows["seed"] > 0)
    rows.loc[worst, ["status", "test_loss"]] = ["diverged", 1e9]
    rows.loc[rows["width"] == 200, "status"] = "failed"
    (track,) = of_curves(rows, "t", "width")
    assert list(track.points["runs"]) == [3, 3, 1, 3, 0]
    assert list(track.points["diverged"]) == [0, 0, 2, 0, 0]
    alone = rows[(rows["width"] == 50) & ~worst]["test_loss"].item()
    assert track.points.loc[50, ["test_loss/median", "test_loss/q10", "test_loss/q90"]].tolist() == [alone] * 3
    assert dict(track.logged())[200] == {"runs": 0, "diverged": 0}, "no number stands for runs that are not there"


def test_ids_stay_when_the_table_grows() -> None:
    rows = runs(seeds=3, optimizer=["gd", "adam"], steps=[10, 1000])
    rows["optimizer_beta1"] = np.where(rows["optimizer"] == "adam", 0.9, np.nan)
    rows["solver"] = np.where(rows["width"] > 60, "dual", "exact")
    every = {(t.settings["optimizer"], t.settings["steps"]): t.id for t in of_curves(rows, "t", "width")}
    assert len(set(every.values())) == 4
    one = (rows["optimizer"] == "gd") & (rows["steps"] == 10)
    some = rows[one & (rows["width"] < 60) & (rows["seed"] == 0)].drop(columns="optimizer_beta1")
    (alone,) = of_curves(some.assign(batch_size=some["batch_size"].astype(float)), "t", "width")
    assert alone.id == every["gd", 10]
    assert alone.name == "t", "nothing tells it from others"
    assert of_curves(some, "u", "width")[0].id != alone.id
    assert of_curves(some.assign(lr=0.25), "t", "width")[0].id != alone.id


def test_names_of_curves_differ() -> None:
    tracks = of_curves(runs(lr=[0.10001, 0.10002]), "t", "width")
    assert [track.name for track in tracks] == ["lr 0.10001", "lr 0.10002"]


def test_settings_are_plain_and_without_nulls() -> None:
    (track,) = of_curves(runs().assign(model_bias=np.bool_(True)), "t", "width")
    assert track.settings["model_bias"] is True
    assert track.settings["n_train"] == 50
    assert isinstance(track.settings["n_train"], int)
    assert "stop_loss" not in track.settings
    assert json.loads(json.dumps(track.settings)) == track.settings


def test_runs_have_their_logged_steps_and_closed_forms_one(results: Path) -> None:
    rows, logged = load_runs(results, "default"), load_curves(results, "default")
    tracks = {track.id: track for track in of_runs(rows, logged, "default")}
    assert set(tracks) == set(rows["run_id"])
    for row in rows.to_dict("records"):
        track = tracks[row["run_id"]]
        own = logged[logged["run_id"] == row["run_id"]].set_index("step").sort_index()
        if row["optimizer"] == "min_norm":
            assert own.empty
            assert list(track.points.index) == [0]
        else:
            assert list(track.points.index) == list(own.index)
            assert list(track.points["test_loss"])[:-1] == list(own["test_loss"])[:-1]
        last = track.points.iloc[-1]
        assert last["test_loss"] == row["test_loss"]
        assert last["feature_condition"] == row["feature_condition"]
        assert track.name == f"{row['optimizer'].replace('_', ' ')}, width {row['width']}, seed {row['seed']}"
        assert track.settings["status"] == "ok"


def test_csv_takes_an_axis_of_any_numbers_and_trackers_take_whole_ones(results: Path) -> None:
    rows = runs(optimizer_penalty=[0.01, 0.1, 1.0])
    found = export.tracks(rows, "t", "optimizer_penalty", "csv")
    assert len(found) == len(WIDTHS)
    assert list(found[0].points.index) == [0.01, 0.1, 1.0]
    with pytest.raises(ConfigError, match=r"^x=optimizer_penalty .*whole numbers; export csv takes any$"):
        export.tracks(rows, "t", "optimizer_penalty", "tensorboard")
    with pytest.raises(ConfigError, match=r"^x=optimizer .*must be an axis of numbers, in table t: width, "):
        export.tracks(rows, "t", "optimizer", "csv")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["excel"], "format=excel .*must be one of tensorboard, wandb, mlflow, trackio, csv, huggingface"),
        (["csv", "unit=seed"], "unit=seed .*must be one of curve, run"),
        (["csv", "names=t"], "names=t .*takes name=..., unit=..., "),
        (["csv", "name"], "name=null .*each with a value"),
        (["csv", "license=mit"], "license=mit .*does not go with csv"),
        (["huggingface", "unit=run"], "unit=run .*does not go with huggingface"),
        (["csv", "unit=run", "x=width"], "x=width .*unit=curve only"),
        (["csv", "name=absent"], "name=absent .*no such table in .*; there are: default"),
    ],
)
def test_bad_input_is_one_line(arguments: list[str], said: str, results: Path) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        export.export(*export.parse([*arguments, f"results_dir={results}"]))
    assert len(str(caught.value).splitlines()) == 1


def test_an_absent_package_is_named_with_its_extra(
    results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "wandb").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(export, "FORMATS", {"wandb": export.Format(export.csv.write, ("nothing_of_this_name",))})
    with pytest.raises(DDError, match=r"needs the package nothing_of_this_name.*pip install 'dd-lab\[wandb\]'$"):
        exported(results, "wandb", tmp_path)
    monkeypatch.setattr(export, "find_spec", lambda _: type("Folder", (), {"origin": None}))
    with pytest.raises(DDError, match="is not installed"):
        exported(results, "wandb", tmp_path)


def test_too_many_runs_are_refused_before_anything_is_written(
    results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "MOST", 23)
    monkeypatch.setattr(export, "find_spec", lambda _: type("Installed", (), {"origin": "somewhere"}))
    with pytest.raises(ConfigError, match=r"unit=run .*has 24 runs, at most 23; unit=curve joins widths and seeds$"):
        exported(results, "tensorboard", tmp_path, "unit=run")
    assert not list(tmp_path.iterdir())
    exported(results, "csv", tmp_path, "unit=run")
    assert pd.read_csv(tmp_path / "default.csv")["id"].nunique() == 24


@needs("tensorboard")
@pytest.mark.filterwarnings("ignore")
def test_tensorboard_reads_one_run_a_curve(results: Path, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for _ in range(2):
        exported(results, "tensorboard", tmp_path)
    folders = sorted((tmp_path / "default").iterdir())
    assert [folder.name.split("~")[0] for folder in folders] == ["adam", "min_norm"]
    for folder in folders:
        reader = EventAccumulator(str(folder))
        reader.Reload()
        events = reader.Scalars("test_loss/median")
        assert [event.step for event in events] == TRACKED
        expected = medians(results, folder.name.split("~")[0])
        assert [event.value for event in events] == pytest.approx(expected, rel=1e-6)
        assert "custom_scalars__config__" in reader.Tags()["tensors"]
        assert b"n_train: 60" in reader.Tensors("settings/text_summary")[0].tensor_proto.string_val[0]


@needs("tensorboard")
def test_a_curve_with_another_name_replaces_itself(tmp_path: Path) -> None:
    points = pd.DataFrame({"test_loss/median": [1.0]}, index=[10])
    for name in ("t", "adam"):
        export.tensorboard.write("t", [Track("0123456789ab", name, {}, "width", points)], tmp_path)
    assert [folder.name for folder in (tmp_path / "t").iterdir()] == ["adam~0123456789ab"]


def records(path: Path) -> Iterator[bytes]:
    """Records of a file of wandb's: LevelDB's log format after a head of seven bytes."""
    data, at, whole = path.read_bytes(), 7, b""
    while at + 7 <= len(data):
        if (room := 32768 - at % 32768) < 7:
            at += room
            continue
        _, size, kind = struct.unpack_from("<IHB", data, at)
        whole, at = whole + data[at + 7 : at + 7 + size], at + 7 + size
        if kind in (1, 4):
            yield whole
            whole = b""


@needs("wandb")
@pytest.mark.filterwarnings("ignore")
def test_wandb_has_one_offline_run_a_curve(results: Path, tmp_path: Path) -> None:
    from wandb.proto import wandb_internal_pb2

    started(results, "wandb", tmp_path)
    files = list((tmp_path / "wandb").glob("offline-run-*/*.wandb"))
    assert len(files) == 2
    for file in files:
        found = [wandb_internal_pb2.Record.FromString(record) for record in records(file)]
        (run,) = [r.run for r in found if r.WhichOneof("record_type") == "run"]
        assert file.parent.name.endswith(run.run_id)
        assert run.run_group == "default"
        config = {c.key: json.loads(c.value_json) for c in run.config.update}
        history = [
            {"/".join(item.nested_key) or item.key: json.loads(item.value_json) for item in r.history.item}
            for r in found if r.WhichOneof("record_type") == "history"
        ]  # fmt: skip
        assert [values["width"] for values in history] == TRACKED
        assert [values["_step"] for values in history] == TRACKED
        expected = medians(results, config["optimizer"])
        assert [values["test_loss/median"] for values in history] == pytest.approx(expected)


@needs("mlflow")
@needs("sqlalchemy")
@pytest.mark.filterwarnings("ignore")
def test_mlflow_has_one_run_a_curve(results: Path, tmp_path: Path) -> None:
    from mlflow import MlflowClient
    from mlflow.entities import ViewType

    started(results, "mlflow", tmp_path)
    client = MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("default").experiment_id
    found = client.search_runs([experiment], run_view_type=ViewType.ALL)
    assert {run.info.run_name for run in found} == {"adam", "min norm"}
    assert len(found) == 2
    for run in found:
        history = client.get_metric_history(run.info.run_id, "test_loss/median")
        assert [metric.step for metric in history] == TRACKED
        expected = medians(results, run.data.params["optimizer"])
        assert [metric.value for metric in history] == pytest.approx(expected)
        assert run.info.status == "FINISHED"


@needs("trackio")
def test_trackio_has_one_run_a_curve(results: Path, tmp_path: Path) -> None:
    started(results, "trackio", tmp_path)
    with sqlite3.connect(tmp_path / "dd.db") as database:
        settings = database.execute("select run_id, config from configs").fetchall()
        assert len(settings) == 2
        for run_id, config in settings:
            logged = database.execute(
                "select step, metrics from metrics where run_id = ? order by step", (run_id,)
            ).fetchall()
            assert [step for step, _ in logged] == TRACKED
            expected = medians(results, json.loads(config)["optimizer"])
            assert [json.loads(metrics)["test_loss/median"] for _, metrics in logged] == pytest.approx(expected)
        assert database.execute("select count(*) from metrics").fetchone() == (8,)


def card_of(folder: Path) -> tuple[dict[str, object], str]:
    """YAML and text of a card."""
    _, front, body = (folder / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    return yaml.safe_load(front), body


def test_a_data_set_has_the_parts_of_the_table_and_a_card(results: Path, tmp_path: Path) -> None:
    out = tmp_path / "set"
    for _ in range(2):
        exported(results, "huggingface", out, "license=cc-by-4.0")
    for kind in ("runs", "curves"):
        originals = sorted((results / "default" / kind).glob("*.parquet"))
        copies = sorted((out / "data" / kind).glob("*.parquet"))
        assert [part.read_bytes() for part in copies] == [part.read_bytes() for part in originals]
    assert len(load_runs(out, "data")) == 24, "the folder is a table of dd again"
    front, body = card_of(out)
    assert front["license"] == "cc-by-4.0"
    assert front["size_categories"] == ["n<1K"]
    assert [c["config_name"] for c in front["configs"]] == ["runs", "curves"]  # type: ignore[attr-defined]
    for config, info in zip(front["configs"], front["dataset_info"], strict=True):  # type: ignore[call-overload]
        (split,) = config["data_files"]
        schemas = [pq.read_schema(part) for part in out.glob(split["path"])]
        assert [feature["name"] for feature in info["features"]] == schemas[0].names
    assert "| runs | 24 |" in body
    assert "Runs by status: 24 ok." in body
    assert "| `width` | 10, 30, 60, 100 |" in body
    assert "| `optimizer` | `adam`, `min_norm` |" in body
    assert "`epochs` | float64 | the budget in passes over the training set" in body
    assert "`validation_loss`" not in body, "it is null in all rows"


def test_a_card_names_the_command_of_a_known_experiment(results: Path, tmp_path: Path) -> None:
    named = tmp_path / "results" / "label_noise"
    named.parent.mkdir()
    (results / "default").rename(named)
    try:
        exported(named.parent, "huggingface", tmp_path / "set", "name=label_noise")
    finally:
        named.rename(results / "default")
    front, body = card_of(tmp_path / "set")
    assert "    python -m dd.run -m +experiment=label_noise\n" in body
    assert "license" not in front


def test_a_card_has_commands_that_make_the_runs_of_a_table_of_ones_own(results: Path, tmp_path: Path) -> None:
    exported(results, "huggingface", tmp_path / "set")
    _, body = card_of(tmp_path / "set")
    lines = [line.strip() for line in body.splitlines() if line.startswith("    python -m dd.run")]
    assert all(line.endswith(" name=default") for line in lines)
    assert set.union(*map(composed, lines)) == set(load_runs(results, "default")["run_id"])


def test_a_card_says_how_many_commands_it_leaves_out(
    results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("analysis.commands.MOST", 1)
    exported(results, "huggingface", tmp_path / "set")
    _, body = card_of(tmp_path / "set")
    assert body.count("    python -m dd.run") == 1
    assert "These are 1 of 2 commands." in body


def test_a_data_set_replaces_only_a_data_set(results: Path, tmp_path: Path) -> None:
    exported(results, "huggingface", tmp_path / "set")
    (tmp_path / "set/data/runs/of_a_former_export.parquet").write_bytes(b"")
    exported(results, "huggingface", tmp_path / "set")
    assert not (tmp_path / "set/data/runs/of_a_former_export.parquet").exists()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/README.md").write_text("mine")
    with pytest.raises(ConfigError, match=r"^out=.*mine .*must be empty, or a data set that was exported before$"):
        exported(results, "huggingface", tmp_path / "mine")
    assert (tmp_path / "mine/README.md").read_text() == "mine"


def test_every_column_has_a_meaning() -> None:
    meant = huggingface.meanings()
    assert not [column for column in (*runs_schema().names, *CURVES_SCHEMA.names) if not meant.get(column)]
    assert meant["run_id"].startswith("hash of the resolved axes alone")
    assert meant["width"] == "random features, hidden units, or input features"
    assert not [text for text in meant.values() if "](" in text], "links lead nowhere in a card"


def test_the_citation_is_that_of_the_project() -> None:
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert cited["title"] == huggingface.TITLE
    assert [author["name"] for author in cited["authors"]] == ["The dd authors"]
    assert "The dd authors" in huggingface.CITATION


@pytest.fixture
def mixed(results: Path, tmp_path: Path) -> Path:
    """A data set whose second part comes from an older dd, which lacked a column and wrote whole numbers."""
    out = tmp_path / "set"
    exported(results, "huggingface", out)
    (part,) = (out / "data/runs").glob("*.parquet")
    older = pq.read_table(part).drop_columns(["dead_units"])
    place = older.column_names.index("lr")
    older = older.set_column(place, "lr", older["lr"].fill_null(1).cast("int64", safe=False))
    pq.write_table(older, out / "data/runs/older.parquet")
    (out / "data").rename(tmp_path / "mixed")
    exported(tmp_path, "huggingface", out, "name=mixed")
    return out


def test_parts_of_an_older_dd_get_the_columns_of_all(mixed: Path) -> None:
    front, _ = card_of(mixed)
    features = {f["name"]: f["dtype"] for f in front["dataset_info"][0]["features"]}  # type: ignore[index]
    assert features["dead_units"] == "int64"
    assert features["lr"] == "float64"


@needs("datasets")
@pytest.mark.filterwarnings("ignore")
def test_datasets_loads_it(mixed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    import datasets

    loaded = datasets.load_dataset(str(mixed), "runs", split="train", cache_dir=str(tmp_path / "cache"))
    assert loaded.num_rows == 48
    assert loaded.to_pandas()["dead_units"].isna().sum() >= 24
    curves = datasets.load_dataset(str(mixed), "curves", split="train", cache_dir=str(tmp_path / "cache"))
    assert set(curves.column_names) == set(CURVES_SCHEMA.names)
