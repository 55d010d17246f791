"""The model family rmt: training against a plain torch loop, stacks, ensembles, measurements, bad input."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import dd
from dd.errors import ConfigError
from dd.measure.conditioning import Measure, ntk_samples
from dd.measure.curvature import largest
from dd.measure.jacobian import Jacobian
from dd.models.rmt.backbone import RMT
from dd.network import Network
from dd.packs.place import measure_of
from dd.packs.plan import Pack, plan
from dd.packs.solve import Solved, solve
from dd.problems.problem import load
from dd.runs.run import Run
from dd.runs.settings import Settings
from dd.trainers.batches import batch_orders
from dd.trainers.compiled import Compiled
from dd.trainers.course import train
from dd.trainers.stack import Stack
from tests.helpers import network_of, row_of, run_of, solve_rows
from tests.training import assert_close, task_of

pytestmark = pytest.mark.rounding

SMALL = (
    "model=rmt", "width=4", "data.n_train=24", "data.n_test=10", "data.standardize=global", "batch_size=8", "epochs=2",
    "optimizer=adam", "lr=0.003",
)  # fmt: skip


def small(*overrides: str) -> Run:
    return run_of(*SMALL, *overrides)


def module_of(network: Network) -> RMT:
    """The same network as a plain module, from the flat parameters."""
    run = network.run
    module = RMT(run.model.architecture(run)).to(network.dtype)
    named = {k: v[0] for k, v in network.named(network.theta).named.items()}
    readout = named.pop("readout")
    own = dict(module.named_parameters())
    with torch.no_grad():
        for name, value in (named | {"head.weight": readout[:, :-1], "head.bias": readout[:, -1]}).items():
            own.pop(name).copy_(value.reshape(module.get_parameter(name).shape))
    assert not own, "every parameter is trained"
    return module


def test_released_norms_are_the_default_and_can_be_changed() -> None:
    assert small().normalization.name == "batch_norm"
    assert small("normalization=none").normalization.name == "none"
    assert small("normalization=layer_norm").normalization.trains


@pytest.mark.parametrize(
    ("data", "depths", "patch"),
    [("digits", "1-1", 1), ("mnist", "1-1-1", 2), ("fashion_mnist", "1-1-1", 2), ("cifar10", "2-2-2-2", 2)],
)
def test_auto_takes_depths_and_patch_from_the_images(data: str, depths: str, patch: int) -> None:
    run = run_of("model=rmt", f"data={data}", "width=8")
    assert run.model.values() == {"depths": depths, "patch": patch, "attention": "released", "rotary": True}
    assert run.run_id == run_of("model=rmt", f"data={data}", "width=8", f"model.depths={depths}").run_id


def test_the_interpolation_width_has_as_many_parameters_as_labels() -> None:
    run = run_of("model=rmt", "width=2", "data.n_train=514", "batch_size=full")
    model = run.model
    assert model.parameter_count(run.replace(width=6)) == 5146
    assert model.interpolation_width(run, 64, 10) == pytest.approx(6, abs=0.01)
    assert model.interpolation_width(run.replace(n_train=1), 64, 10) == pytest.approx(0, abs=1e-9), "only the biases"


def test_the_laws_of_the_initial_weights() -> None:
    model = small().model
    for init, scale in (("default", 0.02), ("fixed", 0.02), ("fan_in", 64**-0.5)):
        drawn = model.init([run_of("model=rmt", "width=64", f"init={init}", "init.scale=2")], 64, 10)
        q = drawn["layers.0.blocks.0.retention.q_proj.weight"]
        assert float(q.std()) == pytest.approx(2 * scale, rel=0.05)
        conv = drawn["layers.0.downsample.reduction.weight"]
        bound = (9 * 64) ** -0.5
        assert float(conv.abs().max()) == pytest.approx(bound, rel=0.01), "convolutions keep torch's law"
        assert float(conv.std()) == pytest.approx(bound / 3**0.5, rel=0.02)
        assert float(drawn["norm.weight"].min()) == float(drawn["norm.weight"].max()) == 1
    assert float(drawn["layers.0.downsample.reduction.bias"].abs().max()) > 0
    assert float(drawn["readout"][0, :, -1].abs().max()) == 0


@pytest.mark.parametrize("normalization", ["batch_norm", "layer_norm", "none"])
@pytest.mark.parametrize("loss", ["mse", "cross_entropy"])
def test_training_equals_a_plain_torch_loop(normalization: str, loss: str) -> None:
    run = small(f"normalization={normalization}", f"loss={loss}", "dtype=float64", "width=6", "data.n_train=20")
    network = network_of(run)
    module = module_of(network).train()
    optimizer = torch.optim.Adam(module.parameters(), lr=0.003)
    problem = load(run, Settings())
    images = problem.train_x.view(-1, 1, 8, 8)
    orders = batch_orders(run)
    for _ in range(2):
        order = torch.from_numpy(next(orders))
        for index in order.split(8):
            optimizer.zero_grad()
            out = module(images[index])
            wanted = problem.train_y[index]
            total = (
                nn.functional.mse_loss(out, wanted)
                if loss == "mse"
                else nn.functional.cross_entropy(out, wanted.argmax(1))
            )
            total.backward()
            optimizer.step()
    row = row_of(*SMALL, f"normalization={normalization}", f"loss={loss}", "dtype=float64", "width=6",
                 "data.n_train=20")  # fmt: skip
    module.eval()
    with torch.no_grad():
        out = module(problem.test_x.view(-1, 1, 8, 8))
        features = module.train(normalization == "batch_norm").forward_features(images)
    value = (
        nn.functional.mse_loss(out, problem.test_y)
        if loss == "mse"
        else nn.functional.cross_entropy(out, problem.test_y.argmax(1))
    )
    assert row["test_loss"] == pytest.approx(float(value), rel=1e-8)
    assert row["test_error"] == float((out.argmax(1) != problem.test_y.argmax(1)).double().mean())
    singular = torch.linalg.svdvals(torch.cat([features, torch.ones(20, 1, dtype=torch.float64)], dim=1))
    assert row["feature_sigma_max"] == pytest.approx(float(singular[0]), rel=1e-6)
    assert row["steps_done"] == 6
    assert row["parameters"] == 5146 - (0 if normalization != "none" else 2 * (3 + 3 + 6 + 6 + 12 + 24) + 4 * (6 + 12))


def test_the_gradient_norm_is_that_of_the_mean_over_batches() -> None:
    row = row_of(*SMALL, "epochs=0", "dtype=float64")
    network = network_of(small())
    module = module_of(network).train()
    problem = network.problem
    for start in range(0, 24, 8):
        part = slice(start, start + 8)
        out = module(problem.train_x[part].view(-1, 1, 8, 8))
        (nn.functional.mse_loss(out, problem.train_y[part]) / 3).backward()
    norm = torch.cat([p.grad.flatten() for p in module.parameters()]).norm()
    assert row["gradient_norm"] == pytest.approx(float(norm), rel=1e-9)


MIXED = (
    ("seed=0", "lr=0.003"),
    ("seed=1", "lr=0.001"),
    ("seed=1", "lr=0.003", "init=fan_in"),
    ("seed=2", "lr=0.005", "data.seed=3"),
    ("seed=0", "lr=0.001", "init.scale=2", "optimizer.beta1=0.8"),
)


@pytest.mark.parametrize("optimizer", ["adam", "muon", "momentum lr_unit=absolute"])
def test_a_stack_of_seeds_and_training_sets_equals_its_runs_alone(optimizer: str) -> None:
    own = [[o for o in line if "beta1" not in o or optimizer == "adam"] for line in MIXED]
    runs = [small("dtype=float64", *f"optimizer={optimizer}".split(), *line) for line in own]
    gpu = torch.device("cuda")
    assert len({Stack.group_key(run, gpu) for run in runs}) == 1, "one program for all"
    assert len({Stack.group_key(run, torch.device("cpu")) for run in runs}) == 5, "on a CPU every run is alone"
    for run, got in zip(runs, train(Stack([task_of(run) for run in runs])), strict=True):
        assert_close(got, train(Stack([task_of(run)]))[0], rel=1e-7, scale=1e-9)


def test_a_run_that_diverges_leaves_a_stack_without_disturbing_it() -> None:
    runs = [small("dtype=float64", "normalization=none", "optimizer=sgd", f"lr={lr}", "lr_unit=absolute", "epochs=6")
            for lr in (0.05, 1e12, 0.1)]  # fmt: skip
    got = train(Stack([task_of(run) for run in runs]))
    assert [solution.status for solution in got] == ["ok", "diverged", "ok"]
    for i in (0, 2):
        assert_close(got[i], train(Stack([task_of(runs[i])]))[0], rel=1e-7, scale=1e-9)


def test_bfloat16_stays_near_float32() -> None:
    exact, rounded = (
        row_of(*SMALL, f"dtype={dtype}", "data.n_train=100", "epochs=3") for dtype in ("float32", "bfloat16")
    )
    assert rounded["dtype"] == "bfloat16"
    assert rounded["train_loss"] != exact["train_loss"]
    assert rounded["train_loss"] == pytest.approx(exact["train_loss"], rel=0.02)
    with pytest.raises(ConfigError, match=r"must be float32 or float64 for model=two_layer"):
        run_of("model=two_layer", "dtype=bfloat16")


def test_the_tangent_kernel_is_that_of_the_first_samples_with_fixed_statistics() -> None:
    run = small("width=2", "data.n_train=110", "data.n_test=5")
    network = network_of(run)
    theta = network.theta[0]
    assert ntk_samples(run) == 100
    statistics = network.statistics(theta)
    module = module_of(network).train()
    for norm in module.modules():
        if hasattr(norm, "momentum"):
            norm.momentum = 1.0
    images = network.problem.train_x.view(-1, 1, 8, 8)
    module(images)
    for name, value in statistics.items():
        assert torch.allclose(value.flatten(), module.get_buffer(name), rtol=1e-10, atol=1e-12)
    jacobian = Jacobian(network, theta, statistics, samples=3)
    module.eval()
    parameters = list(module.parameters())
    rows = []
    for image in images[:3]:
        for out in module(image[None])[0]:
            grads = torch.autograd.grad(out, parameters, retain_graph=True)
            by_name = {n: g for (n, _), g in zip(module.named_parameters(), grads, strict=True)}
            head = torch.cat([by_name.pop("head.weight"), by_name.pop("head.bias")[:, None]], dim=1)
            rows.append(torch.cat([g.flatten() for g in by_name.values()] + [head.flatten()]))
    assert torch.allclose(jacobian.dense(), torch.stack(rows), rtol=1e-8, atol=1e-12)


def test_the_largest_eigenvalue_is_that_of_the_dense_gauss_newton_matrix() -> None:
    run = small("width=2", "data.n_train=6", "data.n_test=5", "batch_size=full", "model.depths=1")
    network = network_of(run)
    theta = network.theta[0]
    module = module_of(network).train()
    images = network.problem.train_x.view(-1, 1, 8, 8)
    rows = [torch.autograd.grad(out, list(module.parameters()), retain_graph=True) for out in module(images).flatten()]
    dense = torch.stack([torch.cat([g.flatten() for g in row]) for row in rows])
    wanted = 2 / 60 * float(torch.linalg.matrix_norm(dense, 2)) ** 2
    assert largest(Jacobian(network, theta, network.buffers)) == pytest.approx(wanted, rel=1e-3)
    assert measure_of(Settings(measure_name="full")) == Measure("full", 500_000_000)
    settings = ("measure=full", *SMALL, "width=2", "data.n_train=6", "data.n_test=5", "batch_size=full", "epochs=0",
                "model.depths=1")  # fmt: skip
    solved = Solved()
    solve(Pack((run_of(*settings[1:]),)), Settings(device="cpu", measure_name="full"), solved)
    row = solved.rows[0]
    assert row["status"] == "ok", row["error"]
    assert row["hessian_lambda_max"] == pytest.approx(wanted, rel=1e-3)
    assert row["measure_method"] == "lanczos_top"
    assert row["ntk_condition"] > 1
    assert row["ntk_rank"] <= 60
    assert np.isfinite(row["ntk_condition_init"])


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("width=7",), "width=7.*must be even and >= 2"),
        (("data=mnist1d",), "data=.?mnist1d.*needs images: use one of cifar10, digits"),
        (("model.depths=1-1-1-1-1",), "model.depths.*one to four stages"),
        (("model.depths=one",), "model.depths.*one to four stages"),
        (("model.depths=1-1-1-1", "model.patch=4"), "stage 3 would halve a map of one pixel"),
        (("model.patch=3",), "model.patch=3.*must be 1, 2 or 4"),
        (("normalization=scale",), "normalization=.?scale.*normalises inside.*batch_norm"),
        (("init=zero",), "init=.?zero.*pass no gradient"),
        (("init.scale=0",), r"init\.scale=0.*pass no gradient"),
        (("model.depths=1-1-1-1", "batch_size=1"), "batch_size=1.*no variance of one sample"),
        (("optimizer=min_norm",), "optimizer=.?min_norm"),
        (("solver=exact",), "solver=.?exact.*trains its features"),
    ],
)
def test_bad_input_is_one_line(overrides: tuple[str, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        run_of("model=rmt", "width=8", *overrides)
    assert "\n" not in str(caught.value)


def test_shorter_budgets_stop_on_the_way_with_the_numbers_of_the_run_alone() -> None:
    runs = [small(f"epochs={epochs}", f"lr={lr}") for lr in (0.003, 0.01) for epochs in (1, 4, 2)]
    packs = plan(runs)
    assert len(packs) == 1
    assert packs[0].seconds < 0.75 * sum(plan([run])[0].seconds for run in runs)
    rows = {row["run_id"]: row for row in solve_rows(*runs)}
    for run in runs:
        alone = solve_rows(run)[0]
        mine = rows[run.run_id]
        assert {k: v for k, v in alone.items() if k != "seconds"} == {k: v for k, v in mine.items() if k != "seconds"}
        assert mine["steps_done"] == run.steps


@pytest.mark.parametrize("steps", [(1, 12, 40), (5, 7, 40)])
def test_a_diverged_run_of_any_budget_tells_what_it_would_alone(steps: tuple[int, ...]) -> None:
    runs = [small("epochs=null", f"steps={n}", "normalization=none", "optimizer=sgd", "lr=1e3", "lr_unit=absolute")
            for n in steps]  # fmt: skip
    rows = {row["run_id"]: row for row in solve_rows(*runs)}
    assert rows[runs[-1].run_id]["status"] == "diverged"
    for run in runs:
        alone = solve_rows(run)[0]
        assert {k: v for k, v in alone.items() if k != "seconds"} == {
            k: v for k, v in rows[run.run_id].items() if k != "seconds"
        }


def test_images_from_python_are_trained_on() -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(30, 3, 16, 16, generator=generator)
    classes = torch.randint(0, 4, (30,), generator=generator)
    line = ("model=rmt", "width=4", "optimizer=adam", "lr=0.003", "epochs=30", "batch_size=10", "normalization=none")
    got = dd.train(images, classes, *line)[0]
    assert got.run.data.image == (3, 16, 16)
    assert got(images).shape == (30, 4)
    assert torch.equal(got(images), got(images.flatten(1)))
    assert got.curve[-1].train_loss < 0.9 * got.curve[0].train_loss
    with pytest.raises(ConfigError, match="model=rmt needs images"):
        dd.train(images.flatten(1), classes, *line)


def test_depths_have_one_spelling() -> None:
    assert small("model.depths=02-1").run_id == small("model.depths=2-1").run_id


def test_a_run_that_fails_late_leaves_the_shorter_budgets_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    step = Compiled.step

    def failing(self: Compiled, number: int, x: torch.Tensor, y: torch.Tensor) -> None:
        if number > 4:
            raise RuntimeError("too far")
        step(self, number, x, y)

    monkeypatch.setattr(Compiled, "step", failing)
    rows = {row["epochs"]: row for row in solve_rows(*(small(f"epochs={n}") for n in (1, 2)))}
    assert rows[1]["status"] == "ok"
    assert rows[1]["steps_done"] == 3
    assert rows[2]["status"] == "failed"
    assert "too far" in rows[2]["error"]


def test_stop_loss_ends_every_budget_where_it_would_end_alone() -> None:
    """The bound lies in the widest gap that the loss leaves: no rounding moves the epoch that crosses it."""
    line = ("data.n_train=40", "batch_size=10", "normalization=layer_norm", "lr=0.01")
    losses = {row["epochs"]: row["train_loss"] for row in solve_rows(*(small(*line, f"epochs={n}") for n in range(13)))}
    gaps = {n: min(losses[k] for k in range(n)) / losses[n] for n in range(4, 13)}
    last = max(gaps, key=lambda n: gaps[n])
    assert gaps[last] > 1.005, "a float32 loss is right to 1e-6"
    stop_loss = losses[last] * gaps[last] ** 0.5
    runs = [small(*line, f"stop_loss={stop_loss}", f"epochs={n}") for n in (1, 3, 12)]
    rows = {row["run_id"]: row for row in solve_rows(*runs)}
    alone = [solve_rows(run)[0] for run in runs]
    for row in alone:
        assert {k: v for k, v in row.items() if k != "seconds"} == {
            k: v for k, v in rows[row["run_id"]].items() if k != "seconds"
        }
    assert [row["steps_done"] for row in alone] == [4, 12, 4 * last], "the longest alone gets there, and stops"


def test_a_batch_of_one_image_has_a_variance() -> None:
    row = row_of(*SMALL, "batch_size=1", "data.n_train=5", "epochs=1")
    assert row["status"] == "ok"
    assert np.isfinite(row["train_loss"])


def test_images_of_another_shape_are_refused() -> None:
    images, classes = torch.randn(10, 3, 8, 16), torch.arange(10) % 2
    line = ("model=rmt", "width=2", "optimizer=adam", "epochs=1", "batch_size=5")
    with pytest.raises(ConfigError, match=r"test=3x16x8.*must have inputs as x, 3x8x16"):
        dd.train(images, classes, *line, test=(images.mT, classes))
    net = dd.train(images, classes, *line)[0]
    with pytest.raises(ConfigError, match=r"x=3x16x8.*trained on images of 3x8x16"):
        net(images.mT)
