"""A user's own networks against a plain torch loop that is fed the same batches: float64, to 1e-9."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from dd.errors import ConfigError
from dd.models.module import Module, _factory_of
from dd.runs.run import Run
from dd.runs.settings import Settings
from dd.streams import stream
from dd.trainers.batches import Orders
from tests.helpers import problem_of, run_of, solve_rows
from tests.models import networks

FILE = Path(networks.__file__)
DATA = ("data.n_train=60", "data.n_test=40", "data.label_noise=0.2")
STEPS = (*DATA, "batch_size=25", "steps=30", "lr_unit=absolute", "dtype=float64")
RULES = {
    "optimizer=momentum lr=0.05 optimizer.weight_decay=0.01": lambda parameters: torch.optim.SGD(
        parameters, lr=0.05, momentum=0.9, weight_decay=0.01
    ),
    "optimizer=adam lr=0.01": lambda parameters: torch.optim.Adam(parameters, lr=0.01),
}
GOOD = ("mlp", "cnn", "dropout", "normed_dropout", "deciding", "linear")


def own(name: str, *overrides: str) -> Run:
    return run_of("model=module", f"model.path={FILE}:{name}", "width=7", *STEPS, *overrides)


def plain(run: Run, rule: str) -> nn.Module:
    """The network of a run after its training, by a loop without dd's trainers; it starts as dd starts it."""
    assert isinstance(run.model, Module)
    problem = problem_of(*DATA)
    x = problem.train_x.view(60, *run.data.image) if run.model.takes_images else problem.train_x
    torch.manual_seed(run.model.start_seed(run))
    net = run.model.network(run).double()
    optimizer, orders = RULES[rule](net.parameters()), Orders(run)
    torch.manual_seed(int(stream(run.seed, "layers").integers(2**32)))
    for epoch in range(10):
        for batch in torch.from_numpy(orders.epoch(epoch)).split(25):
            optimizer.zero_grad()
            nn.functional.mse_loss(net(x[batch]), problem.train_y[batch]).backward()
            optimizer.step()
    return net.eval()


def seen(net: nn.Module, x: Tensor, readout: str) -> Tensor:
    """What the read-out of a network is given."""
    found: list[Tensor] = []
    layer = net if readout == "." else net.get_submodule(readout)
    hook = layer.register_forward_hook(lambda _, given, __: found.append(given[0].detach()))
    with torch.no_grad():
        net(x)
    hook.remove()
    return found[0]


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("name", GOOD)
def test_a_run_is_that_of_a_plain_loop(name: str, rule: str) -> None:
    run, problem = own(name, *rule.split()), problem_of(*DATA)
    (row,) = solve_rows(run)
    assert row["status"] == "ok"
    assert row["trainer"] == "single"
    net = plain(run, rule)
    sides = {"train": (problem.train_x, problem.train_y), "test": (problem.test_x, problem.test_y)}
    for side, (x, y) in sides.items():
        x = x.view(len(x), *run.data.image) if run.model.takes_images else x
        with torch.no_grad():
            outputs = net(x)
        assert row[f"{side}_loss"] == pytest.approx(float(nn.functional.mse_loss(outputs, y)), rel=1e-9)
        assert row[f"{side}_error"] == pytest.approx(float((outputs.argmax(1) != y.argmax(1)).double().mean()))
    norm = torch.cat([p.detach().flatten() for p in net.parameters()]).norm()
    assert row["weight_norm"] == pytest.approx(float(norm), rel=1e-9)
    assert row["parameters"] == run.model.parameter_count(run) == sum(p.numel() for p in net.parameters())
    if not run.model.batch_dependent(run):
        x = problem.train_x.view(60, *run.data.image) if run.model.takes_images else problem.train_x
        features = seen(net, x, run.model.readout).numpy()
        matrix = np.hstack([features, np.ones((60, int(run.model.bias)))])
        s = np.linalg.svd(matrix, compute_uv=False)
        s = s[s > max(matrix.shape) * np.finfo(float).eps * s[0]]
        assert row["feature_condition"] == pytest.approx(s[0] / s[-1], rel=1e-6)
        assert row["feature_rank"] == len(s)


def test_what_dd_finds_of_a_network() -> None:
    assert [own(name).model.readout for name in GOOD] == ["4", "7", "3", "4", "head", "."]
    assert [own(name).model.bias for name in GOOD] == [True, True, True, False, True, False]
    assert own("deciding", "model.readout=head").run_id == own("deciding").run_id
    assert own("mlp").model.interpolation_width(own("mlp"), 64, 10) == pytest.approx(
        (-76 + (76**2 + 4 * (600 - 10)) ** 0.5) / 2, rel=0.01
    ), "width² + 76 width + 10 parameters number 60 · 10 targets"


def test_the_schemes_of_dd_draw_its_layers() -> None:
    run = own("cnn", "init=he", "width=40")
    drawn = run.model.init([run], 64, 10)
    assert float(drawn["0.weight"].std()) == pytest.approx((2 / 9) ** 0.5, rel=0.1)
    assert float(drawn["4.weight"].std()) == pytest.approx((2 / 360) ** 0.5, rel=0.1)
    assert float(drawn["readout"][0, :, :-1].std()) == pytest.approx((2 / run.model.feature_count(run)) ** 0.5, rel=0.1)
    twice, once = (own("mlp", f"init.scale={scale}") for scale in (2, 1))
    for name, value in twice.model.init([twice], 64, 10).items():
        torch.testing.assert_close(value, 2 * once.model.init([once], 64, 10)[name])


