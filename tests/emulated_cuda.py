"""A CUDA device without a GPU: tensors that say ``cuda:0`` and compute on the CPU, strict where CUDA is.

:func:`emulated_cuda` is a context in which every operation on such tensors checks that all its tensors are on one
device, with CUDA's own exceptions (zero-dimensional CPU tensors as scalars of elementwise operations, CPU indices, and
``copy_``), counts what makes the host wait for the device and what is sent to it, fills fresh memory with NaN, and
refuses what CUDA refuses: NumPy, pointers for host code, least-squares drivers other than gels, integer products, and
under ``torch.use_deterministic_algorithms`` what has no deterministic kernel. Dispatch is that of CUDA tensors
(autocast's lists, autograd, ``torch.func``), and CUDA graphs run nothing while they are recorded and repeat operations
on the recorded memory when they are replayed, with what came from the host as it was; arithmetic, kernels and their
rounding, memory and streams are the CPU's. ``torch.optim`` does not see its own foreach implementations, since these
tensors are a subclass.
"""

from __future__ import annotations

import ctypes
import os
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, NoReturn
from unittest import mock

import pytest
import torch
from torch import Tensor
from torch.utils import _pytree as pytree
from torch.utils._mode_utils import no_dispatch
from torch.utils._python_dispatch import TorchDispatchMode

REAL = torch.cuda.is_available()
"""Whether this machine has a CUDA device of its own."""

DEVICE = torch.device("cuda", 0)
CPU = torch.device("cpu")
MEMORY = 16 << 30

FRESH = ("empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided")
INDEXING = ("index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index", "_unsafe_index_put")
SCALARS_TOO = ("where", "fill_", "masked_fill", "masked_fill_")
"""Operations beside binary elementwise ones that take a zero-dimensional CPU tensor."""

WAITING = (
    "_local_scalar_dense", "nonzero", "masked_select", "equal", "unique_dim", "_unique2", "unique_consecutive",
    "_linalg_svd", "_linalg_eigh", "_linalg_check_errors",
)  # fmt: skip
"""Operations whose result, or whose error, the host must see."""

PRODUCTS = ("mm", "bmm", "addmm", "baddbmm", "mv", "dot", "convolution", "convolution_backward")

NOT_DETERMINISTIC = (
    "put_", "histc", "median.dim", "nanmedian.dim", "kthvalue", "cumsum", "bincount", "nll_loss2d_forward",
    "avg_pool3d_backward", "_adaptive_avg_pool2d_backward", "_adaptive_avg_pool3d_backward",
    "adaptive_max_pool2d_backward", "fractional_max_pool2d_backward", "fractional_max_pool3d_backward", "max_unpool2d",
    "max_unpool3d", "upsample_linear1d_backward", "upsample_bilinear2d_backward", "upsample_bicubic2d_backward",
    "upsample_trilinear3d_backward", "reflection_pad1d_backward", "reflection_pad2d_backward",
    "reflection_pad3d_backward", "grid_sampler_2d_backward", "grid_sampler_3d_backward", "_ctc_loss_backward",
)  # fmt: skip
"""What raises on CUDA by the documentation of ``torch.use_deterministic_algorithms`` (older versions' kthvalue too)."""


UNDECLARED = ("running_mean", "running_var")
"""Arguments of batch norms that are written without their schema saying so."""


@dataclass(frozen=True)
class Mode:
    """What decides on a GPU how a product is rounded, and whether it is so again."""

    precision: str = "highest"
    short_convolutions: bool = False
    timed_convolutions: bool = False
    deterministic: bool = True
    workspace: str | None = ":4096:8"

    @classmethod
    def now(cls) -> Mode:
        """The settings of this moment."""
        return cls(
            torch.get_float32_matmul_precision(),
            torch.backends.cudnn.allow_tf32,
            torch.backends.cudnn.benchmark,
            torch.are_deterministic_algorithms_enabled(),
            os.environ.get("CUBLAS_WORKSPACE_CONFIG"),
        )


