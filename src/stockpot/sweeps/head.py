"""The shared start of all runs: the initialisation with one classifier head."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from stockpot.errors import ConfigError, MissingExtraError, RunError
from stockpot.outputs import whole_folder
from stockpot.sweeps.families import fine_tuned
from stockpot.tasks.hardware import import_hf, single_threaded
from stockpot.tasks.model_files import model_config
from stockpot.tasks.text import TextClassification
from stockpot.tasks.timm_config import is_timm, timm_config

if TYPE_CHECKING:
    import torch

__all__ = ["prepare_initialisation"]

Head = Literal["linear-probe", "zero-shot", "random", "own"]
_PROBE_BATCH = 32


def prepare_initialisation(task: TextClassification, pretrained: Path, target: Path, *, head: Head, seed: int) -> None:
    """Writes the start that every run copies: the pre-trained network with one head for the task's labels.

    "linear-probe" fits a multinomial logistic regression on the features that the network's last linear layer reads,
    over the training split (Wortsman et al. 2022, appendix: runs that share a head share a basin); "zero-shot" takes
    what the text tower of a CLIP-like model makes of sentences about the classes; "random" draws one head that all runs
    share; "own" keeps the checkpoint's. A family without a head is copied as it is.

    Args:
        task: gives the training examples and labels.
        pretrained: folder of the pre-trained network.
        target: becomes a model folder, whole or not at all.
        head: where the head comes from.
        seed: of the random head, and of layers the pre-trained checkpoint lacks.

    Raises:
        ConfigError: the checkpoint's own head has other labels; the family has no head, or no text tower, and one is
            asked for.
        MissingExtraError: scikit-learn (extra "eval") is needed for a linear probe.
        RunError: the network has no final linear layer to fit.
    """
    torch, _ = import_hf()
    names, family = task.label_names, fine_tuned(task.config.family)
    if not family.has_head:
        if head != "own":
            raise ConfigError(f"head: {head}: models of this family have no classifier head", fix="use `head: own`")
        with whole_folder(target) as folder:
            family.save(family.load(pretrained), folder, source=pretrained)
        return
    if head == "zero-shot" and family.zero_shot is None:
        raise ConfigError(
            f"head: zero-shot: models of the family {task.config.family!r} have no text tower",
            fix="use `head: linear-probe`, or `family: clip`",
        )
    labels = {"id2label": dict(enumerate(names)), "label2id": {name: index for index, name in enumerate(names)}}
    if head == "own":
        family.check_own_head(pretrained)
        _check_own_head(pretrained, names)
    with single_threaded(torch):
        torch.manual_seed(seed)
        model = family.load(pretrained, num_labels=len(names), ignore_mismatched_sizes=head != "own", **labels).eval()
        if head == "linear-probe":
            _fit_head(model, task, pretrained)
        elif head == "zero-shot" and family.zero_shot is not None:
            _set_head(_final_linear(model, len(names)), *family.zero_shot(task, pretrained))
        with whole_folder(target) as folder:
            family.save(model, folder, source=pretrained)


def _check_own_head(pretrained: Path, names: tuple[str, ...]) -> None:
    if not (pretrained / "config.json").exists():
        return  # open_clip's are compared when the task is made
    n_own, own = _own_labels(pretrained)
    if n_own not in (None, len(names)):
        raise ConfigError(
            f"head: own: {pretrained} has a head for {n_own} labels, the data have {len(names)}",
            fix="use `head: linear-probe`",
        )
    if own not in (None, names, tuple(f"LABEL_{index}" for index in range(len(names)))):
        raise ConfigError(
            f"head: own: {pretrained} has the labels {', '.join(own)} in this order, the task {', '.join(names)}",
            fix="leave `labels` out of the task, or use `head: linear-probe`",
        )


def _own_labels(pretrained: Path) -> tuple[int | None, tuple[str, ...] | None]:
    """How many outputs a checkpoint has, and their names; None where nothing tells."""
    config = model_config(pretrained)
    if is_timm(config):
        said = timm_config(config)
        return said.n_classes, said.label_names
    _, transformers = import_hf()
    made = transformers.AutoConfig.from_pretrained(pretrained)
    return made.num_labels, tuple(str(made.id2label[index]) for index in range(made.num_labels))


def _fit_head(model: torch.nn.Module, task: TextClassification, pretrained: Path) -> None:
    linear = _final_linear(model, len(task.label_names))
    labels = task.labels("train")
    if task.config.is_regression:
        features = _features(model, linear, task, pretrained)
        _set_head(linear, *_fitted_ridge(features, labels, has_bias=linear.bias is not None))
        return
    if missing := [name for index, name in enumerate(task.label_names) if index not in set(labels.tolist())]:
        raise ConfigError(
            f"the training split has no example of {', '.join(missing)}; a linear probe needs every label",
            fix="take more training rows, or `head: random`",
        )
    scale = getattr(model, "probe_scale", 1.0)
    features = scale * _features(model, linear, task, pretrained)
    probe = _fitted_probe(features, labels, has_bias=linear.bias is not None)
    weight, bias = scale * probe.coef_, probe.intercept_
    if len(task.label_names) == 2:  # scikit-learn fits one logit for two classes; split it evenly
        weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
    _set_head(linear, weight, bias)


def _set_head(linear: torch.nn.Linear, weight: np.ndarray[Any, Any], bias: np.ndarray[Any, Any]) -> None:
    import torch

    with torch.no_grad():
        linear.weight.copy_(torch.from_numpy(np.ascontiguousarray(weight, dtype=np.float32)))
        if linear.bias is not None:
            linear.bias.copy_(torch.from_numpy(np.ascontiguousarray(bias, dtype=np.float32)))


def _final_linear(model: torch.nn.Module, n_labels: int) -> torch.nn.Linear:
    import torch

    found = [
        module for module in model.modules() if isinstance(module, torch.nn.Linear) and module.out_features == n_labels
    ]
    if not found:
        raise RunError(
            f"{type(model).__name__} ends in no linear layer with {n_labels} outputs, so there is no head to fit",
            fix="use `head: random`",
        )
    return found[-1]


def _features(
    model: torch.nn.Module, linear: torch.nn.Linear, task: TextClassification, folder: Path
) -> np.ndarray[Any, Any]:
    """What the head reads, [n, width] float32: caught by a hook, so any architecture will do."""
    import torch

    caught: list[tuple[torch.Tensor, torch.Tensor]] = []
    result = np.empty((task.n_examples("train"), linear.in_features), dtype=np.float32)
    hook = linear.register_forward_hook(lambda _module, inputs, output: caught.append((inputs[0], output)))
    batches = fine_tuned(task.config.family).probe_batches(task, folder, _PROBE_BATCH)
    try:
        with torch.inference_mode():
            for batch in batches:
                caught.clear()
                outputs = _outputs(model, {name: torch.from_numpy(values) for name, values in batch.inputs.items()})
                logits = getattr(outputs, "logits", outputs)
                result[batch.rows] = _picked(*caught[-1], logits).float().numpy()[: len(batch.rows)]
    finally:
        hook.remove()
    return result


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


def _fitted_probe(features: np.ndarray[Any, Any], labels: np.ndarray[Any, Any], *, has_bias: bool) -> Any:
    linear_model, one_thread = _linear_model()
    with one_thread:
        return linear_model.LogisticRegression(max_iter=1000, fit_intercept=has_bias).fit(features, labels)


def _fitted_ridge(
    features: np.ndarray[Any, Any], targets: np.ndarray[Any, Any], *, has_bias: bool
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Weight [1, width] and bias [1] of a ridge regression, as strict as scikit-learn's default."""
    linear_model, one_thread = _linear_model()
    with one_thread:
        fitted = linear_model.Ridge(fit_intercept=has_bias).fit(features.astype(np.float64), targets)
    return fitted.coef_[None, :], np.reshape(fitted.intercept_, 1)


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
