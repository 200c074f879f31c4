"""Pairs of ingredients: which to look at, and whether an angle foretells a gain."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from stockpot.analysis.ranks import spearman
from stockpot.records import Correlation, Pair

__all__ = ["GAINS", "angle_correlations", "chosen_pairs"]

Array = np.ndarray[Any, Any]
N_RESAMPLES = 2000
_LEAST_INGREDIENTS = 4
#: Name -> what a pair gains on a split, where more is better or (False) less.
GAINS: dict[str, Callable[[Pair, str, bool], float]] = {
    "soup_over_mean": lambda pair, split, _: pair.soup[split] - pair.mean(split),
    "soup_over_better": lambda pair, split, up: pair.soup[split] - pair.better(split, higher_is_better=up),
    "soup_over_ensemble": lambda pair, split, _: pair.soup[split] - pair.ensemble[split],
}


def chosen_pairs(k: int, most: int, *, seed: int = 0) -> tuple[tuple[int, int], ...]:
    """All pairs of k ingredients, or so many of them drawn by the seed, in order.

    Example:
        >>> chosen_pairs(3, 10), len(chosen_pairs(20, 5))
        (((0, 1), (0, 2), (1, 2)), 5)
    """
    every = list(itertools.combinations(range(k), 2))
    if len(every) <= most:
        return tuple(every)
    drawn = np.random.default_rng(seed).choice(len(every), size=most, replace=False)
    return tuple(every[index] for index in sorted(drawn.tolist()))


def angle_correlations(
    pairs: Sequence[Pair], splits: Sequence[str], *, higher_is_better: bool = True, seed: int = 0
) -> tuple[Correlation, ...]:
    """Rank correlations of the angle with each gain, with intervals that know that pairs share ingredients.

    Spearman's over the pairs. Pairs of one ingredient rise and fall together, so the bootstrap draws *ingredients*:
    in each of 2,000 resamples an ingredient counts as often as it is drawn, and a pair as the product of its two
    (repeated as often); the interval is from the 2.5th to the 97.5th percentile.

    Args:
        pairs: as measured; those without an angle are left out.
        splits: on which.
        higher_is_better: of the scores; says which of two models is the better.
        seed: of the bootstrap.

    Returns:
        One per gain and split.

    Source: Wortsman et al. 2022, figure 3; for the resampling of vertices, Snijders and Borgatti 1999.
    """
    usable = [pair for pair in pairs if pair.angle is not None]
    return tuple(_correlation(usable, name, split, higher_is_better, seed) for name in GAINS for split in splits)


def _correlation(pairs: Sequence[Pair], name: str, split: str, higher_is_better: bool, seed: int) -> Correlation:
    angles = [pair.angle or 0.0 for pair in pairs]
    gains = [GAINS[name](pair, split, higher_is_better) for pair in pairs]
    value = spearman(angles, gains) if len(pairs) > 2 else None
    names = sorted({name for pair in pairs for name in (pair.first, pair.second)})
    low = high = None
    if value is not None and len(names) >= _LEAST_INGREDIENTS:
        low, high = _interval(pairs, names, np.array(angles), np.array(gains), seed)
    return Correlation(name, split, value, low, high, len(pairs))


def _interval(
    pairs: Sequence[Pair], names: Sequence[str], angles: Array, gains: Array, seed: int
) -> tuple[float | None, float | None]:
    at = {name: position for position, name in enumerate(names)}
    first = np.array([at[pair.first] for pair in pairs])
    second = np.array([at[pair.second] for pair in pairs])
    generator = np.random.default_rng(seed)
    found = []
    for _ in range(N_RESAMPLES):
        counts = np.bincount(generator.integers(0, len(names), len(names)), minlength=len(names))
        rows = np.repeat(np.arange(len(pairs)), counts[first] * counts[second])
        if len(rows) > 2 and (value := spearman(angles[rows].tolist(), gains[rows].tolist())) is not None:
            found.append(value)
    if len(found) < N_RESAMPLES // 2:
        return None, None
    low, high = np.quantile(found, [0.025, 0.975]).tolist()
    return low, high