class CudaTensor(torch.Tensor):
    """A tensor on the emulated device.

    Args:
        held: its numbers, on the CPU; a view's are a view.
    """

    held: Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, held: Tensor) -> CudaTensor:
        """A shell without memory."""
        made: CudaTensor = torch.Tensor._make_wrapper_subclass(
            cls,
            held.shape,
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            layout=held.layout,
            device=DEVICE,
        )
        return made

    def __init__(self, held: Tensor) -> None:
        self.held = held

    @classmethod
    def __torch_dispatch__(
        cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Compute; where the mode is not active itself, by the one that is."""
        if Emulation.active is None:
            raise RuntimeError("an emulated tensor has outlived its emulation")
        return Emulation.active.compute(func, args, kwargs or {})

    def tolist(self) -> Any:
        """Torch's refuses subclasses."""
        return self.cpu().tolist()

    def numpy(self, *args: Any, **kwargs: Any) -> NoReturn:
        """As CUDA tensors."""
        raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() to copy it to the host.")

    __array__ = numpy

    def data_ptr(self) -> NoReturn:
        """A device's address means nothing to code on the host."""
        raise AssertionError("the address of device memory is asked for")

    def __repr__(self, *args: Any, **kwargs: Any) -> str:
        """With its numbers."""
        return f"CudaTensor({self.held!r})"


class Emulation(TorchDispatchMode):
    """The device.

    Attributes:
        active: the one that is switched on.
        waits: operations for which the host waited, by name.
        sent: copies from host to device, by name.
        modes: settings under which products were computed.
        replays: launches of recorded graphs.
        operations: those of the device one by one, views included.
        tape: of the graph that is being recorded.
        stream: name of the current one.
    """

    active: Emulation | None = None

    def __init__(self) -> None:
        super().__init__()
        self.waits: Counter[str] = Counter()
        self.sent: Counter[str] = Counter()
        self.modes: set[Mode] = set()
        self.replays = self.operations = 0
        self.tape: Tape | None = None
        self.stream = "default"
        self.random_state = torch.Generator().manual_seed(0).get_state()

    def reset(self) -> None:
        """Count from zero."""
        self.waits.clear()
        self.sent.clear()
        self.replays = self.operations = 0

    @property
    def counts(self) -> tuple[int, int]:
        """Waits and copies to the device so far."""
        return self.waits.total(), self.sent.total()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Every operation in the context comes here."""
        kwargs = kwargs or {}
        if CudaTensor not in types and kwargs.get("device") in (None, CPU):
            return func(*args, **kwargs)
        return self.compute(func, args, kwargs)

    def compute(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Compute an operation on the tensors that ours hold, if any is ours or is asked for."""
        tensors: list[Tensor] = []
        held_args, held_kwargs = _open(args, tensors), _open(kwargs, tensors)
        ours = [t for t in tensors if isinstance(t, CudaTensor)]
        asked = kwargs.get("device")
        to_device = bool(ours) if asked is None else torch.device(asked).type == "cuda"
        if not ours and not to_device:
            return func(*args, **kwargs)
        if asked is not None and to_device:
            held_kwargs["device"] = CPU
        self.operations += 1
        traits = _traits(func)
        name = traits.name
        if name == "_to_copy":
            return self._moved(func, args[0], held_kwargs, to_device=to_device)
        if name == "copy_":
            to_device = isinstance(args[0], CudaTensor)
            self._count_copy(name, from_device=isinstance(args[1], CudaTensor), to_device=to_device)
        elif len(ours) < len(tensors):
            self._check_mixture(func, traits, args, tensors)
        self._count_waits(traits, args)
        if traits.product:
            self.modes.add(Mode.now())
        _refuse(traits, args, kwargs)
        if name == "_efficientzerotensor":  # zeros without memory, whose dispatch ends above this one
            func = torch.ops.aten.zeros.default
        call = None
        if self.tape is not None:
            hosts = {id(t) for t in tensors if not isinstance(t, CudaTensor)}
            call = self.tape.begin(func, held_args, held_kwargs, hosts)
        with self._random_numbers(kwargs) if traits.random else nullcontext():
            found = func(*held_args, **held_kwargs)
        if traits.reshapes:  # the shell changes its shape as well
            with no_dispatch():
                func(*args, **kwargs)
        outer = {}
        for t in ours:
            outer[id(t.held)] = t
            if t.held.shape != t.shape:
                raise NotImplementedError(f"{func} changes a tensor's size in place, which is not emulated")
        if traits.fresh and (found.is_floating_point() or found.is_complex()):
            found.fill_(torch.nan)
        if call is not None:
            call.end(found)

        def wrap(value: Any) -> Any:
            if isinstance(value, Tensor):
                known = outer.get(id(value))
                return known if known is not None else CudaTensor(value) if to_device else value
            return type(value)(wrap(part) for part in value) if isinstance(value, list | tuple) else value

        return wrap(found)

    def _moved(self, func: Any, source: Tensor, kwargs: dict[str, Any], *, to_device: bool) -> Tensor:
        """``to``: between devices or dtypes; on one device without a change nothing is copied, as by torch's own."""
        from_device = isinstance(source, CudaTensor)
        self._count_copy("_to_copy", from_device=from_device, to_device=to_device)
        held = source.held if isinstance(source, CudaTensor) else source
        changed = kwargs.get("dtype") not in (None, held.dtype) or kwargs.get("memory_format") is not None
        if from_device and to_device and not changed:
            return CudaTensor(held.view_as(held))
        call = self.tape.begin(func, (held,), kwargs, set()) if self.tape is not None else None
        found: Tensor = func(held, **kwargs)
        if call is not None:
            call.end(found)
        return CudaTensor(found) if to_device else found

    def _count_copy(self, name: str, *, from_device: bool, to_device: bool) -> None:
        if from_device and not to_device:
            self._count_wait(name)
        elif to_device and not from_device:
            self._refuse_while_recording()
            self.sent[name] += 1

    def _count_wait(self, name: str) -> None:
        self._refuse_while_recording()
        self.waits[name] += 1

    def _refuse_while_recording(self) -> None:
        if self.tape is not None:
            self.tape.broken = True
            raise RuntimeError("CUDA error: operation not permitted when stream is capturing")

    def _count_waits(self, traits: _Traits, args: tuple[Any, ...]) -> None:
        if traits.waits:
            self._count_wait(traits.name)
        if traits.indexing:
            masks = any(t.dtype in (torch.bool, torch.uint8) for t in args[1] if t is not None)
            filled = len(args) > 2 and args[2].numel() == 1  # masked_fill
            if masks and not filled:
                self._count_wait(traits.name)

    def _check_mixture(self, func: Any, traits: _Traits, args: tuple[Any, ...], tensors: list[Tensor]) -> None:
        """Refuse tensors of two devices where CUDA does.

        Raises:
            RuntimeError: the one that CUDA raises.
        """
        others = [t for t in tensors if not isinstance(t, CudaTensor)]
        if traits.indexing and isinstance(args[0], CudaTensor):
            indices = {id(t) for t in args[1] if t is not None and not isinstance(t, CudaTensor)}
            if indices:
                self._refuse_while_recording()
                self.sent[traits.name] += len(indices)
            others = [t for t in others if id(t) not in indices and t.ndim]
        elif traits.takes_scalars or (traits.elementwise and len(tensors) == 2):
            writes = func._schema.is_mutable and not isinstance(args[0], CudaTensor)
            others = [t for t in others if t.ndim or writes]
        if others:
            raise RuntimeError(
                "Expected all tensors to be on the same device, but found at least two devices, cuda:0 and cpu! "
                f"({func}, {[tuple(t.shape) for t in others]} on the cpu)"
            )

    @contextmanager
    def _random_numbers(self, kwargs: dict[str, Any]) -> Iterator[None]:
        """The device draws from a generator of its own."""
        if kwargs.get("generator") is not None:
            raise RuntimeError("Expected a 'cuda' device type for generator but found 'cpu'")
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.set_state(self.random_state)
            yield
            self.random_state = torch.default_generator.get_state()

    def __enter__(self) -> Emulation:
        """Switch on."""
        Emulation.active = self
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        """Switch off."""
        super().__exit__(*error)
        Emulation.active = None


@dataclass
class _Call:
    """An operation on the tape: its arguments as they were, and what it gave."""

    tape: Tape
    func: Any
    args: Any
    kwargs: Any
    known: set[int]
    found: list[Tensor]

    def end(self, found: Any) -> None:
        """Keep what it gave in memory of its own; views need no repeating."""
        made = [t for t in pytree.tree_leaves(found) if isinstance(t, Tensor)]
        self.found = [t.detach() for t in made if t.untyped_storage()._cdata not in self.known]
        self.tape.made.update(t.untyped_storage()._cdata for t in self.found)
        self.tape.calls.append(self)

    def forget(self) -> None:
        """Leave no numbers behind."""
        for t in self.found:
            if t.is_floating_point():
                t.fill_(torch.nan)

    def repeat(self) -> None:
        """On the same memory."""
        traits = _traits(self.func)
        if traits.reshapes or not (self.found or self.func._schema.is_mutable):
            return
        if traits.fresh:
            self.forget()
            return
        got = [t for t in pytree.tree_leaves(self.func(*self.args, **self.kwargs)) if isinstance(t, Tensor)]
        if self.found:
            for own, new in zip(self.found, got, strict=True):
                own.copy_(new)


class Tape:
    """What a graph records. Recording runs nothing: afterwards all memory is as before.

    Attributes:
        calls: in order.
        made: storages that operations on the tape have made.
        broken: whether something was not permitted.
    """

    broken = False

    def __init__(self) -> None:
        self.calls: list[_Call] = []
        self.made: set[int] = set()
        self._before: dict[int, tuple[Any, Any]] = {}

    def begin(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], hosts: set[int]) -> _Call:
        """Before an operation: what it overwrites is kept, and what comes from the host copied."""
        if _traits(func).random:
            raise NotImplementedError("random numbers in a recorded graph are not emulated")
        schema = func._schema.arguments
        values = [*zip(schema, args, strict=False), *((a, kwargs[a.name]) for a in schema if a.name in kwargs)]
        for argument, value in values:
            declared = argument.alias_info is not None and argument.alias_info.is_write
            if declared or (argument.name in UNDECLARED and value is not None):
                for t in pytree.tree_leaves(value):
                    self._keep(t)
        leaves = [t for t in pytree.tree_leaves((args, kwargs)) if isinstance(t, Tensor)]
        known = {t.untyped_storage()._cdata for t in leaves}

        def frozen(value: Any) -> Any:
            if not isinstance(value, Tensor):
                return value
            return value.clone() if id(value) in hosts else value.detach()

        own_args, own_kwargs = pytree.tree_map(frozen, (args, kwargs))
        return _Call(self, func, own_args, own_kwargs, known, [])

    def _keep(self, written: Tensor) -> None:
        storage = written.untyped_storage()
        if storage._cdata not in self.made and storage._cdata not in self._before:
            self._before[storage._cdata] = storage, storage.clone()

    def undo(self) -> None:
        """As if nothing had been run."""
        for storage, before in self._before.values():
            storage.copy_(before)
        for call in self.calls:
            call.forget()


