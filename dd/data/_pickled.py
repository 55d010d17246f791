"""Reader of the pickles that CIFAR comes in: an interpreter of few opcodes that runs nothing and names nothing.

Python's own unpickler takes memory as the file asks for it (a byte in the file can be a list of 56 bytes, an index
into its memo a table of gigabytes) and calls what the file names. This one knows numbers, bytes, text, lists, tuples
and dictionaries; what NumPy wrote as calls becomes :class:`Array`. Memory is bounded by the content's length and the
number of opcodes.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Kind = TypeVar("Kind")

MOST_OPCODES = 500_000
"""A batch of CIFAR has about 50,000."""

CALLS = {
    ("numpy.core.multiarray", "_reconstruct"): "array",
    ("numpy._core.multiarray", "_reconstruct"): "array",
    ("numpy", "ndarray"): "type",
    ("numpy", "dtype"): "dtype",
    ("_codecs", "encode"): "encode",
}
"""What a pickle may name, and what is done in its place."""


@dataclass
class Array:
    """An array before its content is known, and its state once it is."""

    state: object = None

    def values(self) -> NDArray[np.integer]:
        """The array.

        Raises:
            ValueError: its state does not describe an array of integers.
        """
        match self.state:
            case (int(), tuple(shape), Dtype(name), int(fortran), bytes(raw)):
                dtype = np.dtype(name)
                sizes = [n for n in shape if isinstance(n, int) and not isinstance(n, bool) and n >= 0]
                if len(sizes) == len(shape) <= 4 and math.prod(sizes) * dtype.itemsize == len(raw):
                    return np.frombuffer(raw, dtype).reshape(sizes, order="F" if fortran else "C")
        raise ValueError("an array whose size is not that of its data")


@dataclass
class Dtype:
    """Type of an array's elements: an integer, little-endian where its state does not say otherwise."""

    name: str


class _Mark:
    """Start of the items of a list, tuple or dictionary on the stack."""


@dataclass(frozen=True)
class _Named:
    kind: str


class _Reader:
    """One pass over a pickle."""

    def __init__(self, content: bytes) -> None:
        self.content = memoryview(content)
        self.at = 0
        self.stack: list[object] = []
        self.memo: dict[int, object] = {}
        self.encoded = 0

    def take(self, count: int) -> memoryview:
        if count < 0 or count > len(self.content) - self.at:
            raise ValueError("it ends within an item")
        self.at += count
        return self.content[self.at - count : self.at]

    def number(self, layout: str) -> int:
        return int(struct.unpack(layout, self.take(struct.calcsize(layout)))[0])

    def line(self) -> str:
        end = bytes(self.content[self.at : self.at + 256]).find(b"\n")
        if end < 0:
            raise ValueError("a name without an end")
        return bytes(self.take(end + 1))[:-1].decode("ascii")

    def since_mark(self) -> list[object]:
        for i in range(len(self.stack) - 1, -1, -1):
            if self.stack[i] is _Mark:
                items = self.stack[i + 1 :]
                del self.stack[i:]
                return items
        raise ValueError("items without a start")

    def last(self, kind: type[Kind]) -> Kind:
        found = self.stack[-1] if self.stack else None
        if not isinstance(found, kind):
            raise ValueError(f"no {kind.__name__} where one belongs")
        return found

    def pop(self) -> object:
        if not self.stack or self.stack[-1] is _Mark:
            raise ValueError("an item is missing")
        return self.stack.pop()

    def tuple_of(self, count: int) -> None:
        items = [self.pop() for _ in range(count)]
        self.stack.append(tuple(reversed(items)))

    def name(self, module: object, name: object) -> None:
        if not isinstance(module, str) or not isinstance(name, str):
            raise ValueError("a name that is no text")
        if (module, name) not in CALLS:
            raise ValueError(f"pickle names {module:.60}.{name:.60}")
        self.stack.append(_Named(CALLS[module, name]))

    def call(self) -> None:
        arguments, what = self.pop(), self.pop()
        if not isinstance(what, _Named) or not isinstance(arguments, tuple):
            raise ValueError("it calls what is no function")
        match what.kind, arguments:
            case "array", (_Named("type"), (0,), _):
                self.stack.append(Array())
            case "dtype", (str() | bytes() as name, *_):
                text = name.decode("ascii") if isinstance(name, bytes) else name
                if not re.fullmatch(r"[<>|=]?[iu][1248]", text):
                    raise ValueError(f"an array of {text:.20}")
                self.stack.append(Dtype(text))
            case "encode", (str(text), str("latin1" | "latin-1" | "iso-8859-1")):
                self.encoded += len(text)  # one text may be encoded again and again
                if self.encoded > len(self.content):
                    raise ValueError("more text than it holds")
                self.stack.append(text.encode("latin-1"))
            case _:
                raise ValueError(f"a call of {what.kind} that NumPy does not write")

    def build(self) -> None:
        state, target = self.pop(), self.stack[-1] if self.stack else None
        if isinstance(target, Array) and target.state is None:
            target.state = state
        elif isinstance(target, Dtype) and isinstance(state, tuple) and len(state) > 1:
            order = state[1].decode("ascii") if isinstance(state[1], bytes) else state[1]
            if order not in ("<", ">", "|", "="):
                raise ValueError("a byte order that there is not")
            target.name = order.replace("=", "<") + target.name.lstrip("<>|=")
        else:
            raise ValueError("a state of what has none")

    def set_items(self, items: list[object], target: dict[object, object]) -> None:
        for key, value in zip(items[::2], items[1::2], strict=True):
            if not isinstance(key, bytes | str | int):
                raise ValueError("a key that is no text")
            target[key] = value

    def set_item(self) -> None:
        value, key = self.pop(), self.pop()
        self.set_items([key, value], self.last(dict))

    def extend(self, items: list[object]) -> None:
        self.last(list).extend(items)

    def append(self) -> None:
        value = self.pop()
        self.last(list).append(value)

    def keep(self, index: int) -> None:
        if not self.stack:
            raise ValueError("an item is missing")
        self.memo[index] = self.stack[-1]

    def recall(self, index: int) -> None:
        if index not in self.memo:
            raise ValueError("a reference to nothing")
        self.stack.append(self.memo[index])

    def push(self, value: object) -> None:
        self.stack.append(value)

    def load(self) -> object:
        for _ in range(MOST_OPCODES):
            code = bytes(self.take(1))
            if code == b".":
                return self.pop()
            step = OPCODES.get(code)
            if step is None:
                raise ValueError(f"opcode {code!r}")
            step(self)
        raise ValueError(f"more than {MOST_OPCODES} opcodes")