def test_runs_do_not_disturb_the_process_and_dropout_follows_from_the_seed_alone() -> None:
    runs = [own("dropout", "optimizer=adam", "lr=0.01", f"seed={seed}") for seed in (0, 1)]
    torch.manual_seed(5)
    together = solve_rows(*runs)
    assert torch.equal(torch.rand(1), torch.rand(1, generator=torch.Generator().manual_seed(5)))
    for run, row in zip(runs, together, strict=True):
        assert solve_rows(run)[0]["test_loss"] == row["test_loss"]
    assert together[0]["test_loss"] != together[1]["test_loss"]


def test_shorter_budgets_of_a_network_that_draws_are_what_they_are_alone() -> None:
    line = ("optimizer=adam", "lr=0.01", "measure=full")
    runs = [own("dropout", *line[:2]).replace(steps=steps) for steps in (30, 11)]
    together = {row["steps"]: row["train_loss"] for row in solve_rows(*runs)}
    assert together == {run.steps: solve_rows(run)[0]["train_loss"] for run in runs}


def test_an_edited_network_is_a_new_run_and_a_moved_one_is_not(tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "there").mkdir()
    text = "from beside import layer\ndef make(width, inputs, outputs): return layer(inputs, outputs)\n"
    beside = "from torch import nn\ndef layer(a, b): return nn.Linear(a, b)\n"

    def written(folder: str, text: str, beside: str) -> Run:
        (tmp_path / folder / "net.py").write_text(text, encoding="utf-8")
        (tmp_path / folder / "beside.py").write_text(beside, encoding="utf-8")
        return run_of("model=module", f"model.path={tmp_path / folder / 'net.py'}:make", *STEPS)

    first = written("here", text, beside)
    assert written("there", text.replace("\n", "\r\n"), beside).run_id == first.run_id
    assert written("there", text + "# edited\n", beside).run_id != first.run_id
    edited = written("here", text, beside.replace("(a, b)\n", "(a, b, bias=False)\n"))
    assert edited.run_id != first.run_id
    assert not edited.model.bias, "the edited file is read again"
    _factory_of.cache_clear()  # as in another process
    with pytest.raises(ConfigError, match="this run is for"):
        first.model.network(first)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no_module", "returns int, not a torch.nn.Module"),
        ("other_arguments", r"takes \(width, depth\); it must be a function of \(width, inputs, outputs\)"),
        ("unseeded", "starts from random numbers that torch's seed does not decide"),
        ("no_linear_layer", "has no torch.nn.Linear"),
        ("changing_shape", "fails for samples of 64: .*shapes cannot be multiplied"),
        ("mixing", "mixes samples"),
        ("softmax", "outputs are not those of the linear layer 0.4"),
        ("other_outputs", r"returns \[3, 11\] for 3 samples, not \[samples, outputs\], here \[3, 10\]"),
        ("flat_images", r"conv2d.*make\(width, image, outputs\) gets images"),
        ("frozen", "parameters without gradient"),
        ("tied_readout", "linear layer 2 shares its weights"),
        ("misspelt", r"NameError: name 'widht' is not defined \(networks.py:\d+\)"),
        ("nothing", "has no function nothing; it has .*mlp"),
        ("mlp.forward", "must be FILE.py:FUNCTION"),
        ("mlp model.readout=head", "model.readout=head.*is no linear layer of the network; it has 0, 2, 4"),
        ("deciding model.readout=first", "model.readout=first.*outputs are not those of the linear layer first"),
        ("mlp normalization=batch_norm", "normalises inside or not at all"),
        ("cnn data=mnist1d", "needs images"),
        ("mlp model.source=abc", "its source has sha256 .* for abc"),
    ],
)
def test_bad_input_is_one_line(name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        own(*name.split())
    assert "\n" not in str(caught.value)


def test_files_that_are_no_python(tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text("def make(width, inputs, outputs:\n", encoding="utf-8")
    (tmp_path / "raises.py").write_text("import torch\n1 / 0\n", encoding="utf-8")
    for path, message in (
        ("bad.py:make", "bad.py, line 1"),
        ("raises.py:make", r"raises.py cannot be imported: ZeroDivisionError: division by zero \(raises.py:2\)"),
        ("absent.py:make", "there is no file"),
    ):
        with pytest.raises(ConfigError, match=message):
            run_of("model=module", f"model.path={tmp_path / path}")
    with pytest.raises(ConfigError, match=r"model.path=null.*must be FILE.py:FUNCTION"):
        run_of("model=module")


def test_own_start_is_for_modules() -> None:
    with pytest.raises(ConfigError, match=r"init=own.*model=two_layer is none"):
        run_of("model=two_layer", "init=own")


def test_tangent_kernels_with_and_without_vmap() -> None:
    for name in ("mlp", "deciding"):
        run = own(name, "optimizer=adam", "lr=0.01", "data.n_train=20", "batch_size=10", "steps=4")
        (row,) = solve_rows(run, settings=Settings(device="cpu", measure_name="full"))
        assert row["hessian_lambda_max"] is not None
        net, problem = plain_start(run), problem_of(*DATA, "data.n_train=20", "batch_size=10")
        rows = []
        for output in net(problem.train_x).flatten():
            rows.append(
                torch.cat([g.flatten() for g in torch.autograd.grad(output, list(net.parameters()), retain_graph=True)])
            )
        s = torch.linalg.svdvals(torch.stack(rows))
        kept = s[s > max(200, len(rows[0])) * torch.finfo(torch.float64).eps * s[0]]
        assert row["ntk_condition_init"] == pytest.approx(float(kept[0] / kept[-1]) ** 2, rel=1e-4)
        assert row["ntk_rank_init"] == len(kept)


def plain_start(run: Run) -> nn.Module:
    assert isinstance(run.model, Module)
    torch.manual_seed(run.model.start_seed(run))
    return run.model.network(run).double().eval()
