"""Random-matrix theory beside measured curves of random features; nothing in it is fitted (docs/theory.md)."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from analysis.curves import CHOSEN, NO_OPTIONS
from analysis.labels import is_null
from dd.components.dataset import Pool
from dd.errors import DDError
from dd.problems.pools import former_digest, pool_of, room_of
from dd.results.rebuilt import run_of
from dd.runs.run import Run, core_axes
from dd.runs.settings import Settings
from dd.theory import units
from dd.theory.activations import FUNCTIONS, coefficients
from dd.theory.edges import feature_condition
from dd.theory.flow import flow_risk
from dd.theory.label_noise import expected
from dd.theory.population import NORMALIZATIONS, population_spectrum
from dd.theory.random_features import Risk, ridge_risk
from dd.theory.spectrum import FeatureSpectrum, isotropic

COLUMNS = ("test_loss", "train_loss", "feature_condition")
"""What the theory predicts."""

TEACHERS = ("linear_teacher", "hermite_teacher")

CLOSED_FORMS = ("min_norm", "ridge")
FLOWS = ("gradient_flow", "gd", "sgd", "momentum")

DEGREES = 4
"""Degrees of the activation that are resolved on isotropic inputs."""

LEAST_DIM = 10
"""Fewer inputs of a teacher than this are no limit of many."""

LEAST_SIZE = 10
"""Fewer samples or features than this are no limit of many."""

POPULATION = 2000
"""Samples at most that the spectrum of a data set is taken from."""

FEWEST_STEPS = 10
"""Steps of gradient descent (of momentum: times 1/(1 - momentum)) below which a path is no flow."""

GRID = 60
"""Widths or numbers of samples at least at which a closed form is drawn."""

NEAR = np.array([0.003, 0.01, 0.02, 0.04, 0.08])
"""Relative distances from the threshold at which a closed form is drawn."""

OTHER = {"width": "n_train", "n_train": "width"}
"""Columns between whose values a closed form is drawn, and the column that the threshold is at."""

AT_LIMIT = 1 - 1e-9
"""Share of the largest stable step from which on there is no flow; below 1 by the rounding of its units."""

Point = Mapping[Hashable, Any]
"""A row of a table."""

Formula = Callable[[FeatureSpectrum, Point, float], Risk]
"""From spectrum, row and variance of the noise to the errors."""


@dataclass(frozen=True, eq=False)
class Problem:
    """What is learned.

    Attributes:
        spectrum: of the features, with the target in it.
        noise: variance of the noise on training targets, over all outputs.
        mean: squared mean of the training targets, over all outputs, where features are centred and cannot learn it.
        new_mean: the same of new samples' targets.
        balanced: whether training sets hold all classes alike, so that noise alone moves their mean target.
    """

    spectrum: FeatureSpectrum
    noise: float
    mean: float = 0.0
    new_mean: float = 0.0
    balanced: bool = False


@dataclass(frozen=True, eq=False)
class Prediction:
    """Theory along a curve.

    Attributes:
        x: [points], ascending.
        values: for each of :data:`COLUMNS` [points]; NaN where it is infinite, zero or unknown.
    """

    x: np.ndarray
    values: dict[str, np.ndarray]


def predictions(
    groups: Sequence[tuple[dict[str, object], pd.DataFrame]], rows: pd.DataFrame, x: str
) -> tuple[list[Prediction | None], Prediction | None]:
    """Theory of every line of a figure, or of the min-norm limit where no line has any.

    Args:
        groups: axis values and rows of each line.
        rows: of all lines.
        x: column that the curves run over.
    """
    own = [predict(members, x) for _, members in groups]
    limit = None if any(p is not None for p in own) else predict_limit(rows, x)
    return own, limit


def predict(rows: pd.DataFrame, x: str) -> Prediction | None:
    """Theory of one line.

    Args:
        rows: runs that differ in x and seeds only.
        x: column that the curve runs over.

    Returns:
        None where there is none: anything but random features in squared error without bias, as they are, scaled or
        standardised; other optimizers, unknown starts, few steps, unstable ones, step sizes that change, weight decay;
        on data sets all but closed forms; tables without a column that it needs.
    """
    formula = _formula(rows)
    return None if formula is None else _along(rows, x, formula)


def predict_limit(rows: pd.DataFrame, x: str) -> Prediction | None:
    """Theory of the min-norm limit of lines that have none of their own; arguments as for :func:`predict`."""
    return _along(rows.assign(optimizer="min_norm"), x, _risk_of_closed_form) if _has_limit(rows) else None


def _formula(rows: pd.DataFrame) -> Formula | None:
    """What gives the risk at a point of a line."""
    if not _has_theory(rows) or "optimizer" not in rows or rows["optimizer"].nunique() != 1:
        return None
    if rows["optimizer"].iloc[0] in CLOSED_FORMS:
        penalised = _is(rows, "optimizer", "min_norm") or _has(rows, "optimizer_penalty")
        return _risk_of_closed_form if penalised and _has_limit(rows) else None
    return _risk_of_flow if _of_teacher(rows) and _is_flow(rows) else None


def _has_limit(rows: pd.DataFrame) -> bool:
    return _has_theory(rows) and (_of_teacher(rows) or _of_data_set(rows))


def _has(rows: pd.DataFrame, *columns: str) -> bool:
    """Whether columns are there and have a value in every row."""
    return set(columns) <= set(rows) and bool(rows[list(columns)].notna().all(axis=None))


def _is(rows: pd.DataFrame, column: str, value: object) -> bool:
    """Whether a column is there and holds one value throughout."""
    return column in rows and bool((rows[column] == value).all())


def _has_theory(rows: pd.DataFrame) -> bool:
    """Random features in squared error, of an activation whose features are independent."""
    plain = {"model": "random_features", "model_bias": False, "loss": "mse", "targets": "given"}
    one = ["model_activation", "model_weights", "data", "standardize", "normalization"]
    if not all(_is(rows, column, value) for column, value in plain.items()):
        return False
    if rows.empty or not _has(rows, *one, "status", "outputs", "n_train", "width", "inputs"):
        return False
    if rows["normalization"].iloc[0] not in NORMALIZATIONS:
        return False
    if _is(rows, "model_activation", "cosine"):
        return _has(rows, "model_bandwidth") and bool((rows[[*one, "model_bandwidth"]].nunique() == 1).all())
    return bool((rows[one].nunique() == 1).all()) and rows["model_activation"].iloc[0] in FUNCTIONS


def _of_teacher(rows: pd.DataFrame) -> bool:
    """Isotropic inputs of which there are many."""
    hermite = ("data_c1", "data_c2", "data_c3") if _is(rows, "data", "hermite_teacher") else ()
    one = ["inputs", "data_noise", *hermite]
    return bool(
        rows["data"].iloc[0] in TEACHERS
        and _has(rows, *one)
        and _is(rows, "standardize", "none")
        and (rows[one].nunique() == 1).all()
        and rows["inputs"].min() >= LEAST_DIM
    )


def _of_data_set(rows: pd.DataFrame) -> bool:
    """A set of samples with one share of noisy labels, of which more are left than are trained on."""
    run = _data_of(rows)
    noise = ["label_noise", "label_noise_over"]
    alike = _has(rows, *noise) and bool((rows[noise].nunique() == 1).all())
    if run is None or not (alike or _is(rows, "label_noise", 0)):
        return False
    held = run.data.train_samples
    if held is not None and run.chosen is not None:
        pool = _pool(run)
        held = None if pool is None else room_of(run, pool)[0]
    return held is not None and bool(rows["n_train"].max() < min(held, POPULATION))


def _data_of(rows: pd.DataFrame) -> Run | None:
    """A run on the samples that rows share, all else at its default; None where there are several, or none at hand."""
    named = [c for c in rows if c == "classes" or (c.startswith("data_") and c not in (*NO_OPTIONS, *CHOSEN))]
    if (named and rows[named].nunique(dropna=False).max() > 1) or rows["data"].iloc[0] in TEACHERS:
        return None
    given = {c: rows[c].iloc[0] for c in ("data", *named) if not is_null(rows[c].iloc[0])}
    try:
        run = run_of({field: axis.default for field, axis in core_axes().items()} | given)
        _ = run.outputs
    except (DDError, ValueError):  # a set that has gone, a file that is not at hand or is another
        return None
    return run


def _pool(run: Run) -> Pool | None:
    """The samples of a run's data set; None where they are not at hand."""
    try:
        return pool_of(run, Settings())
    except DDError:
        return None