OPCODES: dict[bytes, Callable[[_Reader], object]] = {
    b"\x80": lambda r: r.take(1),  # protocol
    b"\x95": lambda r: r.take(8),  # frame
    b"(": lambda r: r.push(_Mark),
    b"N": lambda r: r.push(None),
    b"\x88": lambda r: r.push(True),
    b"\x89": lambda r: r.push(False),
    b"K": lambda r: r.push(r.number("<B")),
    b"M": lambda r: r.push(r.number("<H")),
    b"J": lambda r: r.push(r.number("<i")),
    b"\x8a": lambda r: r.push(int.from_bytes(r.take(r.number("<B")), "little", signed=True)),
    b"U": lambda r: r.push(bytes(r.take(r.number("<B")))),
    b"T": lambda r: r.push(bytes(r.take(r.number("<i")))),
    b"C": lambda r: r.push(bytes(r.take(r.number("<B")))),
    b"B": lambda r: r.push(bytes(r.take(r.number("<I")))),
    b"\x8e": lambda r: r.push(bytes(r.take(r.number("<Q")))),
    b"\x8c": lambda r: r.push(str(r.take(r.number("<B")), "utf-8")),
    b"X": lambda r: r.push(str(r.take(r.number("<I")), "utf-8")),
    b"]": lambda r: r.push([]),
    b"}": lambda r: r.push({}),
    b")": lambda r: r.push(()),
    b"\x85": lambda r: r.tuple_of(1),
    b"\x86": lambda r: r.tuple_of(2),
    b"\x87": lambda r: r.tuple_of(3),
    b"t": lambda r: r.push(tuple(r.since_mark())),
    b"a": lambda r: r.append(),
    b"e": lambda r: r.extend(r.since_mark()),
    b"s": lambda r: r.set_item(),
    b"u": lambda r: r.set_items(r.since_mark(), r.last(dict)),
    b"q": lambda r: r.keep(r.number("<B")),
    b"r": lambda r: r.keep(r.number("<I")),
    b"\x94": lambda r: r.keep(len(r.memo)),
    b"h": lambda r: r.recall(r.number("<B")),
    b"j": lambda r: r.recall(r.number("<I")),
    b"c": lambda r: r.name(r.line(), r.line()),
    b"\x93": lambda r: r.name(*reversed((r.pop(), r.pop()))),
    b"R": lambda r: r.call(),
    b"b": lambda r: r.build(),
}
"""What is done for each opcode of Python's pickle protocols 2 to 4."""


def read_pickle(content: bytes) -> object:
    """Read a pickle of plain containers and NumPy arrays of integers (each an :class:`Array`).

    Raises:
        ValueError: it holds something else, or is damaged.
    """
    return _Reader(content).load()
