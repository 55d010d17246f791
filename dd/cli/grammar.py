"""What is typed after ``python -m dd.run``: Hydra's grammar, with exact ranges and with names kept as typed."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from functools import cache
from random import shuffle
from typing import Protocol

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser, create_functions
from hydra.core.override_parser.overrides_visitor import HydraErrorListener
from hydra.core.override_parser.types import RangeSweep
from hydra.errors import HydraException
from hydra.grammar.gen.OverrideLexer import InputStream, OverrideLexer  # type: ignore[attr-defined]

from dd.errors import ConfigError
from dd.runs.axis import Axis
from dd.runs.registry import GROUPS, option_axes
from dd.runs.run import core_axes
from dd.runs.settings import setting_axes

CASTS = ("int", "float", "str", "bool")
"""Functions of the grammar that turn values into another type."""

PASSING = {"choice", "shuffle", "sort", "tag", "str"}
"""Functions that hand words on as they are."""

BARE = re.compile(r"(?i)[-+]?(\d|\.\d|inf|nan)|true|false|null")
"""How a value begins that Hydra reads as something else than text."""


MARKED = re.compile(r"""['"\[\](){}$\\]""")
"""What a value has that is more than names with commas between them."""

OWN = re.compile(r"\b(logrange|zip)\(")
"""Functions that Hydra does not have."""

TOGETHER = "zip"
"""Tag of the sweeps that advance together."""

MOST = 500_000
"""Values of a ``logrange`` at most."""


@dataclass
class Range(RangeSweep):
    """``range(start,stop,step)``: start + i·step, the stop excluded, in exact decimal arithmetic.

    Hydra 1.3 adds up in binary (``range(0.1,0.4,0.1)`` has four values), and its ``sort`` takes the wrong end of a
    range that does not land on its stop. Nothing is expanded before somebody iterates.

    Attributes:
        descending: the order that ``sort`` asks for; None: as typed.
        converted: casts, applied to each value.
    """

    descending: bool | None = None
    converted: tuple[Callable[[object], object], ...] = ()

    @property
    def count(self) -> int | float:
        """Number of values; infinity where there is no end."""
        start, stop, step = self.start, self.stop, self.step
        if start is None or stop is None or not step or not (_finite(start) and _finite(step)) or stop != stop:
            return 0
        if not _finite(stop):
            return math.inf if (stop > 0) == (step > 0) else 0
        return max(0, math.ceil(Fraction(_exact(stop) - _exact(start)) / _exact(step)))

    def __iter__(self) -> Iterator[object]:
        """Values, integers where start and step are, shuffled if asked for."""
        count = int(self.count)
        assert self.start is not None
        indices: Iterable[int] = range(count)
        if self.shuffle:
            shuffle(indices := list(indices))
        elif self.descending is not None and self.descending != (self.step < 0):
            indices = reversed(range(count))
        start, step = _exact(self.start), _exact(self.step)
        whole = all(isinstance(v, int) for v in (self.start, self.stop, self.step))
        if whole:
            start, step = int(start), int(step)
        for i in indices:
            value: object = start + i * step if whole else float(start + i * step)
            for convert in self.converted:
                value = convert(value)
            yield value


def _finite(value: float) -> bool:
    return isinstance(value, int) or math.isfinite(value)


def _exact(value: float) -> Fraction | int:
    """A number as it was typed: 0.1 is a tenth."""
    return int(value) if isinstance(value, int) else Fraction(Decimal(repr(float(value))))


def parser(loader: ConfigLoader | None = None) -> OverridesParser:
    """Hydra's parser, its ranges replaced by :class:`Range`.

    Args:
        loader: lists the files of a group for ``glob``.
    """
    functions = create_functions()
    stock = dict(functions.functions)

    def exact_range(start: float, stop: float | None = None, step: float = 1) -> Range:
        return Range(start=0, stop=start, step=step) if stop is None else Range(start=start, stop=stop, step=step)

    def sort(*args: object, sweep: object = None, list: object = None, reverse: bool = False) -> object:
        target = sweep if sweep is not None else args[0] if len(args) == 1 else None
        if isinstance(target, Range):
            return dataclasses.replace(target, descending=reverse, shuffle=False)
        found = stock["sort"](*args, sweep=sweep, list=list, reverse=reverse)
        if hasattr(found, "shuffle"):
            found.shuffle = False  # sort(shuffle(...)) is sorted
        return found

    def cast(function: Callable[..., object]) -> Callable[..., object]:
        def converted(*args: object, value: object = None) -> object:
            target = value if value is not None else args[0] if len(args) == 1 else None
            if isinstance(target, Range):
                return dataclasses.replace(target, converted=(*target.converted, function))
            return function(*args, value=value)

        return converted

    functions.functions.update({"range": exact_range, "sort": sort})
    functions.functions.update({name: cast(stock[name]) for name in CASTS})
    return OverridesParser(functions, loader)


def as_typed(argument: str) -> str:
    """An override whose value is text is kept as it is typed: quoted where Hydra would read a number.

    ``name=1.10`` would be the table 1.1, ``name=2024_01_01`` the table 20240101.

    >>> as_typed("name=1.10"), as_typed("width=1_0"), as_typed("name=1.10,true")
    ("name='1.10'", 'width=1_0', "name='1.10','true'")

    Names with commas between them are one value where a value is a list.

    >>> as_typed("data.classes=0,6"), as_typed("data.classes=[0,6],[1,7]")
    ("data.classes='0,6'", 'data.classes=[0,6],[1,7]')
    """
    key, equals, value = argument.partition("=")
    if equals and OWN.search(value):
        value = spelled(key.lstrip("+~"), value)
        argument = f"{key}={value}"
    if equals and "," in value and not MARKED.search(value) and key.lstrip("+") in _listed():
        return f"{key}='{value}'"
    if not equals or (value.isascii() and not BARE.search(value)):
        return argument
    nullable = _is_text(key.lstrip("+"))
    if nullable is None:
        return argument
    try:
        tokens = _tokens(value)
    except HydraException:
        # Hydra knows ASCII alone outside of quotes; of all else the parser tells what is wrong
        return argument if value.isascii() or "'" in value else f"{key}='{value}'"
    words = {OverrideLexer.INT, OverrideLexer.FLOAT, OverrideLexer.BOOL}
    if not nullable:
        words.add(OverrideLexer.NULL)
    ends = {OverrideLexer.COMMA, OverrideLexer.POPEN, OverrideLexer.PCLOSE, None}
    kinds = [None, *(token.type for token in tokens), None]
    calls: list[str] = []
    out, done = [], 0
    for i, token in enumerate(tokens):
        if token.type == OverrideLexer.POPEN:
            calls.append(tokens[i - 1].text if i else "")
        elif token.type == OverrideLexer.PCLOSE and calls:
            calls.pop()
        elif token.type in words and kinds[i] in ends and kinds[i + 2] in ends and PASSING.issuperset(calls):
            out += [value[done : token.start], f"'{token.text}'"]
            done = token.stop + 1
    return f"{key}={''.join(out)}{value[done:]}"


def spelled(key: str, value: str) -> str:
    """A value whose ``logrange`` and ``zip`` are spelled in functions that Hydra has.

    >>> spelled("lr", "logrange(1e-3,1,4)"), spelled("width", "logrange(1,4,9)")
    ('choice(0.001,0.01,0.1,1.0)', 'choice(1,2,3,4)')
    >>> spelled("width", "zip(1,2)"), spelled("width", "zip(range(1,3))")
    ('tag(zip,choice(1,2))', 'tag(zip,range(1,3))')

    Raises:
        ConfigError: a ``logrange`` without values.
    """
    try:
        tokens = _tokens(value)
    except HydraException:
        return value  # the parser tells what is wrong
    closing = _closing(tokens)
    changes: list[tuple[int, int, str]] = []  # from, to (excluded), by what
    for i, close in closing.items():
        name, first, last = tokens[i - 1], tokens[i], tokens[close]
        if name.text == "logrange":
            listed = _choice(key, value[first.stop + 1 : last.start].split(","))
            beside = {token.text for token in (*tokens[i - 2 : i - 1], *tokens[close + 1 : close + 2])}
            changes.append((name.start, last.stop + 1, listed if "," in beside else f"choice({listed})"))
        elif name.text == TOGETHER:
            one_call = closing.get(i + 2) == close - 1
            changes.append((name.start, first.stop + 1, "tag(zip," if one_call else "tag(zip,choice("))
            changes.append((last.start, last.stop + 1, ")" if one_call else "))"))
    for start, stop, text in sorted(changes, reverse=True):
        value = value[:start] + text + value[stop:]
    return value


def _closing(tokens: Sequence[_Token]) -> dict[int, int]:
    """Of the parentheses that follow the name of a function: where each one closes."""
    opened, found = [], {}
    for i, token in enumerate(tokens):
        if token.type == OverrideLexer.POPEN:
            opened.append(i)
        elif token.type == OverrideLexer.PCLOSE and opened:
            found[opened.pop()] = i
    return {i: close for i, close in found.items() if i and tokens[i - 1].type == OverrideLexer.ID}


def _choice(key: str, words: Sequence[str]) -> str:
    """The values of ``logrange``, as a list: integers, each once, where the key takes integers."""
    given = f"logrange({','.join(words)})"
    try:
        start, stop, count = map(float, words)
        if count != int(count) or not 2 <= count <= MOST:
            raise ValueError(f"the count must be an integer from 2 to {MOST}")
        values: Iterable[float] = log_spaced(start, stop, int(count))
    except (ValueError, OverflowError) as error:
        said = str(error) if "must" in str(error) else "must be numbers"
        raise ConfigError(key, given, f"is logrange(start,stop,count): {said}", "the command line") from None
    if _kinds().get(key) is int:
        values = dict.fromkeys(map(round, values))
    return ",".join(map(str, values))


def log_spaced(start: float, stop: float, count: int) -> list[float]:
    """So many numbers from one to another, both ends included, each by the same factor from the one before.

    >>> log_spaced(1e-3, 10, 5)
    [0.001, 0.01, 0.1, 1.0, 10.0]

    Raises:
        ValueError: an end is not positive.
    """
    if not (0 < start < math.inf and 0 < stop < math.inf):
        raise ValueError("start and stop must be positive")
    inner = (start * (stop / start) ** (i / (count - 1)) for i in range(1, count - 1))
    return [float(f"{value:.12g}") for value in (start, *inner, stop)]


class _Token(Protocol):
    """A token of Hydra's lexer, which comes from another package in each version."""

    type: int
    text: str
    start: int
    stop: int


def _tokens(value: str) -> list[_Token]:
    """Tokens of a value, without whitespace."""
    lexer = OverrideLexer(InputStream(value))
    lexer.removeErrorListeners()
    lexer.addErrorListener(HydraErrorListener())
    lexer.mode(OverrideLexer.VALUE_MODE)
    return [token for token in lexer.getAllTokens() if token.type != OverrideLexer.WS]


@cache
def _listed() -> frozenset[str]:
    """Keys whose values are lists."""
    core = {axis.key for axis in core_axes().values() if axis.listed}
    return frozenset(core | {key for key, axis in option_axes() if axis.listed})


@cache
def _kinds() -> Mapping[str, type]:
    """Types of the values of all keys that are no groups."""
    axes = {axis.key: axis for axis in (*core_axes().values(), *setting_axes())}
    return {key: axis.kind for key, axis in (axes | dict(option_axes(tuple(GROUPS)))).items()}


def _is_text(key: str) -> bool | None:
    """Whether a key of free text may be null; None for any other key."""
    group, dot, _ = key.partition(".")
    axis = _texts(tuple((axis.key, axis) for axis in setting_axes())).get(key)
    if axis is None and dot and group in GROUPS:
        axis = _texts(option_axes(tuple(GROUPS))).get(key)
    return axis.nullable if axis is not None else None


@cache
def _texts(axes: tuple[tuple[str, Axis], ...]) -> Mapping[str, Axis]:
    """Axes of free text by their full key."""
    return {key: axis for key, axis in axes if axis.kind is str and not axis.choices}
