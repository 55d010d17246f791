"""Component: what a name on the command line stands for, with its options as typed fields."""

from __future__ import annotations

from abc import ABC
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar, Self

from dd.runs.axis import Axis, Scope, Value, axes_of

if TYPE_CHECKING:
    from dd.runs.run import OriginOf, Run


class Component(ABC):
    """Base of everything that a name on the command line stands for: a frozen dataclass whose fields are its options.

    Attributes:
        name: the name: of the module or package that defines it, or ``class Mine(UpdateRule, name="mine")``.
    """

    name: ClassVar[str]

    def __init_subclass__(cls, name: str | None = None) -> None:
        super().__init_subclass__()
        inside = cls.__module__.split(".")
        cls.name = name or (inside[2] if inside[0] == "dd" and len(inside) > 2 else cls.__name__.lower())

    @classmethod
    def withdraw(cls, claims: Mapping[str, object], methods: Sequence[str]) -> None:
        """Take back what a class above has said of its own methods, where a class below it has other ones.

        Args:
            claims: class attributes, and what holds where nobody claims anything.
            methods: those that the claims are about.
        """

        def depth(label: str) -> int:
            return next(i for i, above in enumerate(cls.__mro__) if label in vars(above))

        own = min((depth(method) for method in methods if hasattr(cls, method)), default=len(cls.__mro__))
        for claim, neutral in claims.items():
            if depth(claim) > own:
                setattr(cls, claim, neutral)

    @classmethod
    def axes(cls) -> dict[str, Axis]:
        """Options by field name; ``Axis.key`` is the key below the group (``beta1`` of ``optimizer``)."""
        return axes_of(cls)

    def values(self) -> dict[str, Value]:
        """Options by the key below the group."""
        return {axis.key: getattr(self, field) for field, axis in self.axes().items()}

    @cached_property
    def said(self) -> dict[str, Value]:
        """Options at other values than their neutral ones, by the key below the group; not those that say where."""
        own = ((axis, getattr(self, field)) for field, axis in self.axes().items() if axis.scope is not Scope.WHERE)
        return {axis.key: value for axis, value in own if value != axis.default}

    def canonical(self) -> Self:
        """The component with options reset that have no effect beside the others."""
        return self

    def settle(self, run: Run, origin: OriginOf) -> Run:
        """Replace options that stand for something else (``auto``) by what they mean for this run.

        Seeds decide nothing here and in :meth:`check`: of runs that differ in seeds alone one is asked.

        Raises:
            ConfigError: there is nothing that they could mean.
        """
        return run

    def check(self, run: Run, origin: OriginOf) -> None:  # noqa: B027  # most components take all runs
        """Refuse a run that this component cannot take part in.

        Raises:
            ConfigError: naming the key, the value and what is allowed.
        """
