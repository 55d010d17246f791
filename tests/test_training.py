"""The packed trainer by itself: dd.training, dd.data.tensors, and dd.samples.arrays, what it takes.

Covers: dd/samples/arrays.py, dd/data/tensors.py.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse
from torch import nn

import dd
from dd.errors import ConfigError
from dd.trainers.batches import batch_orders
from tests.helpers import dd_run

GENERATOR = torch.Generator().manual_seed(0)
X = torch.randn(60, 3, generator=GENERATOR, dtype=torch.float64)
Y = torch.stack([X.sin().sum(1), X.prod(1)], dim=1)
COMMON = ("model=two_layer", "lr_unit=absolute", "epochs=20", "batch_size=20", "dtype=float64")


@pytest.mark.rounding
def test_nets_of_widths_step_sizes_and_optimizers_equals_plain_torch_nets() -> None:
    nets = dd.train(X, Y, *COMMON, "width=4,32", "lr=0.01,0.1", "optimizer=sgd,adam", test=(X[:7], Y[:7]))
    assert len({(n.run.width, n.run.lr, n.run.optimizer.name) for n in nets}) == 8
    starts = dd.train(X, Y, *COMMON, "epochs=null", "steps=0", "width=4,32", "lr=0.01", "optimizer=sgd")
    by_width = {n.run.width: n.weights for n in starts}
    for net in nets:
        plain = nn.Sequential(nn.Linear(3, net.run.width), nn.ReLU(), nn.Linear(net.run.width, 2)).double()
        start = by_width[net.run.width]
        plain.load_state_dict(
            {"0.weight": start["hidden"], "0.bias": start["hidden_bias"], "2.weight": start["readout"],
             "2.bias": start["readout_bias"]}
        )  # fmt: skip
        kind = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}[net.run.optimizer.name]
        optimizer = kind(plain.parameters(), net.run.lr)
        orders = batch_orders(net.run)
        for _ in range(20):
            for batch in torch.from_numpy(next(orders)).split(20):
                optimizer.zero_grad()
                nn.functional.mse_loss(plain(X[batch]), Y[batch]).backward()
                optimizer.step()
        torch.testing.assert_close(net.weights["hidden"], plain[0].weight.detach(), rtol=1e-9, atol=1e-11)
        new = torch.randn(5, 3, generator=GENERATOR, dtype=torch.float64)
        torch.testing.assert_close(net(new), plain(new).detach(), rtol=1e-9, atol=1e-11)
        assert net.curve[-1].test_loss == pytest.approx(float((net(X[:7]) - Y[:7]).square().mean()))
        assert net.axes["width"] == net.run.width


@pytest.mark.parametrize("model", ["random_features", "random_features normalization=standardize model.bias=true"])
def test_min_norm_on_arrays_is_least_squares(model: str) -> None:
    (fit,) = dd.train(X.numpy(), Y.numpy(), *f"model={model}".split(), "optimizer=min_norm", "width=200")
    torch.testing.assert_close(fit(X), Y, rtol=1e-8, atol=1e-8)
    assert fit.steps_done is None
    assert fit.weights["readout"].shape == (2, 200)


def test_classes_are_classified() -> None:
    labels = (X[:, 0] > 0).long() + (X[:, 1] > 0).long()
    (net,) = dd.train(X, labels, *COMMON, "epochs=300", "width=50", "optimizer=adam", "lr=0.01", "loss=cross_entropy")
    assert net.curve[-1].train_error == 0
    assert net(X).argmax(1).tolist() == labels.tolist()


def test_nothing_is_written(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(str(tmp_path))
    dd.train(X, Y, "width=5", "steps=3", "batch_size=10")
    assert not list(__import__("pathlib").Path(str(tmp_path)).iterdir())


@pytest.mark.parametrize(
    ("x", "y", "overrides", "key"),
    [
        (X, Y[:5], (), "x"),
        (X[:, 0], Y, (), "x"),
        (X * np.nan, Y, (), "x"),
        (X, Y, ("loss=cross_entropy",), "loss"),
        (X, Y, ("data=digits",), "data"),
        (X, Y, ("batch_size=61",), "batch_size"),
        (X, Y, ("validation=0.1",), "validation"),
        (X, -torch.ones(60).long(), (), "y"),
        (X, Y, ("width=0",), "width"),
        (X, Y, ("plan_only=true",), "plan_only"),
        (X, Y, ("+experiment=label_noise",), "data"),
        (X, Y, ("device=cuda",), "device"),
        (X, Y.reshape(60, 2, 1), (), "y"),
        (X, "none", (), "y"),
        (X * 1j, Y, (), "x"),
        (X, torch.arange(60) * 1000, (), "y"),
    ],
)
def test_bad_input_is_one_error_that_names_the_key(
    x: torch.Tensor, y: torch.Tensor, overrides: tuple[str, ...], key: str
) -> None:
    with pytest.raises(ConfigError, match=f"^{key}[= ]"):
        dd.train(x, y, *overrides)


def test_a_test_set_is_a_pair() -> None:
    with pytest.raises(ConfigError, match=r"^test="):
        dd.train(X, Y, test=X)  # type: ignore[arg-type]


def test_a_wide_neighbours_infinite_features_do_not_touch_a_narrow_run() -> None:
    x = X.clone()
    x[:, 1] *= 1e39
    fixed = (
        "model=linear",
        "optimizer=sgd",
        "lr_unit=absolute",
        "lr=0.01",
        "steps=10",
        "dtype=float32",
        "batch_size=20",
    )
    (alone,) = dd.train(x, Y, *fixed, "width=1")
    assert alone.status == "ok"
    with pytest.raises(RuntimeError, match="not finite in float32"):
        dd.train(x, Y, *fixed, "width=1,2")


def test_a_run_without_curvature_says_so() -> None:
    with pytest.raises(RuntimeError, match="lr_unit=sharpness needs"):
        dd.train(torch.zeros(20, 2), torch.zeros(20, 1), "model=linear", "width=2", "steps=2", "batch_size=20")


def test_the_command_line_says_where_tensors_belong(tmp_path: object) -> None:
    done = dd_run("data=tensors", cwd=tmp_path)  # type: ignore[arg-type]
    assert done.returncode == 2
    assert done.stderr.startswith("dd: data=tensors")
    assert "dd.train" in done.stderr


LABELS = (np.arange(60) // 20).astype(np.int64)
XN = X.numpy()
FAST = ("model=two_layer", "width=4", "steps=3", "batch_size=20", "lr_unit=absolute", "lr=0.01", "dtype=float64")


def outputs(x: object, y: object) -> torch.Tensor:
    (net,) = dd.train(x, y, *FAST)
    return net(X)


@pytest.fixture(scope="module")
def by_classes() -> torch.Tensor:
    return outputs(X, torch.from_numpy(LABELS))


@pytest.fixture(scope="module")
def by_targets() -> torch.Tensor:
    return outputs(X, Y)


def masked(values: np.ndarray, hidden: bool = False) -> np.ndarray:
    found = np.ma.masked_array(values, mask=np.zeros(values.shape, bool))
    if hidden:
        found[0] = np.ma.masked
    return found


SHIFTED = pd.RangeIndex(100, 160)  # torch would look for sample 0 under the label 0

INPUTS = {
    "frame": pd.DataFrame(XN, index=SHIFTED),
    "frame of nullable numbers": pd.DataFrame(XN, index=SHIFTED).astype("Float64"),
    "big-endian": XN.astype(">f8"),
    "negative strides": XN[::-1].copy()[::-1],
    "column-major": np.asfortranarray(XN),
    "list": XN.tolist(),
    "list of tensors": list(X),
    "objects": XN.astype(object),
    "masked": masked(XN),
    "scipy": sparse.csr_array(XN),
    "scipy's matrix": sparse.coo_matrix(XN),
    "torch's sparse": X.to_sparse(),
    "with a gradient": X.clone().requires_grad_(),
    "read-only": np.frombuffer(XN.tobytes()).reshape(60, 3),
    "float128": XN.astype(np.longdouble),
}


@pytest.mark.parametrize("kind", INPUTS)
def test_inputs_of_every_kind_give_the_same_net(kind: str, by_targets: torch.Tensor) -> None:
    assert torch.equal(outputs(INPUTS[kind], Y), by_targets)
    (net,) = dd.train(X, Y, *FAST)
    assert torch.equal(net(INPUTS[kind]), by_targets)


@pytest.mark.parametrize("kind", ["float16", "float32", "bfloat16"])
def test_short_floating_point_is_taken_as_it_is(kind: str) -> None:
    short = X.to(getattr(torch, kind))
    expected = outputs(short.double(), Y)
    assert torch.equal(outputs(short, Y), expected)
    if kind != "bfloat16":
        assert torch.equal(outputs(short.numpy(), Y), expected)


CLASSES = {
    "series": pd.Series(LABELS, index=SHIFTED),
    "nullable series": pd.Series(LABELS, index=SHIFTED).astype("Int64"),
    "frame of one column": pd.DataFrame({"y": LABELS}, index=SHIFTED),
    "column": LABELS[:, None],
    "list": LABELS.tolist(),
    "objects": LABELS.astype(object),
    "big-endian": LABELS.astype(">i4"),
    "backwards": LABELS[::-1].copy()[::-1],
    **{f"numpy {k}": LABELS.astype(k) for k in ("uint8", "uint16", "uint32", "uint64", "int8", "int16")},
    **{
        f"torch {k}": torch.from_numpy(LABELS).to(getattr(torch, k))
        for k in ("uint8", "uint16", "uint32", "uint64", "int8")
    },
}


@pytest.mark.parametrize("kind", CLASSES)
def test_labels_of_every_kind_are_classes(kind: str, by_classes: torch.Tensor) -> None:
    assert torch.equal(outputs(X, CLASSES[kind]), by_classes)


NAMED = np.array(["cat", "dog", "emu"])[LABELS]
RELABELLED = {
    "from 1": LABELS + 1,
    "below 0": LABELS - 1,
    "gaps": LABELS * 5,
    "text": NAMED,
    "text in a series": pd.Series(NAMED, index=SHIFTED),
    "text in objects": NAMED.astype(object),
    "text in a list": NAMED.tolist(),
    "bytes": NAMED.astype("S"),
    "numbers in text, in the order of numbers": np.array(["2", "9", "10"])[LABELS],
    "categories": pd.Series(NAMED, index=SHIFTED, dtype="category"),
}


@pytest.mark.parametrize("kind", RELABELLED)
def test_labels_are_counted_anew_in_sorted_order(kind: str, by_classes: torch.Tensor) -> None:
    (net,) = dd.train(X, RELABELLED[kind], *FAST)
    assert torch.equal(net(X), by_classes)
    found = [
        str(label) for label in pd.unique(pd.Series(RELABELLED[kind]).map(lambda v: getattr(v, "decode", lambda: v)()))
    ]
    assert list(net.classes) == found


def test_a_torch_data_set_is_its_samples(by_classes: torch.Tensor) -> None:
    class Pairs(torch.utils.data.Dataset):
        def __len__(self) -> int:
            return 60

        def __getitem__(self, i: int) -> tuple[np.ndarray, str]:
            return XN[i], NAMED[i]

    whole = torch.utils.data.TensorDataset(X, torch.from_numpy(LABELS))
    for given in (whole, Pairs()):
        (net,) = dd.train(given, *FAST, test=given)
        assert torch.equal(net(X), by_classes)
    with pytest.raises(ConfigError, match=r"^y=ndarray: .*leave y out"):
        dd.train(whole, LABELS, *FAST)
    with pytest.raises(ConfigError, match=r"^x=TensorDataset: .*pairs"):
        dd.train(torch.utils.data.TensorDataset(X), *FAST)


def test_images_of_every_layout_are_the_same_images() -> None:
    bytes_ = np.random.default_rng(0).integers(0, 256, (60, 3, 6, 5), dtype=np.uint8)
    plain = bytes_ * (1 / 255)
    (net,) = dd.train(plain, LABELS, *FAST)
    expected = net(plain)
    layouts = [
        bytes_,
        torch.from_numpy(bytes_),
        plain.transpose(0, 2, 3, 1),
        torch.from_numpy(plain).permute(0, 2, 3, 1),
    ]
    for images in layouts:
        (own,) = dd.train(images, LABELS, *FAST)
        assert torch.equal(own(plain), expected)
        torch.testing.assert_close(net(images), expected)
        assert own.axes["data_image"] == "3x6x5"
    grey, flat = plain[:, 0], plain[:, :1]
    (net,) = dd.train(grey, LABELS, *FAST)
    assert net.axes["data_image"] == "1x6x5"
    torch.testing.assert_close(net(grey), net(flat))
    torch.testing.assert_close(net(torch.from_numpy(grey)), net(flat))


def test_integers_without_a_gap_are_classes_however_many() -> None:
    (net,) = dd.train(X, np.arange(60), *FAST)
    assert net(X).shape == (60, 60)


def test_booleans_are_two_classes() -> None:
    truth = LABELS > 0
    expected = outputs(X, truth.astype(int))
    assert expected.shape == (60, 2)
    for given in (truth, torch.from_numpy(truth), pd.Series(truth), truth.tolist()):
        assert torch.equal(outputs(X, given), expected)


def test_real_targets_in_a_series_are_one_output() -> None:
    assert outputs(X, pd.Series(Y[:, 0].numpy(), index=SHIFTED)).shape == (60, 1)


@pytest.mark.parametrize(
    ("x", "y", "key", "text"),
    [
        (X, np.full(60, 2**63 + 1, dtype=np.uint64), "y=", "beyond 2**63"),
        (X, pd.Series(LABELS).astype("Int64").where(LABELS > 0), "y=nan or inf", "finite"),
        (X, np.array([None] * 60), "y=ndarray of object", "missing values"),
        (X, LABELS.astype("datetime64[s]"), "y=ndarray of datetime64", "numbers"),
        (X, masked(LABELS, hidden=True), "y=MaskedArray", "masked values"),
        (masked(XN, hidden=True), Y, "x=MaskedArray", "masked values"),
        (pd.DataFrame({"a": [1] * 60, "b": ["x"] * 60}), Y, "x=DataFrame", "column b holds text ('x')"),
        (pd.DataFrame({"a": [None] * 60}), Y, "x=DataFrame", "column a has 60 missing values"),
        (pd.DataFrame(XN).mask(XN > 2), Y, "x=nan or inf", "missing values, the first in row"),
        ([[1.0, 2.0], [3.0]], Y, "x=list", "numbers"),
        ({"a": 1}, Y, "x=dict", "numbers"),
        (None, Y, "x=null", "is missing"),
        (X.to(torch.complex64), Y, "x=Tensor of torch.complex64", "real"),
        (X.to("meta"), Y, "x=Tensor", "values"),
        (X, Y[:5], "x=60 samples", "5"),
        (X, LABELS * 0, "y=0", "the only class"),
        (X, np.arange(60) * 7, "y=integers of 60 values in 60 samples", "floating point for real targets"),
        (X, np.eye(3, dtype=int)[LABELS], "y=60x3", "argmax(axis=1)"),
        (X, np.array([["a"] * 2] * 60), "y=60x2", "names of classes"),
        (np.zeros((60, 0)), Y, "x=60x0", "samples"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*masked element.*")
def test_what_cannot_be_taken_is_named(x: object, y: object, key: str, text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        dd.train(x, y, *FAST)
    line = str(caught.value)
    assert line.startswith(key)
    assert text in line
    assert "\n" not in line


def test_images_with_channels_first_are_taken() -> None:
    for shape in ((60, 3, 8, 8), (60, 1, 8, 8), (60, 3, 8, 3), (60, 5, 8, 8)):
        x = np.arange(np.prod(shape)).reshape(shape) % 7 / 7
        (net,) = dd.train(x, LABELS, *FAST)
        assert net.axes["data_image"] == "x".join(map(str, shape[1:]))


def test_a_class_may_be_missing_in_one_part() -> None:
    (net,) = dd.train(X[:40], LABELS[:40], *FAST, test=(X, LABELS))
    assert net(X).shape == (60, 3)
    (net,) = dd.train(X, LABELS, *FAST, test=(X[:20], LABELS[:20]))
    assert net(X).shape == (60, 3)
    few = np.array([0, 2] * 30)
    (net,) = dd.train(X, few, *FAST, test=(X[:3], np.array([0, 1, 2])))
    assert net(X).shape == (60, 3)


def test_a_closed_form_has_a_curve_of_one_point() -> None:
    test = (X[:30] + 0.1, Y[:30])
    (fit,) = dd.train(X[:30], Y[:30], "optimizer=min_norm", "width=10", "model.bias=true", test=test)
    (point,) = fit.curve
    assert point.step == 0
    assert point.train_loss == pytest.approx(float((fit(X[:30]) - Y[:30]).square().mean()))
    assert point.test_loss == pytest.approx(float((fit(test[0]) - Y[:30]).square().mean()))
    assert point.train_error is None
    (fit,) = dd.train(X, LABELS, "optimizer=min_norm", "width=10", "normalization=standardize")
    assert fit.curve[-1].train_error == pytest.approx(float(np.mean(fit(X).argmax(1).numpy() != LABELS)))


def test_a_list_of_nets_is_a_line_each() -> None:
    nets = dd.train(X, Y, *COMMON, "width=4,8", "optimizer=adam,sgd", "lr=0.01")
    text = repr(nets)
    assert len(text) < 4 * 120
    assert text.startswith("[Trained(model=two_layer, width=4, optimizer=adam, lr=0.01, seed=0, status=ok, train_loss=")
    (fit,) = dd.train(X, Y, "optimizer=min_norm", "width=10")
    assert "lr" not in repr(fit)
    assert fit == fit
    assert len({fit, nets[0]}) == 2


@pytest.mark.parametrize("x", [X[:, :2], X[:, 0], X[:, :, None], X.numpy()[:, :2], "none", np.zeros((3, 1, 1, 3))])
def test_inputs_of_another_shape_are_refused_by_a_trained_net(x: object) -> None:
    (net,) = dd.train(X, Y, *FAST)
    with pytest.raises(ConfigError, match=r"^x="):
        net(x)


def test_gradients_pass_through_a_trained_net_to_its_inputs() -> None:
    (net,) = dd.train(X, Y, *FAST)
    x = X.clone().requires_grad_()
    net(x).sum().backward()
    assert x.grad is not None
    assert x.grad.abs().sum() > 0


def test_one_large_label_takes_no_memory() -> None:
    """As many outputs as its value would fill any machine."""
    y = np.array([0, 1, 10**9])
    (net,) = dd.train(np.eye(3), y, "model=two_layer", "width=2", "epochs=1", "batch_size=3")
    assert net.classes == ("0", "1", "1000000000")
    assert net(np.eye(3)).shape == (3, 3)
    with pytest.raises(ConfigError, match=r"x=0x5: must hold samples"):
        dd.train(np.zeros((0, 5)), np.zeros(0), "model=two_layer", "width=2", "epochs=1")
