"""The shared start of all runs: the initialisation with one classifier head."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from stockpot.errors import ConfigError, RunError
from stockpot.outputs import whole_folder
from stockpot.sweeps.families import fine_tuned
from stockpot.sweeps.probe import features_of, fitted_classifier, fitted_ridge
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
    labels, has_bias = task.labels("train"), linear.bias is not None
    absent = [] if task.config.is_regression else sorted(set(range(len(task.label_names))) - set(labels.tolist()))
    if absent:
        raise ConfigError(
            f"the training split has no example of {', '.join(task.label_names[index] for index in absent)}; "
            "a linear probe needs every label",
            fix="take more training rows, or `head: random`",
        )
    hardware = task.hardware
    rows = _PROBE_BATCH if hardware.device == "cpu" else task.config.evaluation.batch_size
    batches = fine_tuned(task.config.family).probe_batches(task, pretrained, rows)
    features = features_of(model, linear, batches, len(labels), hardware=hardware)
    if task.config.is_regression:
        _set_head(linear, *fitted_ridge(features, labels, has_bias=has_bias))
        return
    scale = float(getattr(model, "probe_scale", 1.0))
    features *= scale
    head = fitted_classifier(
        features, labels, n_classes=len(task.label_names), has_bias=has_bias, device=hardware.device
    )
    _set_head(linear, scale * head.weight, head.bias)


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
