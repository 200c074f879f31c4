"""Drawing one run's settings from a search space."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from stockpot.config import (
    Choice,
    Entry,
    Fixed,
    Integers,
    LogUniform,
    RunSettings,
    Uniform,
    ZeroOrUniform,
    settings_as_recorded,
)

__all__ = ["draw"]


def draw(space: Mapping[str, Entry], *, seed: int, index: int) -> dict[str, Any]:
    """All settings of run `index`: random search (Bergstra and Bengio 2012) with a stream of its own for every setting.

    Setting s of run i is quantile_s(u), u uniform on [0, 1) and a function of (seed, i, s) alone. So run i is the same
    in a sweep of any length, in any order of the settings, and whatever is done to the other settings.

    Args:
        space: setting -> entry, as `SweepConfig.space` holds it.
        seed: of the sweep, [0, 2**32).
        index: number of the run, from 0.

    Returns:
        The settings of `RunSettings` as `settings_as_recorded` gives them, and "seed": the run's own, [0, 2**31).

    Example:
        >>> settings = draw({"learning_rate": LogUniform(1e-5, 1e-3)}, seed=0, index=3)
        >>> 1e-5 <= settings["learning_rate"] <= 1e-3, settings["epochs"]
        (True, 3)
    """
    values = {name: _quantile(entry, _uniform(seed, index, name)) for name, entry in space.items()}
    own_seed = int(_uniform(seed, index, "seed") * 2**31)
    return settings_as_recorded(RunSettings(**{**values, "seed": own_seed}))


def _uniform(seed: int, index: int, name: str) -> float:
    """A number in [0, 1) with 53 random bits, from SeedSequence, whose hash is frozen (generators are not)."""
    import numpy as np

    sequence = np.random.SeedSequence([seed, index, *name.encode()])
    return int(sequence.generate_state(1, np.uint64)[0] >> np.uint64(11)) / 2**53


def _quantile(entry: Entry, u: float) -> Any:
    match entry:
        case Fixed(value):
            return value
        case LogUniform(low, high):
            return _between(low, math.exp(math.log(low) + u * (math.log(high) - math.log(low))), high)
        case Uniform(low, high):
            return _between(low, low + u * (high - low), high)
        case Integers(low, high):
            return low + int(u * (high - low + 1))
        case Choice(options):
            return options[int(u * len(options))]
        case ZeroOrUniform(p, low, high):
            return 0.0 if u < p else _between(low, low + (u - p) / (1 - p) * (high - low), high)


def _between(low: float, value: float, high: float) -> float:
    """Rounding must not carry a value over a bound that the configuration promised."""
    return min(max(value, low), high)
