"""Packs as Ray tasks: on a Ray cluster where there is one, else on a Ray of our own on this machine."""

from __future__ import annotations

import math
import os
import pickle
import signal
import socket
import sys
import threading
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from dd.errors import ConfigError, DDError, StoreError, in_one_line, printable
from dd.executors import Event, Executor
from dd.executors.processes import BASE, GRACE, HOPELESS, needs
from dd.packs.place import ON_GPU, Place, check_device, device_of, measure_of, place_of
from dd.packs.plan import Pack, plan
from dd.packs.rows import Row
from dd.packs.shards import plan_for
from dd.results import Store
from dd.runs.axis import axis
from dd.runs.run import Run
from dd.runs.settings import Settings
from dd.workers import machine
from dd.workers.server import THREADS
from dd.workers.solving import OutOfMemory, PackLost, lost, solve_and_store

if TYPE_CHECKING:
    from ray import ObjectRefGenerator
    from ray.remote_function import RemoteFunction

AHEAD = 64
"""Packs that wait in Ray's queue, so that a node that joins finds work."""

GRAIN = 256 << 20
"""Memory is asked for in multiples of so many bytes: Ray keeps a queue for each amount."""

NODES = 3
"""Times that a pack is tried again as it is when its node is lost; then the pack may be to blame."""

STORE = 100 << 20
"""Bytes of the object store of a Ray of our own: little goes through it but rows."""

ANSWER = 10.0
"""Seconds within which a cluster must answer."""

CARRIED = ("ATEN_CPU_CAPABILITY", "XDG_CACHE_HOME")
"""Variables of the caller's environment that tasks see, beside those of dd."""


@dataclass(frozen=True)
class Ray(Executor):
    """Packs as Ray tasks; a worker or a node that is lost costs its packs alone.

    The nodes find dd, the data and the table under the paths that they have here: on a file system that all share.
    """

    address: str | None = axis(
        None,
        "a cluster's address, as 10.0.0.1:6379; local: start a Ray; null: RAY_ADDRESS, else this machine's, else local",
    )
    cpus: int = axis(1, "cores that a pack takes of a node; it computes on one", low=1)
    packs_per_gpu: int = axis(1, "packs that share a GPU", low=1)

    def ensure(self, settings: Settings) -> None:
        """Make sure that Ray is there. A GPU need not be: nodes may have what this machine lacks.

        Raises:
            ConfigError: it is not.
        """
        if find_spec("ray") is None:
            raise ConfigError("executor", "ray", "needs Ray: pip install 'dd-lab[ray]'")
        check_device(replace(settings, device="cpu"))

    def place(self, settings: Settings) -> Place:
        """A node's, where that has a GPU: a task plans its runs again, for the GPU that it gets."""
        if on_gpu(settings):
            return Place(ON_GPU, measure_of(settings), torch.device("cuda"), settings.trainer)
        return place_of(settings)

    def plan(self, runs: Sequence[Run], settings: Settings) -> list[Pack]:
        """Packs, several for each GPU of the cluster; on a CPU they are small anyway."""
        place = self.place(settings)
        if place.device.type == "cpu":
            return plan(runs, place)
        if settings.n_jobs != "auto":
            return plan_for(int(settings.n_jobs), runs, place)
        import ray

        with self._connected(settings):
            gpus = int(ray.cluster_resources().get("GPU", 1))
        return plan_for(gpus * self.packs_per_gpu, runs, place)

    def execute(self, packs: Sequence[Pack], settings: Settings) -> Generator[Event]:
        """Solve packs as tasks; the events of a pack come when it is written.

        A pack waits in Ray's queue for the cores, the memory and the GPU that it needs; ``n_jobs`` bounds the packs
        that Ray has at a time. If a worker dies, or is not done after ``settings.timeout`` seconds, the runs of a pack
        of several are tried one by one; if a node is lost, the pack is tried as it is. Closing the iterator ends the
        tasks within seconds; of packs under way the finished runs are written.

        Raises:
            DDError: there is no cluster, no node has what a pack needs, or the cluster is lost.
            StoreError: a part could not be written, a node does not see the table, or data are no longer there.
        """
        import ray

        with self._connected(settings):
            tasks = _Tasks(self, settings, packs)
            try:
                while tasks.waiting or tasks.running:
                    yield from tasks.hand_out()
                    yield from tasks.listen()
            except ray.exceptions.RayError as error:
                raise DDError(f"executor=ray: {_told(error)}") from error
            finally:
                tasks.end()

    @contextmanager
    def _connected(self, settings: Settings) -> Iterator[None]:
        """Have a connection to a cluster; one that the caller has is used, and kept.

        Raises:
            DDError: no cluster answers, or none can be started.
        """
        import ray

        if ray.is_initialized():
            yield
            return
        before = signal.getsignal(signal.SIGTERM)
        try:
            self._connect(settings)
            if threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGTERM, before)  # Ray has set its own
            yield
        finally:
            ray.shutdown()

    def _connect(self, settings: Settings) -> None:
        import ray

        given = self.address or os.environ.get("RAY_ADDRESS")
        quiet = {"log_to_driver": False, "logging_level": "ERROR"}
        cores = machine.cores() if settings.n_jobs == "auto" else int(settings.n_jobs)
        own = {"num_cpus": cores * self.cpus, "object_store_memory": STORE, "include_dashboard": False}
        try:
            if given:
                _knock(given)
            try:
                ray.init(self.address, **own, **quiet)
            except ValueError:  # Ray's answer where a cluster is there already
                ray.init(self.address, **quiet)
        except (OSError, RuntimeError, ValueError) as error:
            key = "executor.address" if self.address else "RAY_ADDRESS" if given else "executor"
            refused = "InvalidAuthToken" in str(error.__cause__)
            told = "it asks for a token: set RAY_AUTH_MODE=token (docs/cluster.md)" if refused else _told(error)
            raise ConfigError(key, given or "ray", f"no Ray cluster: {told}") from error


