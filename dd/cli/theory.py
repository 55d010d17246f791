"""``python -m dd.theory``: what random-matrix theory predicts, as CSV."""

from __future__ import annotations

import csv
import itertools
import math
import re
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, NoReturn

from dd.cli.grammar import Range, log_spaced
from dd.cli.terminal import Steady, ended, steady
from dd.errors import ConfigError
from dd.runs.axis import Axis, Value, axes_of, axis
from dd.theory import isotropic as inputs_theory
from dd.theory.activations import FUNCTIONS, Coefficients, coefficients
from dd.theory.edges import edges, feature_condition
from dd.theory.flow import flow_risk
from dd.theory.random_features import Risk, ridge_risk
from dd.theory.spectrum import FeatureSpectrum, isotropic

HEAD = """\
python -m dd.theory random_features|isotropic|flow|edges [key=value ...]

Print what random-matrix theory predicts as CSV, one line a point: first the keys, then the results. A value may be a
list (1,2,3), range(start,stop,step) with the stop excluded, logrange(start,stop,count) with both ends, or a list of
these; several such keys make all combinations, the last one changing fastest. Quote parentheses in a shell. inf is
infinite, nan is unknown. docs/theory.md has the formulas, and says how dd's own keys convert.
"""

TAIL = "Exit code 0, 2 for bad input.\n"

ORIGIN = "the command line"

MOST = 1_000_000
"""Values of one key at most."""

RATIO = 1e4
"""Largest ratio of features, samples and inputs; far beyond, roots are lost to rounding."""

LEAST_RIDGE = 1e-15
"""Smallest ridge but 0: at the threshold, where errors grow like its square root, less is lost to rounding."""

LONGEST = 1e12
"""Latest time; later, the flow is the solution without ridge to all digits but at the threshold."""

ERRORS = {
    "excess_test": "mean squared error on new inputs against targets without noise: bias + variance",
    "test": "the same against noisy targets: excess_test + noise",
    "train": "mean squared error on the training samples, noise included; without any penalty",
    "bias": "the part of excess_test that is there without noise on the training targets",
    "variance": "the part of it that comes from that noise",
}


def _ratio(default: float, meaning: str) -> float:
    return axis(default, meaning, low=1 / RATIO, high=RATIO)


def _power(default: float, meaning: str) -> float:
    return axis(default, meaning, low=0, high=1e12)


def _ridge(meaning: str) -> float:
    return axis(0.0, f"{meaning}; 0 is the min-norm solution, else >= {LEAST_RIDGE:g}", low=0, high=1e12)


def _check_ridge(ridge: float) -> None:
    if 0 < ridge < LEAST_RIDGE:
        raise ConfigError("ridge", ridge, f"must be 0, or >= {LEAST_RIDGE:g}", ORIGIN)


class Prediction(ABC):
    """One point of a subcommand; subclasses are dataclasses whose fields are its keys."""

    summary: ClassVar[str]
    """What it is, for ``--help``."""
    columns: ClassVar[Mapping[str, str]]
    """Results with their meanings."""
    example: ClassVar[str]

    def check(self) -> None:  # noqa: B027 (most keys always go together)
        """Raise ConfigError where keys do not go together."""

    @abstractmethod
    def values(self) -> dict[str, float]:
        """The results, in the order of ``columns``."""


@dataclass(frozen=True)
class _Features(Prediction):
    """Random features of isotropic inputs."""

    activation: str = axis("relu", "activation of the features", choices=(*FUNCTIONS, "cosine"))
    bandwidth: float | None = axis(None, "length scale of activation=cosine, 1 where not given", low=1e-2, high=1e2)
    psi1: float = _ratio(1.0, "features/inputs, N/d")
    psi2: float = _ratio(2.0, "samples/inputs, n/d")

    @property
    def coefficients(self) -> Coefficients:
        """Of the activation."""
        return coefficients(self.activation, bandwidth=self.bandwidth or 1.0)


@dataclass(frozen=True)
class _Learned(_Features):
    """... and what they learn."""

    signal: float = _power(1.0, "power F1^2 of the linear part of the target, |b|^2 of <b, x>")
    nonlinear: float = _power(0.0, "power F*^2 of its nonlinear part, which acts as noise and stays in excess_test")
    noise: float = _power(0.0, "variance tau^2 of the noise on targets (dd's data.noise is its square root)")

    @property
    def spectrum(self) -> FeatureSpectrum:
        """In units of inputs, d = 1: the limit knows ratios alone."""
        return isotropic(self.coefficients, 1, (self.signal, self.nonlinear), centred=True)


