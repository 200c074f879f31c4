"""Linear probes: what a network's last linear layer reads, and the regression that is fitted to it."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from stockpot.errors import MissingExtraError, RunError
from stockpot.tasks.hardware import import_hf

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    import torch

    from stockpot.tasks.batches import Batch
    from stockpot.tasks.hardware import Hardware

__all__ = ["LinearHead", "features_of", "fitted_classifier", "fitted_in_parts", "fitted_ridge"]

Array = np.ndarray[Any, Any]

#: Numbers in [rows, classes] from which on scikit-learn, which holds several such arrays, gives way to parts of them.
_MOST_AT_ONCE = 50_000_000
_MOST_STEPS = 1000
#: Largest entry of the gradient at the end, as scikit-learn's `tol`.
_TOLERANCE = 1e-4


class LinearHead(NamedTuple):
    """Weight [classes, width] and bias [classes]."""

    weight: Array
    bias: Array


def features_of(
    model: torch.nn.Module, linear: torch.nn.Linear, batches: list[Batch], n: int, *, hardware: Hardware
) -> Array:
    """What the head reads, [n, width] float32: caught by a hook, so any architecture will do.

    On an accelerator it runs there, in the precision of evaluation; on a processor in float32.

    Args:
        model: is moved to the accelerator for the time.
        linear: its last linear layer.
        batches: of the training split.
        n: rows of it.
        hardware: where evaluation runs.

    Raises:
        RunError: the network fails on a batch, or does more with the head's outputs than to pick one token.
    """
    import torch

    caught: list[tuple[torch.Tensor, torch.Tensor]] = []
    result = np.empty((n, linear.in_features), dtype=np.float32)
    hook = linear.register_forward_hook(lambda _module, inputs, output: caught.append((inputs[0], output)))
    model.to(hardware.device)
    try:
        with torch.inference_mode(), _precision(hardware):
            for batch in batches:
                caught.clear()
                inputs = {name: torch.from_numpy(values).to(hardware.device) for name, values in batch.inputs.items()}
                outputs = _outputs(model, inputs)
                logits = getattr(outputs, "logits", outputs)
                result[batch.rows] = _picked(*caught[-1], logits).float().cpu().numpy()[: len(batch.rows)]
    finally:
        hook.remove()
        model.to("cpu")
    return result


def _precision(hardware: Hardware) -> AbstractContextManager[Any]:
    import torch

    if hardware.device == "cpu" or hardware.precision != "bf16":
        return nullcontext()
    return torch.autocast(hardware.device, dtype=torch.bfloat16)


def _outputs(model: torch.nn.Module, inputs: dict[str, torch.Tensor]) -> Any:
    try:
        return model(**inputs)
    except (AssertionError, LookupError, RuntimeError, TypeError, ValueError) as exc:
        shapes = ", ".join(f"{name} {list(values.shape)}" for name, values in inputs.items())
        raise RunError(
            f"the pre-trained network failed on a batch, {shapes}: {type(exc).__name__}: {exc}",
            fix="check that its configuration fits its tokenizer or preprocessing",
        ) from exc


def _picked(features: torch.Tensor, outputs: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
    """The features [batch, width] that the logits come from.

    A decoder's head runs over every token, [batch, length, width], and the model picks one position afterwards (the
    last that is no padding): the one whose output is the logits.
    """
    if features.ndim == 2:
        return features
    is_it = (outputs == logits.unsqueeze(1)).all(dim=2)
    if not is_it.any(dim=1).all():
        raise RunError(
            "the network does more with its head's outputs than to pick one token, so there is no head to fit",
            fix="use `head: random`",
        )
    return features[range(len(features)), is_it.int().argmax(dim=1)]


def fitted_classifier(features: Array, labels: Array, *, n_classes: int, has_bias: bool, device: str) -> LinearHead:
    """Multinomial logistic regression with scikit-learn's default penalty: ``sum_i loss_i + |W|^2 / 2`` is lowest.

    Two classes have one logit there, which is split evenly over two. Where rows times classes are too many to be held
    at once (ImageNet), the same sum is lowered part by part, on the accelerator if there is one.

    Args:
        features: [n, width] float32.
        labels: [n], every class among them.
        n_classes: >= 2.
        has_bias: whether the head has one; it is not penalised.
        device: of the parts.

    Raises:
        MissingExtraError: scikit-learn is not installed.
    """
    if len(features) * n_classes > _MOST_AT_ONCE:
        return fitted_in_parts(features, labels, n_classes=n_classes, has_bias=has_bias, device=device)
    linear_model, one_thread = _linear_model()
    with one_thread:
        probe = linear_model.LogisticRegression(max_iter=_MOST_STEPS, fit_intercept=has_bias).fit(features, labels)
    weight, bias = probe.coef_, probe.intercept_
    if n_classes == 2:
        weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
    return LinearHead(weight, bias)


def fitted_in_parts(
    features: Array,
    labels: Array,
    *,
    n_classes: int,
    has_bias: bool,
    device: str,
    rows: int = 65_536,
    tolerance: float = _TOLERANCE,
) -> LinearHead:
    """`fitted_classifier` by L-BFGS over parts of the rows, whose gradients add up.

    Args:
        features, labels, n_classes, has_bias, device: as there.
        rows: of a part.
        tolerance: largest entry of the gradient of the mean at the end.

    Source: Liu and Nocedal 1989 (L-BFGS), as torch has it.
    """
    torch, _ = import_hf()
    n = len(features)
    weight = torch.zeros(n_classes, features.shape[1], device=device, requires_grad=True)
    bias = torch.zeros(n_classes, device=device, requires_grad=has_bias)
    learned = [weight, bias] if has_bias else [weight]
    strictness = 2 if n_classes == 2 else 1  # scikit-learn penalises the one difference of two
    optimiser = torch.optim.LBFGS(
        learned,
        max_iter=_MOST_STEPS,
        max_eval=2 * _MOST_STEPS,
        tolerance_grad=tolerance,
        tolerance_change=0.0,
        line_search_fn="strong_wolfe",
    )

    def loss() -> Any:
        optimiser.zero_grad()
        penalty = strictness * weight.square().sum() / (2 * n)
        penalty.backward()
        total = penalty.detach()
        for start in range(0, n, rows):
            part = torch.from_numpy(features[start : start + rows]).to(device)
            targets = torch.from_numpy(labels[start : start + rows]).to(device)
            logits = torch.nn.functional.linear(part, weight, bias)
            mean = torch.nn.functional.cross_entropy(logits, targets, reduction="sum") / n
            mean.backward()
            total += mean.detach()
        return total

    step: Callable[[Any], Any] = optimiser.step
    step(loss)
    return LinearHead(weight.detach().cpu().numpy(), bias.detach().cpu().numpy())


def fitted_ridge(features: Array, targets: Array, *, has_bias: bool) -> LinearHead:
    """A ridge regression, weight [1, width] and bias [1], as strict as scikit-learn's default.

    Raises:
        MissingExtraError: scikit-learn is not installed.
    """
    linear_model, one_thread = _linear_model()
    with one_thread:
        fitted = linear_model.Ridge(fit_intercept=has_bias).fit(features.astype(np.float64), targets)
    return LinearHead(fitted.coef_[None, :], np.reshape(fitted.intercept_, 1))


def _linear_model() -> tuple[Any, Any]:
    """scikit-learn's linear models, and a context of one thread: a product's last bits depend on their number."""
    try:
        from sklearn import linear_model
        from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # scikit-learn's own need
    except ModuleNotFoundError as exc:
        if exc.name not in {"sklearn", "threadpoolctl"}:
            raise
        raise MissingExtraError("scikit-learn", extra="eval", needed_for="head: linear-probe") from exc
    return linear_model, threadpool_limits(limits=1)
