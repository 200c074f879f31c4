"""What an experiment will cost, from its file and from headers: nothing is trained, read through or downloaded."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stockpot.analysis.count import model_counts
from stockpot.checkpoints import open_checkpoint
from stockpot.config import ANALYSIS_PARTS, ClipTaskConfig, ExperimentConfig, ImageTaskConfig, resolve_model
from stockpot.errors import StockpotError
from stockpot.experiment.plan_examples import count_examples
from stockpot.experiment.running import WRITTEN_METHODS
from stockpot.sweeps.plan import plan_runs, warm_up_notes

__all__ = ["Plan", "plan"]

#: Bytes a parameter: fp32 weights, gradients and AdamW's two moments; weights and a float64 running sum.
_TRAINING_BYTES, _EVALUATION_BYTES = 16, 12
#: The page, which carries what draws it.
_PAGE_BYTES = 2_000_000
#: What is trained of a whole dual encoder: its image tower, as transformers and open_clip name it.
_IMAGE_TOWER = ("vision_model.", "visual_projection.", "visual.", "head.")


@dataclass(frozen=True, slots=True)
class Plan:
    """An experiment before it has happened; None where something is not known here.

    Args:
        name: of the experiment.
        runs: settings of each.
        n_ingredients: with moving averages.
        examples: by split, "train" among them.
        steps: optimiser steps of all runs together.
        training_examples: passed forward and backward by all runs together.
        forward: stage -> examples passed forward, at most: early rejection and ties with what is known save some.
        learned_examples: passed forward and backward by learned soups, at most.
        parameters: of the network.
        disk_bytes: runs, shared start, soups, predictions and the page.
        worker_bytes: weights, gradients, moments and moving average of one run under way; activations come on top.
        evaluation_bytes: weights and running sum of the network that is scored; activations come on top.
        notes: what is not known, and why.
        warnings: what is hardly meant.
    """

    name: str
    runs: tuple[Mapping[str, Any], ...]
    n_ingredients: int
    examples: Mapping[str, int | None]
    steps: int | None
    training_examples: int | None
    forward: Mapping[str, int | None]
    learned_examples: int | None
    parameters: int | None
    disk_bytes: int | None
    worker_bytes: int | None
    evaluation_bytes: int | None
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def plan(config: ExperimentConfig) -> Plan:
    """Counts what an experiment will do.

    Args:
        config: the experiment.

    Example:
        >>> from stockpot.config import experiment_config
        >>> data = {"file": "a.tsv", "text": "t", "label": "l", "train": {"rows": 90}, "held_out": {"rows": 10}}
        >>> content = {"name": "x", "task": {"family": "text-classification", "data": data}, "initialisation": "a/b",
        ...            "sweep": {"runs": 2, "space": {"epochs": 3, "batch_size": 32}}, "recipes": ["uniform", "greedy"]}
        >>> found = plan(experiment_config(content))
        >>> found.steps, found.forward["individuals"], found.forward["greedy"]
        (18, 20, 10)
    """
    runs = tuple(run.settings for run in plan_runs(config.sweep))
    k = len(runs) + sum(bool(run.get("ema_decay")) for run in runs)
    examples, notes = count_examples(config)
    n_train = examples["train"]
    steps = training = None
    if n_train is not None:
        steps = sum(math.ceil(n_train / run["batch_size"]) * run["epochs"] for run in runs)
        training = sum(n_train * run["epochs"] for run in runs)
    parameters, why = _parameters(config)
    weights = None if parameters is None else 4 * parameters
    folders = k + 1 + sum(name in WRITTEN_METHODS for name in ("best", *config.recipes))
    predictions = _prediction_bytes(config, k, examples)
    training_bytes = _TRAINING_BYTES + 4 * any(run.get("ema_decay") for run in runs)
    return Plan(
        name=config.name,
        runs=runs,
        n_ingredients=k,
        examples=examples,
        steps=steps,
        training_examples=training,
        forward=_forward(config, k, examples),
        learned_examples=_learned(config, examples["held_out"]),
        parameters=parameters,
        disk_bytes=None if weights is None else folders * weights + (predictions or 0) + _PAGE_BYTES,
        worker_bytes=None if parameters is None else training_bytes * parameters,
        evaluation_bytes=None if parameters is None else _EVALUATION_BYTES * parameters,
        notes=(*notes, *why, *_decoded_note(config, examples)),
        warnings=tuple(warm_up_notes(runs, n_train)) if n_train is not None else (),
    )


def _decoded_note(config: ExperimentConfig, examples: Mapping[str, int | None]) -> list[str]:
    """The network's own preprocessing says how large decoded images are, and nothing is loaded here."""
    n = _summed(found for name, found in examples.items() if name != "train")
    if not isinstance(config.task, ImageTaskConfig) or n is None:
        return []
    return [f"disk for {n:,} decoded images: {n * 3 * 224 * 224 / 2**30:.2f} GiB where each has 224 x 224 pixels"]


def _forward(config: ExperimentConfig, k: int, examples: Mapping[str, int | None]) -> dict[str, int | None]:
    """Examples that each stage passes through a network, at most."""
    everything = _summed(n for name, n in examples.items() if name != "train")
    held_out = examples["held_out"]
    rest = None if everything is None or held_out is None else everything - held_out
    candidates = dict(_candidates(config, k))
    networks = sum(_networks(name, config) for name in config.recipes)
    # The initialisation is measured, too, on the held-out split besides: no recipe needs to have scored it.
    return {
        **({"linear probe": examples["train"]} if config.head == "linear-probe" else {}),
        "individuals": _times(k, everything),
        **{name: _times(n, held_out) for name, n in candidates.items()},
        "measuring": None if rest is None or held_out is None else (networks + 1) * rest + held_out,
        **dict(_looking(config, k, examples)),
    }