def _is_flow(rows: pd.DataFrame) -> bool:
    """Full-batch steps, enough of them, from a start whose variance is known."""
    needed = ["lr_absolute", "batch_size", "steps", "init", "init_scale"]
    if _is(rows, "optimizer", "momentum"):
        needed.append("optimizer_momentum")
    if rows["optimizer"].iloc[0] not in FLOWS or not _has(rows, *needed) or "stop_loss" not in rows:
        return False
    momentum = rows["optimizer_momentum"].max() if _is(rows, "optimizer", "momentum") else 0.0
    # older tables have no schedules
    steady = all(c not in rows or _is(rows, c, v) for c, v in (("schedule", "constant"), ("schedule_warmup", 0)))
    decay = rows["optimizer_weight_decay"].fillna(0.0).max() if "optimizer_weight_decay" in rows else 0.0
    return bool(
        decay == 0
        and steady
        and (rows["batch_size"] == rows["n_train"]).all()
        and rows["stop_loss"].isna().all()
        and set(rows["init"]) <= set(units.START_VARIANCES)
        and (
            _is(rows, "optimizer", "gradient_flow") or rows["steps"].min() * (1 - momentum) >= FEWEST_STEPS * (1 - 1e-9)
        )
    )


def _along(rows: pd.DataFrame, x: str, risk: Formula) -> Prediction | None:
    """The theory at every x, and between them where nothing but the width or the training set changes."""
    good = rows[rows["status"] == "ok"]
    points = good.groupby(x).first().reset_index()
    if points.empty:
        return None
    if risk is _risk_of_flow:  # in units of sharpness steps differ between seeds
        points["lr_absolute"] = good.groupby(x)["lr_absolute"].median().to_numpy()
    elif x in OTHER and len(points) > 1 and points[OTHER[x]].nunique() == 1:
        points = _denser(points, x)
    drawn = points[["n_train", "width"]].min(axis=1) >= LEAST_SIZE
    if risk is _risk_of_flow:
        drawn &= (_share_of_stable(good).groupby(good[x]).median() < AT_LIMIT).to_numpy()
    if not drawn.any():
        return None
    problem = _problem_of(points)
    if problem is None:
        return None
    # standardised features have lost one direction of the samples, their mean
    lost = int(_is(rows, "normalization", "standardize"))
    found = {column: np.full(len(points), np.nan) for column in COLUMNS}
    records = points.to_dict("records")
    for i in np.flatnonzero(drawn):
        point = records[i]
        n, p, outputs = int(point["n_train"]), int(point["width"]), int(point["outputs"])
        errors = risk(problem.spectrum, point | {"n_train": n - lost}, problem.noise)
        if lost:
            errors = _with_mean(problem, errors, n)
        found["test_loss"][i] = units.mean_loss(errors.excess, outputs)
        found["train_loss"][i] = units.mean_loss(errors.train, outputs)
        found["feature_condition"][i] = feature_condition(problem.spectrum, n - lost, p)
    drawable = {column: np.where(np.isfinite(v) & (v > 0), v, np.nan) for column, v in found.items()}
    return Prediction(points[x].to_numpy(), drawable)