@dataclass(frozen=True)
class RandomFeatures(_Learned):
    """Ridge regression on random features, in the units of Mei & Montanari."""

    ridge: float = _ridge("lambda of the loss above, in Mei & Montanari's units")

    summary = """\
Ridge regression on N random features of d inputs from n samples, for d, n, N -> infinity (Mei & Montanari,
arXiv 1908.05355): f(x) = sum_i a_i act(<w_i, x>), |w_i| = 1, |x|^2 = d, a minimises
    (1/n) sum_j (y_j - f(x_j))^2 + (N ridge/d) |a|^2
In dd: ridge = optimizer.penalty * d/(n N) with d = inputs, N = width, n = n_train."""
    columns = ERRORS
    example = "activation=erf psi1=1.8 psi2=2 ridge=1e-3 signal=1 noise=0.25"

    def check(self) -> None:
        """A ridge that can be resolved."""
        _check_ridge(self.ridge)

    def values(self) -> dict[str, float]:
        """Errors."""
        return _errors(ridge_risk(self.spectrum, self.psi2, self.psi1, self.psi2 * self.ridge, self.noise))


@dataclass(frozen=True)
class Flow(_Learned):
    """Gradient flow on random features."""

    time: float = axis(1.0, "time t/d of the flow in units of inputs", low=1e-9, high=LONGEST)
    start: float = _power(0.0, "variance of the entries of w(0); outputs then begin with variance start * E act^2")

    summary = """\
Gradient flow on the read-out w of N random features of d inputs from n samples, for d, n, N -> infinity:
dw/dt = -grad L, L = (1/2n) |Z w - y|^2, Z = act(X W^T)/sqrt(N), rows of W of norm 1, |x|^2 = d.
In dd: time = 2 * lr_absolute * steps * N/(C d) for gd, sgd (full batch) and gradient_flow on C outputs."""
    columns = ERRORS
    example = "activation=tanh psi1=2 psi2=2 'time=logrange(0.1,1e5,7)' noise=0.25"

    def values(self) -> dict[str, float]:
        """Errors."""
        return _errors(flow_risk(self.spectrum, self.psi2, self.psi1, self.time, self.noise, self.start))


@dataclass(frozen=True)
class Isotropic(Prediction):
    """Least squares on the inputs themselves."""

    gamma: float | None = axis(None, "inputs/samples, p/n; or give n and p", low=1 / RATIO, high=RATIO)
    n: int | None = axis(None, "samples, with p instead of gamma", low=1)
    p: int | None = axis(None, "inputs, with n instead of gamma", low=1)
    ridge: float = _ridge("penalty of the loss above, per sample")
    time: float | str = axis(
        "inf", "time of gradient flow from 0 on (1/2n) |y - X b|^2 instead of ridge", low=0, high=1e9, words=("inf",)
    )
    signal: float = _power(1.0, "|beta|^2 of the target <beta, x>")
    noise: float = _power(0.0, "variance of the noise on targets (dd's data.noise is its square root)")

    summary = """\
Least squares on p inputs N(0, I) from n samples, for n, p -> infinity (Hastie et al., arXiv 1903.08560): b minimises
    (1/n) |y - X b|^2 + ridge |b|^2
In dd (model=linear): ridge = optimizer.penalty/n on inputs as they are; time = 2 * lr_absolute * steps/C."""
    columns = {"gamma": "p/n, where n and p are given"} | ERRORS
    example = "gamma=0.5,2 ridge=0,1e-3,0.1 noise=0.25"

    def check(self) -> None:
        """A ratio, in one way; a ridge or a time."""
        if (self.gamma is None) == (self.n is None) or (self.n is None) != (self.p is None):
            raise ConfigError("gamma", self.gamma, "needs gamma, or n and p, and not both", ORIGIN)
        if self.n is not None and self.p is not None and not 1 / RATIO <= self.p / self.n <= RATIO:
            raise ConfigError("p", self.p, f"must be {1 / RATIO:g} to {RATIO:g} times n", ORIGIN)
        _check_ridge(self.ridge)
        if self.ridge > 0 and self.time != "inf":
            raise ConfigError("ridge", self.ridge, "must be 0 beside a time: the flow has no ridge", ORIGIN)

    def values(self) -> dict[str, float]:
        """Errors, the ratio first where it was not given."""
        ratio = self.gamma
        found = {}
        if ratio is None:
            assert self.n is not None
            assert self.p is not None
            found["gamma"] = ratio = self.p / self.n
        if self.time == "inf":
            errors = inputs_theory.ridge_errors(ratio, self.ridge, self.noise, self.signal)
        else:
            errors = inputs_theory.flow_errors(ratio, float(self.time), self.noise, self.signal)
        return found | _errors(errors)


