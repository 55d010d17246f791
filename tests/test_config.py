"""RunConfig: ids, defaults, ranges, and the registries behind them."""

from __future__ import annotations

from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from dd import registry
from dd.config import core_axes, resolve
from dd.errors import ConfigError
from dd.results import runs_schema
from dd.task import conf_dir
from tests.helpers import config, run_of

GROUPS = sorted(registry.ROOMS)
PRESETS = sorted(p.stem for p in (conf_dir() / "experiment").glob("[!_]*.yaml"))
STUDY = ("claim", "two_layer_optimizer")
"""One preset of each kind that comes at two scales."""


@pytest.mark.parametrize(
    ("overrides", "run_id"),
    [
        ((), "198bc9affba7f573daef"),
        (("optimizer=adam", "lr=0.01", "width=510"), "057490be82c7d0870145"),
        (("optimizer=min_norm", "data.label_noise=0.2"), "c6f1069c71eda0fc1798"),
        (("model=two_layer", "init=he", "init.scale=2", "normalization=batch_norm", "seed=3"), "e4d19f94da3edf896173"),
        (("model=linear", "data=linear_teacher", "data.dim=50", "width=20", "optimizer=ridge"), "a110d5c173f94b67267a"),
    ],
)
def test_ids_are_pinned(overrides: tuple[str, ...], run_id: str) -> None:
    """A change here orphans every table that users have: raise ID_VERSION only where numbers changed."""
    assert run_of(*overrides).run_id == run_id


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("lr=1",), ("lr=1.0",)),
        (("lr=0.3",), ("lr=0.30000000000000004",)),
        (("epochs=10",), ("steps=100",)),
        (("batch_size=full",), ("batch_size=500",)),
        (("optimizer=min_norm",), ("optimizer=min_norm", "batch_size=7", "epochs=3", "init=he", "lr=2")),
        (("model.bandwidth=3",), ()),
        (("init=zero",), ("init=zero", "init.scale=10")),
        (("width=7", "seed=1"), ("seed=1", "width=7")),
        (("device=cpu", "name=x", "n_jobs=1"), ()),
    ],
)
def test_one_run_has_one_id_however_it_is_spelt(one: tuple[str, ...], other: tuple[str, ...]) -> None:
    assert run_of(*one) == run_of(*other)
    assert run_of(*one).run_id == run_of(*other).run_id


def test_every_axis_changes_the_id() -> None:
    changed = {
        "width": "width=11", "n_train": "data.n_train=100", "n_test": "data.n_test=100", "seed": "seed=1",
        "label_noise": "data.label_noise=0.1", "label_noise_over": "data.label_noise_over=all",
        "data_seed": "data.seed=1", "standardize": "data.standardize=none", "init": "init=he",
        "init_scale": "init.scale=2", "normalization": "normalization=scale", "optimizer": "optimizer=momentum",
        "lr": "lr=0.1", "lr_unit": "lr_unit=absolute", "batch_size": "batch_size=10", "steps": "steps=7",
        "stop_loss": "stop_loss=0.1", "loss": "loss=cross_entropy", "dtype": "dtype=float64",
        "model": "model=two_layer", "data": "data=mnist1d", "solver": "solver=dual",
        "test_seed": "data.test_seed=1", "targets": "data.targets=linear",
        "data_content": "data.content=0a",
    }  # fmt: skip
    assert changed.keys() == core_axes().keys()
    ids = {run_of(text).run_id for text in changed.values()}
    assert len(ids | {run_of().run_id}) == len(changed) + 1


@pytest.mark.parametrize(
    ("overrides", "key", "allowed"),
    [
        (("width=0",), "width", "an integer >= 1"),
        (("width=2.5",), "width", "an integer >= 1"),
        (("lr=-1",), "lr", "a number > 0"),
        (("lr=.inf",), "lr", "a number > 0"),
        (("lr=null",), "lr", "a number > 0"),
        (("batch_size=600",), "batch_size", "<= data.n_train=500"),
        (("batch_size=half",), "batch_size", "or full"),
        (("data.n_train=5000",), "data.n_train", "<= 797"),
        (("data.n_test=1797",), "data.n_test", "< 1797"),
        (("data=mnist1d", "data.n_test=1001"), "data.n_test", "<= 1000"),
        (("epochs=5", "steps=5"), "epochs", "not both"),
        (("data.label_noise=1.5",), "data.label_noise", "<= 1"),
        (("data=linear_teacher", "data.label_noise=0.1"), "data.label_noise", "data.noise"),
        (("data=linear_teacher", "loss=cross_entropy"), "loss", "use loss=mse"),
        (("optimizer=gd", "batch_size=50"), "batch_size", "batch_size=full"),
        (("optimizer=lbfgs", "batch_size=50"), "batch_size", "batch_size=full"),
        (("optimizer=min_norm", "model=two_layer"), "optimizer", "frozen features"),
        (("optimizer=ridge", "loss=cross_entropy"), "optimizer", "loss=mse"),
        (("normalization=batch_norm", "batch_size=1"), "batch_size", "at least 2 samples"),
        (("normalization=batch_norm", "batch_size=499"), "batch_size", "at least 2 samples"),
        (("model=linear", "data=linear_teacher", "width=31"), "width", "<= 30"),
        (("optimizer=adam", "optimizer.beta1=1"), "optimizer.beta1", "<= 0.999999"),
        (("model.activation=swish",), "model.activation", "relu, tanh, erf, fourier"),
        (("seed=-1",), "seed", ">= 0"),
        (("stop_loss=-1",), "stop_loss", ">= 0"),
        (("dtype=float16",), "dtype", "float32, float64"),
    ],
)
def test_bad_values_name_key_and_range(overrides: tuple[str, ...], key: str, allowed: str) -> None:
    with pytest.raises(ConfigError, match=rf"^{key}=") as caught:
        run_of(*overrides)
    assert allowed in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("group", GROUPS)