class Graph:
    """``torch.cuda.CUDAGraph``."""

    tape: Tape | None = None

    def replay(self) -> None:
        """Repeat what was recorded."""
        assert Emulation.active is not None
        assert self.tape is not None
        Emulation.active.replays += 1
        with torch.no_grad():
            for call in self.tape.calls:
                call.repeat()


@contextmanager
def _recording(graph: Graph, *, capture_error_mode: str = "global") -> Iterator[None]:
    """``torch.cuda.graph``; after an operation that is not permitted its end fails, too, and the stream stays."""
    assert capture_error_mode in ("global", "thread_local")
    emulation = Emulation.active
    assert emulation is not None
    emulation.waits["synchronize"] += 1
    emulation.tape = tape = Tape()
    emulation.stream, before = "recording", emulation.stream
    try:
        yield
    finally:
        emulation.tape = None
        tape.undo()
        if tape.broken:
            raise RuntimeError("CUDA error: operation failed due to a previous error during capture")
        emulation.stream = before
    graph.tape = tape


class _Traits(NamedTuple):
    """What is known of an operation by its name and torch's tags."""

    name: str
    indexing: bool
    elementwise: bool
    takes_scalars: bool
    waits: bool
    product: bool
    deterministic: bool
    random: bool
    reshapes: bool
    fresh: bool


