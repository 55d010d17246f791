"""Squared bias and variances from the errors of a crossed design: training sets × seeds.

With f_ds(t) the output t (a test sample and an output) of the run with training set d (``data_seed``: samples and label
noise) and seed s (features or initial weights, batch order), the two-way random-effects model is

    f_ds(t) = m(t) + a_d(t) + b_s(t) + c_ds(t),

and the expected squared error against the clean targets y is the sum of squared bias (m - y)² and the variances of a, b
and c, each averaged over t. All follow from products of errors e = f - y of pairs of runs, averaged over t:

    different d, different s:  bias²                     same d, different s:  bias² + Var a
    different d, same s:       bias² + Var b             one run:              bias² + Var a + Var b + Var c

so that means over all such pairs are unbiased (and may be negative where the truth is small), equal those of the
analysis of variance, and add up to the mean test loss exactly. An ensemble averages the outputs of K seeds on one
training set; its loss is bias² + Var a + (Var b + Var c)/K (d'Ascoli et al., arXiv 2003.01054).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

RESAMPLES = 1000
"""Resamples behind an interval."""


@dataclass(frozen=True)
class Components:
    """Parts of the expected test loss, in its units; arrays hold one entry a resample.

    Attributes:
        bias_squared: of the mean over training sets and seeds.
        variance_data: from the training set alone.
        variance_init: from the seed alone.
        variance_interaction: what either does depending on the other.
    """

    bias_squared: np.ndarray
    variance_data: np.ndarray
    variance_init: np.ndarray
    variance_interaction: np.ndarray

    @property
    def test_loss(self) -> np.ndarray:
        """Mean test loss of single runs: the sum of all parts."""
        return self.bias_squared + self.variance_data + self.variance_init + self.variance_interaction

    def ensemble_loss(self, members: float) -> np.ndarray:
        """Mean test loss of the averaged outputs of some seeds on one training set; ``inf`` is the limit.

        For up to as many members as there are seeds it is the mean over all choices of members.
        """
        single = self.variance_init + self.variance_interaction
        return self.bias_squared + self.variance_data + single / members


def error_products(errors: np.ndarray) -> np.ndarray:
    """Products of the errors of pairs of runs, averaged over the test set.

    Args:
        errors: outputs minus targets, [data seeds, seeds, outputs].

    Returns:
        [data seeds, seeds, data seeds, seeds].
    """
    flat = errors.reshape(-1, errors.shape[2])
    return (flat @ flat.T / errors.shape[2]).reshape(errors.shape[:2] * 2)


def components(products: np.ndarray, data_weights: np.ndarray, seed_weights: np.ndarray) -> Components:
    """Parts of the test loss from weighted means over pairs of runs.

    Args:
        products: of :func:`error_products`, at least two data seeds and two seeds.
        data_weights: weights of the data seeds, [resamples, data seeds]; ones for the estimate itself.
        seed_weights: weights of the seeds, [resamples, seeds].
    """
    w, v = data_weights, seed_weights
    other_data, other_seed = 1 - np.eye(w.shape[1]), 1 - np.eye(v.shape[1])
    data_pairs = w.sum(1) ** 2 - (w**2).sum(1)
    seed_pairs = v.sum(1) ** 2 - (v**2).sum(1)
    own = np.einsum("dsds->ds", products)
    same_data = np.einsum("dsdt,st->dst", products, other_seed)
    same_seed = np.einsum("dses,de->sde", products, other_data)
    apart = np.einsum("dset,de,st->dset", products, other_data, other_seed).reshape(own.size, own.size)
    runs = np.einsum("rd,rs->rds", w, v).reshape(len(w), own.size)
    loss = np.einsum("rd,ds,rs->r", w, own, v) / (w.sum(1) * v.sum(1))
    within_data = np.einsum("rd,rs,dst,rt->r", w, v, same_data, v, optimize=True) / (w.sum(1) * seed_pairs)
    within_seed = np.einsum("rs,rd,sde,re->r", v, w, same_seed, w, optimize=True) / (v.sum(1) * data_pairs)
    bias = ((runs @ apart) * runs).sum(1) / (data_pairs * seed_pairs)
    return Components(bias, within_data - bias, within_seed - bias, loss - within_data - within_seed + bias)


def estimate(errors: np.ndarray) -> Components:
    """Unbiased parts of the test loss, one entry each.

    Args:
        errors: outputs minus clean targets, [data seeds, seeds, outputs]; at least two data seeds and two seeds.
    """
    data_seeds, seeds, _ = errors.shape
    return components(error_products(errors), np.ones((1, data_seeds)), np.ones((1, seeds)))


def resampled(errors: np.ndarray, resamples: int = RESAMPLES) -> Components:
    """The parts under the Bayesian bootstrap (Rubin 1981): exponential weights of data seeds and of seeds.

    Pairs of a run with itself are left out with weights as without, so that resampling shifts no variance down.

    Args:
        errors: as for :func:`estimate`.
        resamples: draws; their generator is seeded, so that a table has the same intervals each time.
    """
    generator = np.random.default_rng(0)
    data_weights, seed_weights = (generator.exponential(size=(resamples, n)) for n in errors.shape[:2])
    return components(error_products(errors), data_weights, seed_weights)