@dataclass(frozen=True)
class Edges(_Features):
    """Ends of the spectrum of random features."""

    dim: int | str = axis(
        100, "inputs d, which outlier and threshold depend on; inf is the limit", low=10, high=1e9, words=("inf",)
    )

    summary = """\
Ends of the nonzero eigenvalues of Z Z^T, Z = act(X W^T)/sqrt(N), n x N as above, and the condition number of Z (dd's
feature_condition). Divided by n they are the curvatures of the loss of flow."""
    columns: ClassVar[Mapping[str, str]] = {
        "lowest": "lower edge; 0 at psi1 = psi2, nan where act is linear and N, n > d",
        "highest": "upper edge of the bulk",
        "outlier": "eigenvalue of the features' mean above it, of order n; nan where there is none",
        "condition": "sqrt(largest/lowest); at psi1 = psi2 the median, which grows like n",
    }
    example = "activation=tanh,relu psi1=0.5,2,4 psi2=2 dim=200"

    def check(self) -> None:
        """A sample and a feature at least."""
        for key, ratio in (("psi1", self.psi1), ("psi2", self.psi2)):
            if self.dim != "inf" and ratio * int(self.dim) < 1:
                raise ConfigError(key, ratio, f"must be >= 1/dim, here {1 / int(self.dim):g}", ORIGIN)

    def values(self) -> dict[str, float]:
        """Edges and condition number."""
        limit = self.dim == "inf"
        # the limit knows ratios alone; two inputs are no single direction
        dim = 2 if limit else int(self.dim)
        spectrum = isotropic(self.coefficients, dim, centred=limit)
        n, p = self.psi2 * dim, self.psi1 * dim
        found = edges(spectrum, n, p)
        condition = feature_condition(spectrum, n, p)
        outlier = math.nan if found.outlier is None else found.outlier
        if limit and self.coefficients.power[0] > 0:
            outlier = condition = math.inf
        elif limit and n == p:
            condition = math.inf
        return {"lowest": found.low, "highest": found.high, "outlier": outlier, "condition": condition}


COMMANDS: dict[str, type[Prediction]] = {
    "random_features": RandomFeatures,
    "isotropic": Isotropic,
    "flow": Flow,
    "edges": Edges,
}


def _errors(risk: Risk) -> dict[str, float]:
    return {
        "excess_test": risk.excess,
        "test": risk.total,
        "train": risk.train,
        "bias": risk.bias,
        "variance": risk.variance,
    }


def help_text(names: Sequence[str]) -> str:
    """Usage, and of each subcommand its keys with unit, range and default, its columns and an example."""
    lines = [HEAD]
    for name in names:
        command = COMMANDS[name]
        lines += [name, *(f"  {line}" for line in command.summary.splitlines()), "  keys"]
        for key, rules in axes_of(command).items():
            allowed = rules.allowed().removeprefix("must be ").removesuffix(", or null")
            lines.append(f"    {key:<12} {rules.help}; {allowed}; default {_shown(rules.default) or 'none'}")
        lines += ["  columns", *(f"    {column:<12} {meaning}" for column, meaning in command.columns.items())]
        lines += ["  example", f"    python -m dd.theory {name} {command.example}", ""]
    return "\n".join([*lines, TAIL])


def points(command: type[Prediction], arguments: Sequence[str]) -> Iterator[Prediction]:
    """All combinations of the values of the keys, the last one changing fastest.

    Raises:
        ConfigError: a key that there is not, or that is given twice; a value that is not allowed.
    """
    axes, given = axes_of(command), dict[str, list[Value]]()
    for argument in arguments:
        key, equals, text = argument.partition("=")
        if key not in axes or not equals:
            raise ConfigError(key, text or None, f"no such key=value; there are {', '.join(axes)}", ORIGIN)
        if key in given:
            raise ConfigError(key, text, "is given twice", ORIGIN)
        given[key] = values_of(axes[key], text)
    for chosen in itertools.product(*given.values()):
        yield replace(command(), **dict(zip(given, chosen, strict=True)))  # type: ignore[type-var]