@cache
def _traits(func: Any) -> _Traits:
    name = func.overloadpacket.__name__
    return _Traits(
        name,
        name in INDEXING,
        torch.Tag.pointwise in func.tags,
        name in SCALARS_TOO,
        name in WAITING,
        name in PRODUCTS,
        name not in NOT_DETERMINISTIC and f"{name}.{func._overloadname}" not in NOT_DETERMINISTIC,
        torch.Tag.nondeterministic_seeded in func.tags,
        torch.Tag.inplace_view in func.tags and name != "resize_",
        name in FRESH,
    )


def _refuse(traits: _Traits, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """What no CUDA device computes, or none deterministically.

    Raises:
        RuntimeError: as on CUDA.
    """
    name = traits.name
    if traits.product and not (args[0].is_floating_point() or args[0].is_complex()):
        raise RuntimeError(f'"{name}_cuda" not implemented for {args[0].dtype}')
    if name == "linalg_lstsq" and kwargs.get("driver") not in (None, "gels"):
        raise RuntimeError("torch.linalg.lstsq: parameter `driver` should be one of (gels) on a CUDA device")
    if not traits.deterministic and torch.are_deterministic_algorithms_enabled():
        harmless = {"cumsum": not args[0].is_floating_point(), "bincount": len(args) < 2 and "weights" not in kwargs}
        if not harmless.get(name):
            raise RuntimeError(f"{name}_cuda does not have a deterministic implementation")


def _open(value: Any, tensors: list[Tensor]) -> Any:
    """The same arguments with the tensors that ours hold; all tensors in them are appended to ``tensors``."""
    if isinstance(value, Tensor):
        tensors.append(value)
        return value.held if isinstance(value, CudaTensor) else value
    if isinstance(value, list | tuple):
        return type(value)([_open(part, tensors) for part in value])
    return {k: _open(v, tensors) for k, v in value.items()} if isinstance(value, dict) else value


SLOTS = 64
"""More virtual functions than the interfaces below have."""

_kept: list[Any] = []
"""What C++ may still point to."""


def _constant(kind: Any, value: Any) -> int:
    """Address of a C function that returns a constant."""
    made = ctypes.CFUNCTYPE(kind)(lambda: value)
    _kept.append(made)
    return int(ctypes.cast(made, ctypes.c_void_p).value or 0)


def _library(name: str) -> ctypes.CDLL:
    return ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / name))