def _knock(address: str) -> None:
    """Make sure that somebody answers at an address: Ray itself would try for ten minutes.

    Raises:
        OSError: nobody does.
        ValueError: it is an address for Ray's client, which has no streams of answers.
    """
    host, _, port = address.rpartition(":")
    if "://" in address:
        raise ValueError("start the command on a node of the cluster; Ray's client does not do")
    if port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), ANSWER).close()


@dataclass
class _Task:
    """A pack that Ray has.

    Attributes:
        pack: the pack.
        nodes: how many nodes were lost with it.
        since: when it started, in seconds of the monotonic clock; None while it waits for a worker.
    """

    pack: Pack
    nodes: int = 0
    since: float | None = None


class _Tasks:
    """Packs that wait, the next one last, and packs that Ray has."""

    def __init__(self, executor: Ray, settings: Settings, packs: Sequence[Pack]) -> None:
        self.settings, self.on_gpu = settings, on_gpu(settings)
        self.waiting = [_Task(pack) for pack in reversed(packs)]
        self.running: dict[ObjectRefGenerator, _Task] = {}
        self._needs = {"CPU": float(executor.cpus)} | ({"GPU": 1 / executor.packs_per_gpu} if self.on_gpu else {})
        self._memory = largest_memory(self._needs)
        self._remote = _remote(self._needs)
        self._there = replace(
            settings,
            device="cuda" if self.on_gpu else "cpu",
            n_jobs=executor.packs_per_gpu if self.on_gpu else 1,
            results_dir=str(Path(settings.results_dir).resolve()),
        )

    def hand_out(self) -> Iterator[Event]:
        """Give packs to Ray, a few more than it has room for; refuse what no node can hold."""
        while self.waiting and len(self.running) < self._most():
            task = self.waiting.pop()
            room = None if self.on_gpu else self._memory  # the memory of a GPU is nothing that Ray counts
            if room is not None and task.pack.bytes > HOPELESS * room:
                yield self._lose(task.pack, OutOfMemory(f"out of memory: {needs(task.pack, room)}"))
                continue
            work = pickle.dumps((task.pack, self._there))
            memory = 0 if room is None else min(-(-(task.pack.bytes + BASE) // GRAIN) * GRAIN, room)
            self.running[self._remote.options(memory=memory).remote(os.getcwd(), sys.path, work)] = task

    def _most(self) -> int:
        """Packs that Ray may have at a time."""
        import ray

        if self.settings.n_jobs != "auto":
            return int(self.settings.n_jobs)
        there = ray.cluster_resources()
        return AHEAD + int(min(there.get(name, 0) / amount for name, amount in self._needs.items()))

    def listen(self) -> Iterator[Event]:
        """Wait until something happens, and tell it."""
        import ray

        if not self.running:
            return
        ready, _ = ray.wait(list(self.running), timeout=self._left())
        for generator in ready:
            yield from self._hear(generator)
        for generator, task in list(self.running.items()):
            if self._end_of(task) <= time.monotonic():
                del self.running[generator]
                ray.cancel(generator, force=True)
                yield self._lose(
                    task.pack, PackLost(f"timeout: not finished after timeout={self.settings.timeout:g} s")
                )

    def _end_of(self, task: _Task) -> float:
        """When the time of a task is over, in seconds of the monotonic clock."""
        return math.inf if task.since is None or self.settings.timeout is None else task.since + self.settings.timeout

    def _left(self) -> float | None:
        """Seconds until the time of the next task is over; None: no task's is."""
        left = min(map(self._end_of, self.running.values())) - time.monotonic()
        return None if math.isinf(left) else max(left, 0.0)

    def _hear(self, generator: ObjectRefGenerator) -> Iterator[Event]:
        """Take one answer of a task, or learn what became of it."""
        import ray

        task = self.running[generator]
        try:
            kind, content = ray.get(next(generator))
        except ray.exceptions.RayTaskError as error:
            raise DDError(f"executor=ray: a node cannot solve packs: {_told(error)}") from error
        except ray.exceptions.RayError as error:
            del self.running[generator]
            if isinstance(error, ray.exceptions.NodeDiedError) and task.nodes < NODES:
                self.waiting.append(_Task(task.pack, task.nodes + 1))
                self._memory = largest_memory(self._needs)  # the node may have been the largest
            elif isinstance(error, ray.exceptions.OutOfMemoryError):
                yield self._lose(task.pack, OutOfMemory(f"out of memory: {needs(task.pack, None)}; {_told(error)}"))
            else:
                yield self._lose(task.pack, PackLost(f"worker process ended: {_told(error)}"))
            return
        if kind == "started":
            task.since = time.monotonic()
            return
        del self.running[generator]
        if kind == "refused":
            raise StoreError(content)
        if kind == "lost":
            yield self._lose(task.pack, PackLost(content))
        else:
            yield from ((task.pack, row) for row in content)

    def _lose(self, pack: Pack, error: PackLost) -> Event:
        """Tell what is lost, and queue what is tried again."""
        what, again = lost(pack, error, set())
        self.waiting += [_Task(one) for one in reversed(again)]
        return pack, what

    def end(self) -> None:
        """End the tasks: those under way may write their finished runs first."""
        import ray

        for generator in self.running:
            ray.cancel(generator)
        until = time.monotonic() + GRACE
        while self.running and (left := until - time.monotonic()) > 0:
            ready, _ = ray.wait(list(self.running), timeout=left)
            for generator in ready:
                try:
                    ray.get(next(generator))
                except (ray.exceptions.RayError, StopIteration):
                    del self.running[generator]
        for generator in self.running:
            ray.cancel(generator, force=True)


def on_gpu(settings: Settings) -> bool:
    """Whether tasks want GPUs: because this machine has one, or because ``device=cuda`` asks for them."""
    return settings.device == "cuda" or device_of(settings).type == "cuda"


def largest_memory(wanted: Mapping[str, float]) -> int:
    """Bytes of memory of the largest node that has some resources.

    Raises:
        DDError: there is no such node; a task would wait for ever.
    """
    import ray

    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    able = [node for node in nodes if all(node.get(name, 0.0) >= amount for name, amount in wanted.items())]
    if not able:
        text = " and ".join(f"{name}={amount:g}" for name, amount in wanted.items())
        there = "; ".join(", ".join(f"{name}={node.get(name, 0.0):g}" for name in wanted) for node in nodes)
        raise DDError(f"executor=ray: a pack needs {text} of one node, and the nodes have {there or 'nothing'}")
    return int(max(node.get("memory", 0.0) for node in able))


def _remote(wanted: Mapping[str, float]) -> RemoteFunction:
    """The task. A worker that has no GPU is used again, and keeps its data sets; one that has is of that GPU alone."""
    import ray

    def solve(folder: str, path: list[str], work: bytes) -> Iterator[tuple[str, object]]:
        # Ray sends a local function as code: dd is imported when the module path is the caller's
        import contextlib
        import os
        import sys

        with contextlib.suppress(OSError):
            os.chdir(folder)
        sys.path[:] = path
        from dd.executors.ray import answers

        yield from answers(folder, work)

    carried = {name: os.environ[name] for name in os.environ if name.startswith("DD_") or name in CARRIED}
    return ray.remote(
        num_cpus=wanted["CPU"],
        num_gpus=wanted.get("GPU", 0),
        num_returns="streaming",
        max_retries=0,
        runtime_env={"env_vars": carried | dict.fromkeys(THREADS, "1")},
    )(solve)


def answers(folder: str, work: bytes) -> Iterator[tuple[str, object]]:
    """Solve a pack on a node, and write it.

    Args:
        folder: the caller's working directory.
        work: the pack and the settings, pickled.

    Yields:
        ``("started", None)``; then ``("done", rows)``, ``("refused", line)`` where the user can mend it, or
        ``("lost", line)``.
    """
    pack, settings = pickle.loads(work)
    yield "started", None
    node = os.uname().nodename
    for seen in (Path(folder), Store(settings.results_dir, settings.name).runs):
        if not seen.is_dir():
            yield "refused", f"executor=ray: the node {node} does not see {seen}"
            return
    rows: list[Row] = []
    try:
        check_device(settings)
        packs = plan(pack.runs, place_of(settings)) if settings.device == "cuda" else [pack]
        for part in packs:
            solve_and_store(part, settings, rows.append)
    except DDError as error:
        yield "refused", f"{error} (node {node})"
    except Exception as error:
        yield "lost", in_one_line(error)
    else:
        yield "done", rows


def _told(error: Exception) -> str:
    """What Ray says, in one line: of a task's traceback the last one."""
    lines = [line for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return printable(lines[-1 if "Traceback" in lines[0] or "::" in lines[0] else 0])
