"""What choosing on a split does to the score on that split: the optimism of a selected maximum."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from stockpot.errors import DataError, EvaluationError
from stockpot.metrics._inputs import Array, check_count

__all__ = ["Optimism", "best_mean", "split_half_optimism"]

#: Values [candidates, n] on the half that may be seen -> number of the chosen candidate.
Choose: TypeAlias = Callable[[Array], int]

N_BLOCKS = 20


@dataclass(frozen=True, slots=True)
class Optimism:
    """How much the score of a chosen candidate on the split it was chosen on promises too much.

    Args:
        value: expected held-out score less true score of the chosen, in the unit of the values.
        stderr: its standard error over fresh sets of examples; None where there are too few (below 8) for one.
        n_examples: of the split.
        n_candidates: that were chosen from.
        n_splits: random halvings behind it.
    """

    value: float
    stderr: float | None
    n_examples: int
    n_candidates: int
    n_splits: int


def best_mean(values: Array) -> int:
    """The candidate with the largest mean; the first of equals.

    Example:
        >>> best_mean(np.array([[0, 1, 0], [1, 1, 0]]))
        1
    """
    return int(values.mean(axis=1).argmax())


def split_half_optimism(
    scores_by_candidate: npt.ArrayLike, n_splits: int = 200, seed: int = 0, *, choose: Choose = best_mean
) -> Optimism:
    """How optimistic the held-out score of the selected candidate is, from random halvings of the held-out split.

    For each halving into A and B the selection sees A alone::

        o_s = mean_A(chosen on A) - mean_B(chosen on A)
        value = sqrt(1/2) mean_s o_s

    B took no part in the choice, so the noise of mean_B is zero on average and o_s is the optimism of a selection on n
    / 2 examples. The optimism of the maximum of equally good candidates falls as 1 / sqrt(n), hence the factor
    (exactly: sqrt(|A| / n)). Where candidates differ by more than their noise it falls faster, and the value is then
    too large rather than too small. It estimates the expected optimism; that of this one set of examples varies around
    it.

    The halvings share their examples, so the spread over them is no standard error. It comes from a jackknife over
    blocks: the examples are dealt at random into G = 20 blocks, each is left out in turn with every other example kept
    in its half, and ``stderr^2 = (G - 1) / G sum_g (value_g - mean value)^2``; in
    simulations 1.2 to 2 times too large, never too small.

    Args:
        scores_by_candidate: [candidates, n] one value per candidate and example, higher is better (negate a loss);
            n >= 2.
        n_splits: random halvings, >= 1.
        seed: of halvings and blocks.
        choose: the selection: values [candidates, |A|] -> number of a candidate. Any deterministic function, so that a
            search over candidates can be judged whole; called about 21 n_splits times.

    Returns:
        The optimism with its standard error.

    Raises:
        DataError: other shapes, or fewer than two examples.
        EvaluationError: values that are not finite, or a choice that is no candidate.
        ConfigError: n_splits below 1.

    Source:
        Efron 1986, "How biased is the apparent error rate of a prediction rule?"; block jackknife: Efron and Tibshirani
        1993, "An introduction to the bootstrap", chapter 11.

    Example:
        >>> coins = np.random.default_rng(0).integers(0, 2, (30, 400))  # none is better than another
        >>> found = split_half_optimism(coins)
        >>> round(found.value, 2), found.stderr < found.value
        (0.05, True)
    """
    check_count(n_splits, "n_splits")
    values = _checked(scores_by_candidate)
    n = values.shape[1]
    generator = np.random.default_rng(seed)
    is_seen = np.array([generator.permutation(n) < n // 2 for _ in range(n_splits)])
    value = _optimism(values, is_seen, choose)
    stderr = None if n < 8 else _jackknife(values, is_seen, generator.permutation(n), choose)
    return Optimism(value, stderr, n, len(values), n_splits)


def _optimism(values: Array, is_seen: Array, choose: Choose) -> float:
    """sqrt(|A| / n) o_s, mean over splits."""
    return math.fsum(_of_split(values, seen, choose) for seen in is_seen) / len(is_seen)


def _of_split(values: Array, seen: Array, choose: Choose) -> float:
    chosen = choose(values[:, seen])
    if not 0 <= chosen < len(values):
        raise EvaluationError(
            f"the selection chose candidate {chosen} of {len(values)}", fix="return a number from 0 to candidates - 1"
        )
    own = values[chosen]
    return math.sqrt(np.count_nonzero(seen) / len(seen)) * float(own[seen].mean() - own[~seen].mean())


def _jackknife(values: Array, is_seen: Array, order: Array, choose: Choose) -> float | None:
    without = []
    for block in np.array_split(order, min(N_BLOCKS, len(order) // 4)):
        kept = np.setdiff1d(order, block)
        # A half that the block empties (few examples) says nothing.
        usable = [seen for seen in is_seen[:, kept] if 0 < np.count_nonzero(seen) < len(kept)]
        if not usable:
            return None
        without.append(_optimism(values[:, kept], np.array(usable), choose))
    mean = math.fsum(without) / len(without)
    n_blocks = len(without)
    return math.sqrt((n_blocks - 1) / n_blocks * math.fsum((value - mean) ** 2 for value in without))


def _checked(scores_by_candidate: npt.ArrayLike) -> Array:
    values = np.asarray(scores_by_candidate, dtype=np.float64)
    if values.ndim != 2 or not len(values) or values.shape[1] < 2:
        raise DataError(
            f"values {list(values.shape)} are not [candidates, n] with n >= 2",
            fix="give one row per candidate and one column per example",
        )
    if n_bad := int(np.count_nonzero(~np.isfinite(values))):
        raise EvaluationError(
            f"{n_bad} of {values.size} values are not finite", fix="look at those examples' logits and labels"
        )
    return values