def _with_mean(problem: Problem, errors: Risk, n: int) -> Risk:
    """Errors with the means of targets, which centred features do not learn, and the training mean's own noise."""
    spectrum = problem.spectrum
    power = 0.0 if problem.balanced else float(spectrum.power.sum()) + spectrum.tail_power
    mean = problem.mean + (power * (1 - n / spectrum.population) + problem.noise) / n
    return replace(errors, bias=errors.bias + problem.new_mean, train=(1 - 1 / n) * errors.train + mean)


def _share_of_stable(rows: pd.DataFrame) -> pd.Series:
    """Steps as shares of the largest stable one, 2/sharpness or with momentum 2(1 + momentum)/sharpness.

    0 for gradient flow, and where the sharpness is not known.
    """
    if "sharpness_init" not in rows or _is(rows, "optimizer", "gradient_flow"):
        return pd.Series(0.0, rows.index)
    momentum = rows["optimizer_momentum"] if _is(rows, "optimizer", "momentum") else 0.0
    share: pd.Series = rows["lr_absolute"] * rows["sharpness_init"].astype(float) / (2 * (1 + momentum))
    return share.fillna(0.0)


def _denser(points: pd.DataFrame, x: str) -> pd.DataFrame:
    """The rows of a curve over the width or the training set, and copies between them."""
    threshold = int(points[OTHER[x]].iloc[0])
    low, high = points[x].min(), points[x].max()
    beside = np.ceil(threshold * NEAR)
    wanted = np.concatenate(
        [np.geomspace(low, high, GRID).round(), [threshold], threshold - beside, threshold + beside]
    )
    new = np.setdiff1d(wanted[(wanted >= low) & (wanted <= high)], points[x])
    copies = points.iloc[np.zeros(len(new), dtype=int)].assign(**{x: new.astype(int)})
    return pd.concat([points, copies], ignore_index=True).sort_values(x, ignore_index=True)


