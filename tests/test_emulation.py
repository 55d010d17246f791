"""The emulated CUDA device: strict where CUDA is strict, lenient where it is, and counting."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.emulated_cuda import CudaTensor, Emulation, Mode, emulated_cuda


@pytest.fixture
def device() -> Iterator[Emulation]:
    with emulated_cuda() as emulation:
        yield emulation


def ours(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """1, 2, 3, ... on the device."""
    return torch.arange(1, int(np.prod(shape)) + 1, dtype=dtype).view(shape).to("cuda")


def test_factories_and_moves_give_tensors_that_say_cuda(device: Emulation) -> None:
    made = [
        torch.zeros(3, device="cuda"), torch.tensor([1.0, 2.0, 3.0], device="cuda"), torch.ones(3).to("cuda"),
        torch.ones(3).cuda(), torch.from_numpy(np.ones(3)).to("cuda", torch.float32),
        torch.arange(3, device=torch.device("cuda")), ours(3).new_zeros(3), torch.zeros_like(ours(3)),
        torch.nn.Linear(3, 2).to("cuda").weight,
    ]  # fmt: skip
    for tensor in made:
        assert tensor.device == torch.device("cuda", 0)
        assert tensor.is_cuda
    for tensor in (ours(3).cpu(), ours(3).to("cpu"), ours(3).new_zeros(3, device="cpu"), torch.zeros(3)):
        assert tensor.device.type == "cpu"
        assert not isinstance(tensor, CudaTensor)
    assert torch.cuda.is_available()
    assert torch.cuda.mem_get_info()[0] > 0
    assert torch.cuda.get_device_name()


MIXED: dict[str, Callable[[Tensor, Tensor], Any]] = {
    "sum": lambda a, b: a + b,
    "in place": lambda a, b: b.add_(a),
    "product": lambda a, b: a @ b,
    "out": lambda a, b: torch.matmul(a, a, out=b),
    "cat": lambda a, b: torch.cat([a, b]),
    "stack": lambda a, b: torch.stack([b, a]),
    "scalar of a ternary operation": lambda a, b: a.addcmul(a, b[0, 0]),
    "scalar in a product": lambda a, b: torch.cat([a[0], b[0, :1]]),
    "scalar written on the host": lambda a, b: b[0, 0].add_(a[0, 0]),
    "where": lambda a, b: torch.where(a > 0, a, b),
    "index of index_select": lambda a, b: a.index_select(0, torch.tensor([0])),
    "device index into host": lambda a, b: b[torch.zeros(1, dtype=torch.long, device="cuda")],
    "values of index_put": lambda a, b: a.__setitem__(torch.tensor([0, 1]), b),
    "triangular": lambda a, b: torch.linalg.solve_triangular(a, b, upper=True),
    "vmap": lambda a, b: torch.func.vmap(lambda row: row * b[0])(a),
}


@pytest.mark.parametrize("name", MIXED)
def test_tensors_of_two_devices_do_not_meet(name: str, device: Emulation) -> None:
    with pytest.raises(RuntimeError, match="same device"):
        MIXED[name](ours(2, 2), torch.ones(2, 2, dtype=torch.float64))


def test_host_scalars_indices_and_copies_are_taken(device: Emulation) -> None:
    x = ours(2, 2)
    scalar = torch.tensor(2.0, dtype=torch.float64)
    device.reset()
    assert (x * scalar).cpu().tolist() == [[2, 4], [6, 8]]
    assert (scalar - x).cpu().tolist() == [[1, 0], [-1, -2]]
    assert torch.where(x > 2, scalar, x).cpu().tolist() == [[1, 2], [2, 2]]
    assert x.clone().fill_(scalar).cpu().tolist() == [[2, 2], [2, 2]]
    assert not device.sent, "scalars travel with the kernel's arguments"
    assert x[torch.tensor([1, 0])].cpu().tolist() == [[3, 4], [1, 2]]
    x[torch.tensor([0])] = scalar
    assert x.cpu().tolist() == [[2, 2], [3, 4]]
    host = torch.zeros(2, 2, dtype=torch.float64)
    host.copy_(x)
    x.copy_(torch.ones(2, 2))
    assert host.tolist() == [[2, 2], [3, 4]]
    assert x.cpu().tolist() == [[1, 1], [1, 1]]
    assert device.sent == {"index": 1, "index_put_": 1, "copy_": 1}


def test_what_the_host_waits_for_is_counted(device: Emulation) -> None:
    x = ours(4)
    waits: dict[str, Callable[[], Any]] = {
        "_local_scalar_dense": lambda: (x.sum().item(), float(x[0]), bool((x > 0).all()), int(x[0])),
        "_to_copy": lambda: (x.tolist(), x.cpu()),
        "nonzero": lambda: x.nonzero(),
        "index": lambda: x[x > 2],
        "masked_select": lambda: x.masked_select(x > 2),
        "equal": lambda: torch.equal(x, x),
        "copy_": lambda: torch.empty(4, dtype=torch.float64).copy_(x),
        "_linalg_svd": lambda: torch.linalg.svdvals(x.view(2, 2)),
        "synchronize": torch.cuda.synchronize,
    }
    counts = {"_local_scalar_dense": 4, "_to_copy": 2}
    for name, wait in waits.items():
        device.reset()
        wait()
        assert device.waits == {name: counts.get(name, 1)}
        assert not device.sent
    device.reset()
    torch.tensor([1.0, 2.0], device="cuda")
    torch.ones(3).to("cuda", non_blocking=True)
    assert device.counts == (0, 2)
    device.reset()
    y = x[1:3] * 2 + x[[0, 0]].sum() - x.clone().masked_fill_(x > 2, 0.0)[:2]
    x[1:] = 5.0
    x[x > 3] = 0.0
    y.to("cuda").mul_(x[0])
    assert device.counts == (0, 1), "a list of indices is made on the host and sent"


def test_views_alias_and_operations_in_place_are_seen_through_them(device: Emulation) -> None:
    x = torch.zeros(2, 3, device="cuda")
    row, transposed = x[1], x.view(3, 2).mT
    row.add_(2.0)
    assert row.copy_(row * 2) is row
    assert x.cpu().tolist() == [[0, 0, 0], [4, 4, 4]]
    assert transposed.cpu().tolist() == [[0, 0, 4], [0, 4, 4]]
    torch.matmul(torch.ones(2, 2, device="cuda"), torch.ones(2, 3, device="cuda"), out=x)
    assert row.tolist() == [2, 2, 2]
    assert x.unsqueeze_(0).shape == (1, 2, 3)
    assert x.squeeze_().tolist() == [[2, 2, 2], [2, 2, 2]]
    with pytest.raises(NotImplementedError, match="size in place"):
        torch.empty(0, device="cuda").resize_(5)
    assert x.detach().to("cuda").to(x.device).mul_(3) is not x
    assert row.tolist() == [6, 6, 6], "a move that changes nothing is the tensor itself"


def test_autograd_transforms_and_linear_algebra_equal_those_of_the_host(device: Emulation) -> None:
    def loss(x: Tensor) -> Tensor:
        return (x @ x.mT).tanh().square().sum()

    host = torch.linspace(-1, 1, 6, dtype=torch.float64).view(2, 3)
    directions = torch.eye(6, dtype=torch.float64).view(6, 2, 3)

    def found(x: Tensor, many: Tensor) -> list[Tensor]:
        leaf = x.clone().requires_grad_(True)
        (gradient,) = torch.autograd.grad(loss(leaf), leaf, create_graph=True)
        (second,) = torch.autograd.grad(gradient.square().sum(), leaf)
        forward = torch.func.vmap(lambda v: torch.func.jvp(loss, (x,), (v,))[1], chunk_size=4)(many)
        value, pull = torch.func.vjp(loss, x)
        each = torch.func.vmap(torch.func.grad(loss))(many)
        return [gradient.detach(), second, forward, *pull(value), each, *torch.linalg.svd(x, full_matrices=False)]

    here = found(host, directions)
    there = found(host.to("cuda"), directions.to("cuda"))
    for a, b in zip(here, there, strict=True):
        assert isinstance(b, CudaTensor)
        torch.testing.assert_close(b.cpu(), a, rtol=0, atol=0)


def test_autocast_is_that_of_cuda(device: Emulation) -> None:
    x = torch.ones(2, 2, device="cuda")
    with torch.autocast("cuda", torch.bfloat16):
        assert (x @ x).dtype == torch.bfloat16
        assert (x @ x).softmax(0).dtype == torch.float32
        assert torch.func.vmap(lambda row: row @ x)(x).dtype == torch.bfloat16
    assert device.modes == {Mode.now()}


def test_what_cuda_refuses_is_refused(device: Emulation) -> None:
    x = ours(2, 2)
    with pytest.raises(TypeError, match="cuda:0 device type tensor to numpy"):
        x.numpy()
    with pytest.raises(TypeError, match="cuda:0 device type tensor to numpy"):
        np.asarray(x)
    with pytest.raises(AssertionError, match="device memory"):
        x.data_ptr()
    with pytest.raises(RuntimeError, match="gels"):
        torch.linalg.lstsq(x, x, driver="gelsd")
    with pytest.raises(RuntimeError, match="not implemented"):
        x.long() @ x.long()
    with pytest.raises(RuntimeError, match="generator"):
        torch.empty(2, device="cuda").normal_(generator=torch.Generator())


def test_operations_without_a_deterministic_kernel_are_refused_when_asked_for(device: Emulation) -> None:
    x = ours(4)
    unsound: list[Callable[[], Any]] = [
        lambda: x.cumsum(0), lambda: x.median(0), lambda: torch.histc(x), lambda: x.kthvalue(2),
        lambda: torch.bincount(x.long(), x), lambda: x.clone().put_(x[:1].long(), x[:1]),
    ]  # fmt: skip
    for operation in unsound:
        operation()
    torch.use_deterministic_algorithms(True)
    try:
        for operation in unsound:
            with pytest.raises(RuntimeError, match="deterministic"):
                operation()
        x.long().cumsum(0)
        torch.bincount(x.long())
        x.median()
    finally:
        torch.use_deterministic_algorithms(False)


def test_a_graph_is_recorded_without_being_run_and_repeats_what_was_recorded(device: Emulation) -> None:
    x, out, host = ours(2, 2), torch.zeros(2, 2, dtype=torch.float64, device="cuda"), torch.tensor(2.0)
    graph, number, factor = torch.cuda.CUDAGraph(), ours(1), 3.0
    with torch.cuda.graph(graph):
        kept = (x @ x) * factor
        number.add_(1)
        row = kept.unsqueeze_(0).squeeze_(0)[1]
        row.mul_(host)
        out.copy_(kept * number)
        fresh = torch.empty(2, device="cuda")
    assert number.tolist() == [1]
    assert out.tolist() == [[0, 0], [0, 0]]
    assert kept.isnan().all()
    host.fill_(0)
    factor = 0.0
    graph.replay()
    assert kept.tolist() == [[21, 30], [90, 132]], "numbers of the host are those of the recording"
    assert out.tolist() == [[42, 60], [180, 264]]
    fresh.fill_(1)
    x.fill_(1)
    graph.replay()
    assert number.tolist() == [3]
    assert out.tolist() == [[18, 18], [36, 36]], "and those of the device are what they are now"
    assert fresh.isnan().all()
    assert device.replays == 2

    def recorded(operation: Callable[[], Any]) -> None:
        with torch.cuda.graph(torch.cuda.CUDAGraph()):
            x.add_(1)
            operation()

    for forbidden in (
        lambda: x.sum().item(),
        lambda: x[x > 2],
        lambda: torch.ones(2).to("cuda"),
        torch.cuda.synchronize,
    ):
        with pytest.raises(RuntimeError, match="previous error") as failure:
            recorded(forbidden)
        assert "not permitted" in str(failure.value.__context__)
        assert x.tolist() == [[1, 1], [1, 1]]


def test_fresh_memory_holds_no_numbers(device: Emulation) -> None:
    x = ours(3)
    for fresh in (torch.empty(3, device="cuda"), torch.empty_like(x), x.new_empty(3)):
        assert fresh.isnan().all()


def test_the_device_draws_from_a_generator_of_its_own(device: Emulation) -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    first = torch.randn(4, device="cuda")
    assert torch.equal(torch.get_rng_state(), before), "the host's is not touched"
    assert not torch.equal(first, torch.randn(4, device="cuda"))
    torch.cuda.manual_seed(3)
    state = torch.cuda.get_rng_state()
    again = torch.randn(4, device="cuda")
    assert torch.equal(again, first)
    torch.cuda.set_rng_state(state)
    assert torch.equal(torch.randn(4, device="cuda"), again)


def test_nothing_is_left_behind() -> None:
    before = torch.cuda.is_available(), torch.accelerator.current_accelerator()
    with emulated_cuda():
        x = torch.ones(2, device="cuda")
        assert torch.accelerator.current_accelerator() == torch.device("cuda")
    assert (torch.cuda.is_available(), torch.accelerator.current_accelerator()) == before
    with pytest.raises(RuntimeError, match="outlived"):
        x + 1
    leaf = torch.ones(2, requires_grad=True)
    (gradient,) = torch.autograd.grad(leaf.square().sum(), leaf)
    assert gradient.tolist() == [2, 2]