def _set_device_guard() -> None:
    """Let C++ switch to the device, which is there by name only.

    Torch replaces a CUDA guard that counts no devices by one that does nothing, but a build without CUDA has none: an
    object all of whose virtual functions return 0 stands in for one that counts no devices.
    """
    guards = (ctypes.c_void_p * 2).in_dll(_library("libc10.so"), "_ZN3c104impl26device_guard_impl_registryE")
    if not guards[1]:
        table = (ctypes.c_void_p * SLOTS)(*[_constant(ctypes.c_int, 0)] * SLOTS)
        stand_in = (ctypes.c_void_p * 1)(ctypes.addressof(table))
        _kept.extend((table, stand_in))
        guards[1] = ctypes.addressof(stand_in)
    torch._C._ensureCUDADeviceGuardSet()


@contextmanager
def _accelerator() -> Iterator[None]:
    """Tell C++ that there is an accelerator: autograd asks for the one that its tensors are on.

    The answer is one virtual function of the CUDA hooks; which one is found by trying, all others return 0.
    """
    hooks_of = _library("libtorch_cpu.so")._ZN2at6detail12getCUDAHooksEv
    hooks_of.restype = ctypes.c_void_p
    hooks = ctypes.c_void_p.from_address(hooks_of())
    before, no, yes = hooks.value, _constant(ctypes.c_int64, 0), _constant(ctypes.c_bool, True)
    assert before is not None
    # a class's name and two destructors are part of the table
    head = (ctypes.c_void_p * 4).from_address(before - 16)
    table = (ctypes.c_void_p * (SLOTS + 2))(*head, *[no] * (SLOTS - 2))
    _kept.append(table)
    try:
        for i in range(4, SLOTS + 2):
            table[i] = yes
            hooks.value = ctypes.addressof(table) + 16
            if str(torch._C._accelerator_getAccelerator()) == "cuda":
                break
            table[i] = no
        else:
            pytest.skip("this build of torch cannot be told that there is a CUDA device")
        yield
    finally:
        hooks.value = before