def _risk_of_closed_form(spectrum: FeatureSpectrum, point: Point, noise: float) -> Risk:
    p = int(point["width"])
    penalty = float(point["optimizer_penalty"]) if point["optimizer"] == "ridge" else 0.0
    return ridge_risk(spectrum, int(point["n_train"]), p, units.ridge(penalty, p), noise)


def _risk_of_flow(spectrum: FeatureSpectrum, point: Point, noise: float) -> Risk:
    p, outputs = int(point["width"]), int(point["outputs"])
    momentum = float(point["optimizer_momentum"]) if point["optimizer"] == "momentum" else 0.0
    time = units.time(str(point["optimizer"]), float(point["lr_absolute"]), int(point["steps"]), p, outputs, momentum)
    start = units.start(str(point["init"]), p, outputs, float(point["init_scale"]))
    return flow_risk(spectrum, int(point["n_train"]), p, time, noise, start)


def _problem_of(rows: pd.DataFrame) -> Problem | None:
    """Features and target of a line; None where its data set is not at hand, or is another."""
    first = rows.iloc[0]
    activation, normalization = str(first["model_activation"]), str(first["normalization"])
    bandwidth = float(first["model_bandwidth"]) if activation == "cosine" else 1.0
    if first["data"] in TEACHERS:
        linear = first["data"] == "linear_teacher"
        target = (1.0,) if linear else tuple(float(first[f"data_c{k}"]) ** 2 for k in (1, 2, 3))
        spectrum = isotropic(
            coefficients(activation, DEGREES, bandwidth), int(first["inputs"]), target,
            centred=normalization == "standardize", scaled=normalization != "none",
        )  # fmt: skip
        return Problem(spectrum, float(first["data_noise"]) ** 2)
    sha256 = set(rows["data_sha256"]) if "data_sha256" in rows else set()
    content = str(sha256.pop()) if len(sha256) == 1 else ""
    run = _data_of(rows)
    if run is None:
        return None
    features = Features(str(first["standardize"]), activation, str(first["model_weights"]), bandwidth, normalization)
    share = float(first["label_noise"])
    return _data_problem(run, content, features, share, str(first["label_noise_over"]) if share else "")


class Features(NamedTuple):
    """What makes the features of a data set; the bandwidth is 1 for activations that have none."""

    standardize: str
    activation: str
    weights: str
    bandwidth: float
    normalization: str


@cache
def _data_problem(run: Run, sha256: str, features: Features, share: float, over: str) -> Problem | None:
    """Of a data set's samples, all of them or a random :data:`POPULATION` (3 s); kept while the process lives.

    New samples have clean labels.
    """
    from dd.problems.problem import standardize  # imports torch, which few tables need

    pool = _pool(run)
    if pool is None or sha256 not in (pool.sha256, former_digest(run.data.name, pool)):
        return None
    if run.chosen is not None:
        pool = pool.of_classes(run.chosen)
    chosen = np.random.default_rng(0).permutation(len(pool.x))[:POPULATION]
    raw = np.asarray(pool.x[chosen] * pool.scale, np.float64)
    x, _ = standardize(raw, raw[:0], features.standardize)
    new = np.asarray(np.eye(run.outputs)[pool.y[chosen]] if run.classification else pool.y[chosen], np.float64)
    y, noise = expected(new, share, over) if share else (new, 0.0)
    means = [np.zeros(run.outputs)] * 2
    if features.normalization == "standardize":
        means = [y.mean(axis=0), new.mean(axis=0)]
    spectrum = population_spectrum(
        x, y - means[0], features.activation, weights=features.weights, bandwidth=features.bandwidth,
        normalization=features.normalization, new=new - means[1] if share else None,
    )  # fmt: skip
    old, clean = (float(mean @ mean) for mean in means)
    return Problem(spectrum, noise, old, clean, balanced=run.classification)
