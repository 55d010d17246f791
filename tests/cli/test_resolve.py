"""From a composed configuration to a run: dd.cli.resolve and dd.cli.conf; every preset is a valid sweep.

Covers: dd/cli/conf.py.
"""

from __future__ import annotations

import pytest

from dd.cli.conf import conf_dir
from dd.cli.jobs import Composer
from dd.cli.loading import load, own_loader
from dd.cli.resolve import resolve
from dd.errors import ConfigError
from dd.runs.run import core_axes
from tests.helpers import composed, run_of

PRESETS = sorted(p.stem for p in (conf_dir() / "experiment").glob("[!_]*.yaml"))
STUDY = ("claim", "two_layer_optimizer")
"""One preset of each kind that comes at two scales."""


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
        (("validation=1.5",), "validation", "<= 1"),
        (("validation=-0.1",), "validation", ">= 0"),
        (("validation=1",), "validation", "some left to train on"),
        (("validation=0.0001",), "validation", "holds out 0 of data.n_train=500"),
        (("validation=0.1", "data.n_validation=5"), "validation", "not both"),
        (("validation=0.1", "optimizer=ridge"), "validation", "takes no steps"),
        (("data.n_validation=5", "optimizer=min_norm"), "data.n_validation", "takes no steps"),
        (("data.n_validation=400",), "data.n_train", "<= 797"),
        (("validation=0.1", "optimizer=gd", "solver=exact"), "solver", "validation=0.1 looks at the losses of steps"),
        (("validation=0.1", "optimizer=gradient_flow"), "validation", "which only iteration takes"),
        (("validation=0.1", "batch_size=500"), "batch_size", "<= data.n_train=450"),
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


def test_validation_is_a_share_of_the_training_samples() -> None:
    share, number = run_of("validation=0.1", "data.n_train=200"), run_of("data.n_validation=20", "data.n_train=180")
    assert share == number
    assert (share.n_train, share.n_validation, share.n_drawn, share.validation) == (180, 20, 200, 0.1)
    assert run_of("validation=0.1", "batch_size=full").batch_size == 450
    assert run_of("validation=0") == run_of()
    assert run_of("data.n_train=all", "validation=0.2").n_drawn == 797
    assert run_of("data.n_train=all", "data.n_validation=100").n_drawn == 797


def test_what_has_a_shorter_way_is_iterated_where_samples_are_held_out() -> None:
    line = ("optimizer=gd", "batch_size=full")
    assert run_of(*line).solver == "exact"
    assert run_of(*line, "validation=0.1").solver in ("dual", "iterative")


def test_config_file_holds_the_axes_defaults() -> None:
    run = resolve(composed("data.standardize=none", "lr=1", "lr_unit=absolute", "steps=1"))
    for name, axis in core_axes().items():
        if name not in ("lr", "lr_unit", "steps"):
            settled = "iterative" if name == "solver" else axis.default  # auto is settled when a run is resolved
            assert run.values[name] == settled, name


@pytest.mark.parametrize(("preset", "scale"), [(p, None) for p in PRESETS] + [(p, "full") for p in STUDY])
def test_presets_resolve(preset: str, scale: str | None) -> None:
    """The first and last job of every preset is a valid run, and its comment shows the command."""
    path = conf_dir() / "experiment" / f"{preset}.yaml"
    assert f"python -m dd.run -m +experiment={preset}" in path.read_text()
    chosen = [f"+experiment={preset}", *([f"scale={scale}"] if scale else [])]
    loader = own_loader()
    config = load(loader, chosen)
    params = config.hydra.sweeper.params
    jobs = []
    for pick in (0, -1):
        overrides = [*chosen]
        for key, values in params.items():
            if str(values).startswith("range("):
                numbers = list(range(*(int(v) for v in str(values)[6:-1].split(","))))
                overrides.append(f"{key}={numbers[pick]}")
            else:
                overrides.append(f"{key}={str(values).split(',')[pick]}")
        jobs.append(overrides)
    runs, settings = Composer(config, loader).runs(jobs, [])
    assert len(runs) == 2
    assert all(run.width >= 1 for run in runs)
    assert settings is not None
    assert settings.name == preset + ("_full" if scale else "")
    if scale:
        assert {run.data.name for run in runs} == {"fashion_mnist"}
        assert len(str(params.seed).split(",")) >= 10


def test_runs_with_the_same_options_share_a_component() -> None:
    one, other = run_of("optimizer=adam", "width=3"), run_of("optimizer=adam", "width=4", "lr=0.1")
    assert one.optimizer is other.optimizer
    assert one.optimizer is not run_of("optimizer=adam", "optimizer.beta1=0.5").optimizer