def values_of(rules: Axis, text: str) -> list[Value]:
    """Values of a key: one, a list, ranges.

    >>> values_of(Axis("psi1", float, 1.0, "features", low=0), "4,range(0.1,0.4,0.1),logrange(1,100,3)")
    [4.0, 0.1, 0.2, 0.3, 1.0, 10.0, 100.0]

    Raises:
        ConfigError: one is not allowed, there is none, or more than :data:`MOST`.
    """

    def bad(value: object, allowed: str) -> ConfigError:
        return ConfigError(rules.key, value, allowed, ORIGIN)

    found: list[Value] = []
    for item in re.split(r",(?![^(]*\))", text):
        call = re.fullmatch(r"\s*(range|logrange)\((.*)\)\s*", item)
        if call is None:
            found.append(rules.check(_read(item), lambda _: ORIGIN))
            continue
        numbers = [_read(part) for part in call[2].split(",")]
        try:
            found += [rules.check(value, lambda _: ORIGIN) for value in _called(call[1], numbers)]
        except ValueError as error:
            raise bad(item, str(error)) from None
        if len(found) > MOST:
            raise bad(item, f"must be {MOST} values at most")
    return found


def _called(function: str, numbers: Sequence[object]) -> list[object]:
    """Values of ``range`` or ``logrange``; ValueError where there are none."""
    finite = [n for n in numbers if isinstance(n, int | float) and math.isfinite(n)]
    if function == "range":
        if len(finite) != len(numbers) or not 1 <= len(finite) <= 3 or finite[2:] == [0]:
            raise ValueError("must be range(start,stop,step) of numbers, the step not 0")
        start, stop = (0, *finite) if len(finite) == 1 else finite[:2]
        values = Range(start=start, stop=stop, step=finite[2] if len(finite) == 3 else 1)
        if not 0 < values.count <= MOST:
            raise ValueError("must hold values" if not values.count else f"must be {MOST} values at most")
        return list(values)
    if len(finite) != 3 or len(numbers) != 3 or min(finite[:2]) <= 0 or not isinstance(finite[2], int):
        raise ValueError("must be logrange(start,stop,count) of positive numbers, the count an integer")
    if not 2 <= finite[2] <= MOST:
        raise ValueError(f"must have a count of 2 to {MOST}")
    return list(log_spaced(finite[0], finite[1], finite[2]))


def _read(text: str) -> object:
    """A number where it is one, else the word."""
    text = text.strip()
    for kind in (int, float):
        try:
            number = kind(text)
        except ValueError:
            continue
        # inf and nan are words, which a key may know or not
        return number if math.isfinite(number) else text
    return text


def _shown(value: object) -> str:
    """A cell of the CSV."""
    return "" if value is None else f"{value:.12g}" if isinstance(value, int | float) else str(value)


def write(command: type[Prediction], arguments: Sequence[str]) -> None:
    """Print the CSV; stops where the reader has left."""
    for point in points(command, arguments):
        point.check()
    out = csv.writer(sys.stdout, lineterminator="\n")
    head = False
    for point in points(command, arguments):
        # keys without a value are no columns
        keys = {key: value for key in axes_of(command) if (value := getattr(point, key)) is not None}
        found = point.values()
        if not head:
            out.writerow([*keys, *found])
            head = True
        out.writerow([_shown(value) for value in (*keys.values(), *found.values())])
        sys.stdout.flush()
        if isinstance(sys.stdout, Steady) and sys.stdout.left:
            return


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Returns:
        0; 2 for bad input; 130 after Ctrl-C.
    """
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    name = arguments[0] if arguments else ""
    if {"-h", "--help"} & set(arguments):
        print(help_text([name] if name in COMMANDS else list(COMMANDS)))
        return 0
    return ended(lambda: _run(arguments))


def _run(arguments: Sequence[str]) -> int:
    """Do what the arguments ask for; returns the exit code."""
    name = arguments[0] if arguments else ""
    if name not in COMMANDS:
        allowed = f"must be one of {', '.join(COMMANDS)}; --help says more"
        raise ConfigError("command", name or None, allowed, ORIGIN)
    write(COMMANDS[name], arguments[1:])
    return 0


def program() -> NoReturn:
    """What ``python -m dd.theory`` does."""
    steady()
    sys.exit(main())