def _patches(emulation: Emulation) -> dict[str, Any]:
    """What ``torch.cuda`` answers."""
    properties = mock.Mock(total_memory=MEMORY, major=9, minor=0, multi_processor_count=132)
    properties.name = "emulated"

    def synchronize(device: Any = None) -> None:
        emulation._count_wait("synchronize")

    def manual_seed_all(seed: int) -> None:
        emulation.random_state = torch.Generator().manual_seed(seed).get_state()

    def set_rng_state(state: Tensor, device: Any = None) -> None:
        emulation.random_state = state.clone()

    def set_stream(stream: str) -> None:
        emulation.stream = stream

    return {
        "current_stream": lambda device=None: emulation.stream,
        "set_stream": set_stream,
        "_lazy_init": lambda: None,
        "is_available": lambda: True,
        "is_initialized": lambda: True,
        "is_bf16_supported": lambda including_emulation=True: True,
        "device_count": lambda: 1,
        "current_device": lambda: 0,
        "get_device_name": lambda device=None: "emulated",
        "get_device_capability": lambda device=None: (9, 0),
        "get_device_properties": lambda device=None: properties,
        "mem_get_info": lambda device=None: (MEMORY, MEMORY),
        "memory_allocated": lambda device=None: 0,
        "memory_reserved": lambda device=None: 0,
        "max_memory_allocated": lambda device=None: 0,
        "empty_cache": lambda: None,
        "synchronize": synchronize,
        "CUDAGraph": Graph,
        "graph": _recording,
        "manual_seed": manual_seed_all,
        "manual_seed_all": manual_seed_all,
        "get_rng_state": lambda device=None: emulation.random_state.clone(),
        "set_rng_state": set_rng_state,
    }


@contextmanager
def emulated_cuda() -> Iterator[Emulation]:
    """The device, as long as the context lasts; tests are skipped where this build of torch takes none."""
    emulation = Emulation()
    lifts = torch._C._only_lift_cpu_tensors()
    with ExitStack() as stack:
        if not REAL:
            try:
                _set_device_guard()
                stack.enter_context(_accelerator())
            except (OSError, AttributeError, ValueError) as error:
                pytest.skip(f"this build of torch takes no emulated device: {error}")
        for name, answer in _patches(emulation).items():
            stack.enter_context(mock.patch.object(torch.cuda, name, answer))
        # the thread that autograd keeps for a device does not know of the emulation
        stack.enter_context(torch.autograd.set_multithreading_enabled(False))
        # torch.tensor(..., device="cuda") makes a CPU tensor and moves it: two operations that are seen
        torch._C._set_only_lift_cpu_tensors(True)
        stack.callback(torch._C._set_only_lift_cpu_tensors, lifts)
        stack.enter_context(emulation)
        yield emulation
