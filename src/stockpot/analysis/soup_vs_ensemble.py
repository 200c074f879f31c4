"""Soup against ensemble of two models: the measured difference of their losses and the paper's approximation."""

from __future__ import annotations

from typing import Any

import numpy as np

from stockpot.metrics import per_example

__all__ = ["approximate_difference", "measured_difference"]

Array = np.ndarray[Any, Any]


def measured_difference(soup: Array, ensemble: Array, labels: Array) -> float:
    """``L_soup - L_ens``, mean losses in nats.

    Args:
        soup, ensemble: logits [n, classes].
        labels: [n].

    Example:
        >>> measured_difference(np.zeros((1, 2)), np.zeros((1, 2)), np.array([0]))
        0.0
    """
    return _loss(soup, labels) - _loss(ensemble, labels)


def approximate_difference(
    first: Array, second: Array, along: tuple[Array, Array, Array], labels: Array, *, alpha: float, step: float
) -> float:
    """The paper's approximation of ``L_soup - L_ens`` for two models near each other.

    ::

        alpha (1 - alpha) / 2 * ( - d^2/dalpha^2 L(alpha) + E_x Var_{y ~ softmax(f(x; theta_alpha))}[delta f_y(x)] )

    with ``delta f = f(x; theta_1) - f(x; theta_0)`` and logit scale 1; the second derivative is a central difference
    with this step.

    Args:
        first, second: logits [n, classes] of theta_0 and theta_1.
        along: logits of the soups at alpha - step, alpha, alpha + step.
        labels: [n].
        alpha: share of theta_1, in (0, 1).
        step: of the difference.

    Returns:
        Nats.

    Source: Wortsman et al. 2022, section 4, "Comparing soups and ensembles".

    Example:
        >>> flat = np.zeros((3, 2))
        >>> approximate_difference(flat, flat, (flat, flat, flat), np.array([0, 1, 0]), alpha=0.5, step=0.1)
        0.0
    """
    before, here, after = (_loss(logits, labels) for logits in along)
    curvature = (before - 2 * here + after) / step**2
    delta = second.astype(np.float64) - first
    shares = _softmax(along[1])
    mean = (shares * delta).sum(axis=1, keepdims=True)
    variance = float((shares * (delta - mean) ** 2).sum(axis=1).mean())
    return alpha * (1 - alpha) / 2 * (variance - curvature)


def _loss(logits: Array, labels: Array) -> float:
    return float(per_example("nll")(logits, labels).mean())


def _softmax(logits: Array) -> Array:
    wide = logits.astype(np.float64)
    powers = np.exp(wide - wide.max(axis=1, keepdims=True))
    shares: Array = powers / powers.sum(axis=1, keepdims=True)
    return shares
