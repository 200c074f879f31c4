"""The settings of learned soups."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from stockpot.config._problems import Settings

__all__ = ["LearnedConfig"]


class LearnedConfig(Settings):
    """How coefficients are learned on the held-out split; the defaults are those of Wortsman et al. 2022.

    Args:
        parametrisation: "softmax" (positive, sum to one), "sum_to_one" or "free".
        learning_rate: of AdamW, > 0.
        weight_decay: of AdamW, >= 0.
        epochs: passes over the training part, >= 1.
        least_steps: steps however small the held-out split is, >= 1.
        batch_size: examples of a step, >= 1.
        check_every: steps between two looks at the stopping part, >= 1.
        patience: ends after so many looks without a better one; null: all steps are made.
        learn_logit_scale: whether beta is learned.
        stopping_fraction: share of the held-out split that is never trained on, in (0, 1).
        seed: of that share and of the order of the batches.
        layers: rows of `learned_by_layer`: one per tensor, as published, or one per block.
        fold: whether the written model has beta in its classifier head.

    Example:
        >>> LearnedConfig().learning_rate, LearnedConfig().least_steps
        (0.05, 500)
    """

    parametrisation: Literal["softmax", "sum_to_one", "free"] = "softmax"
    learning_rate: float = Field(default=0.05, gt=0)
    weight_decay: float = Field(default=0.0, ge=0)
    epochs: int = Field(default=5, ge=1)
    least_steps: int = Field(default=500, ge=1)
    batch_size: int = Field(default=256, ge=1)
    check_every: int = Field(default=25, ge=1)
    patience: int | None = Field(default=8, ge=1)
    learn_logit_scale: bool = True
    stopping_fraction: float = Field(default=0.2, gt=0, lt=1)
    seed: int = Field(default=0, ge=0, lt=2**32)
    layers: Literal["tensor", "block"] = "tensor"
    fold: bool = False