def test_components_and_files_match(group: str) -> None:
    files = {p.stem for p in (conf_dir() / group).glob("*.yaml")}
    assert files == set(registry.names(group))


@pytest.mark.parametrize(("group", "name"), [(g, n) for g in GROUPS for n in registry.names(g)])
def test_file_holds_every_option_at_its_default(group: str, name: str) -> None:
    component = registry.get(group, name)
    body = OmegaConf.to_container(OmegaConf.load(conf_dir() / group / f"{name}.yaml"))
    own = body.get(group, body)
    shared = {a.key.split(".")[1] for a in core_axes().values() if a.key.startswith(group + ".")} | {"name"}
    assert own["name"] == name
    assert {k: v for k, v in own.items() if k not in shared} == {a.key: a.default for a in component.options}
    first = (conf_dir() / group / f"{name}.yaml").read_text().splitlines()
    assert any(line.startswith("# ") and "@package" not in line for line in first[:2]), "a comment for --help"


def test_config_file_holds_the_axes_defaults() -> None:
    composed = resolve(config("data.standardize=none", "lr=1", "lr_unit=absolute", "steps=1"))
    for name, axis in core_axes().items():
        if name not in ("lr", "lr_unit", "steps"):
            settled = "iterative" if name == "solver" else axis.default  # auto is settled when a run is resolved
            assert getattr(composed, name) == settled, name


@pytest.mark.parametrize(("preset", "scale"), [(p, None) for p in PRESETS] + [(p, "full") for p in STUDY])
def test_presets_resolve(preset: str, scale: str | None) -> None:
    """The first and last job of every preset is a valid run, and its comment shows the command."""
    path = Path(conf_dir() / "experiment" / f"{preset}.yaml")
    assert f"python -m dd.run -m +experiment={preset}" in path.read_text()
    chosen = [f"+experiment={preset}", *([f"scale={scale}"] if scale else [])]
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        params = compose("config", chosen, return_hydra_config=True).hydra.sweeper.params
        for pick in (0, -1):
            overrides = []
            for key, values in params.items():
                if str(values).startswith("range("):
                    numbers = list(range(*(int(v) for v in str(values)[6:-1].split(","))))
                    overrides.append(f"{key}={numbers[pick]}")
                else:
                    overrides.append(f"{key}={str(values).split(',')[pick]}")
            plain = OmegaConf.to_container(compose("config", [*chosen, *overrides]), resolve=True)
            run = resolve(plain)
            assert run.width >= 1
            assert plain["name"] == preset + ("_full" if scale else "")
            if scale:
                assert run.data == "fashion_mnist"
                assert len(str(params.seed).split(",")) >= 10


def test_schema_has_the_contract_columns() -> None:
    contract = [
        "run_id", "name", "status", "error", "model", "width", "parameters", "data", "n_train", "n_test",
        "label_noise", "data_seed", "init", "init_scale", "normalization", "optimizer", "lr", "lr_unit",
        "lr_absolute", "batch_size", "epochs", "steps", "seed", "dtype", "train_loss", "train_error",
        "test_loss", "test_error", "steps_done", "weight_norm", "gradient_norm", "feature_condition",
        "feature_rank", "feature_sigma_max", "feature_sigma_min", "feature_condition_init",
        "feature_rank_init", "feature_sigma_max_init", "feature_sigma_min_init", "hessian_condition",
        "preconditioned_condition", "device", "torch_version", "git_commit", "seconds", "finished_at",
    ]  # fmt: skip
    assert set(contract) <= set(runs_schema().names)
    assert len(set(runs_schema().names)) == len(runs_schema().names)