def _candidates(config: ExperimentConfig, k: int) -> Iterator[tuple[str, int]]:
    """Soups that a recipe scores on the held-out split, at most, the individuals left out."""
    most = min(k - 1, config.max_evaluations) if config.max_evaluations is not None else k - 1
    for name in config.recipes:
        if name == "uniform":
            yield name, 1
        elif name == "greedy":
            yield name, most
        elif name == "greedy_random":
            yield name, config.random_orders * (k - 1)
        elif name == "pruned":
            yield name, k
        elif name in {"top_k", "interpolate"}:
            yield name, k if name == "top_k" else _ALPHAS
        elif name in {"model_stock", "learned", "learned_by_layer"}:
            yield name, 1


_ALPHAS = 11


def _looking(config: ExperimentConfig, k: int, examples: Mapping[str, int | None]) -> Iterator[tuple[str, int | None]]:
    """What the parts of an analysis pass forward, at most: single runs, the start and soups of the table are known."""
    analysis = config.analysis
    if analysis is None or k < 2:
        return
    scored = tuple(name for name in examples if name != "train")
    unseen = tuple(name for name in scored if name != "held_out") or scored
    chosen = tuple(name if name in scored else f"shift:{name}" for name in analysis.splits)
    plane = chosen or tuple(name for name in ("held_out", "test") if name in scored)
    pairs = min(analysis.pairs, math.comb(k, 2))
    counts = model_counts(k)
    #: Part -> (networks, the splits they are measured on).
    networks: dict[str, list[tuple[int, tuple[str, ...]]]] = {
        "plane": [(analysis.grid**2 + 1, plane)],
        "line": [(analysis.line_points - 2, scored)],
        "pairs": [(pairs, scored)],
        "count": [
            (2 * len(counts) * analysis.orders, unseen),
            (sum(count - 1 for count in counts) * analysis.orders, ("held_out",)),
        ],
        "soup_vs_ensemble": [(3 * pairs, unseen)],
    }
    has_likelihoods = not config.task.is_regression and getattr(config.task, "scoring", None) != "generation"
    unfit = () if has_likelihoods else ("soup_vs_ensemble",)
    for part in analysis.parts or ANALYSIS_PARTS:
        if part in networks and part not in unfit:
            yield part, _summed(_times(n, _summed(examples[name] for name in splits)) for n, splits in networks[part])


def _summed(numbers: Iterable[int | None]) -> int | None:
    total = 0
    for number in numbers:
        if number is None:
            return None
        total += number
    return total


def _networks(recipe: str, config: ExperimentConfig) -> int:
    """Models of their own that a recipe ends with; ensembles use what is known."""
    if "ensemble" in recipe:
        return 0
    return config.random_orders if recipe == "greedy_random" else 1


def _times(n: int, examples: int | None) -> int | None:
    return None if examples is None else n * examples


def _learned(config: ExperimentConfig, n_held_out: int | None) -> int | None:
    n_learned = sum(name.startswith("learned") for name in config.recipes)
    if not n_learned:
        return 0
    if n_held_out is None:
        return None
    settings = config.learned
    n_fit = max(1, round(n_held_out * (1 - settings.stopping_fraction)))
    size = min(settings.batch_size, n_fit)
    steps = max(settings.least_steps, settings.epochs * math.ceil(n_fit / size))
    looks = math.ceil(steps / settings.check_every) + 3
    return n_learned * (steps * size + looks * (n_held_out - n_fit))


def _parameters(config: ExperimentConfig) -> tuple[int | None, list[str]]:
    """Of the pre-trained checkpoint (a dual encoder: of its image tower), by its header, where it is on this disk."""
    said = config.expected.parameters if config.expected is not None else None
    try:
        place = Path(resolve_model(config.initialisation, config.folder))
        if not place.exists() and said is not None:
            return said, [f"parameters: {config.initialisation} is not on this disk; taken from `expected` in the file"]
        if not place.exists():
            return None, [f"disk and memory: {config.initialisation} is not on this disk"]
        with open_checkpoint(place) as checkpoint:
            floats = {name: spec.n_elements for name, spec in checkpoint.specs.items() if spec.is_float}
        tower = [n for name, n in floats.items() if name.startswith(_IMAGE_TOWER)]
        is_whole = isinstance(config.task, ClipTaskConfig) and tower
        return sum(tower if is_whole else floats.values()), []
    except StockpotError as error:
        if said is not None:
            return said, [f"parameters: {error.message}; taken from `expected` in the file"]
        return None, [f"disk and memory: {error.message}"]


def _prediction_bytes(config: ExperimentConfig, k: int, examples: Mapping[str, int | None]) -> int | None:
    """Cached logits (fp32) and labels of all that is predicted, candidates included."""
    if any(n is None for name, n in examples.items() if name != "train"):
        return None
    labels: object = config.task.labels
    classes = 1000 if labels == "imagenet" else len(config.task.labels or "?")
    rows = sum(n for n in _forward(config, k, examples).values() if n is not None)
    return rows * (4 * classes + 8)
