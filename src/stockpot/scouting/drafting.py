"""A task for the models and data that were found, and what it still lacks."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from stockpot.errors import DataError, MissingExtraError
from stockpot.scouting.columns import label_column, sample, text_columns
from stockpot.scouting.places import Scene

__all__ = ["Draft", "draft_task"]

#: Stands in the file where something is missing.
MISSING = "FILL-IN"
_CLIP_TYPES = frozenset({"clip", "align", "clip_vision_model", "align_vision_model"})
_ENDINGS = {
    "ForSequenceClassification": "text-classification",
    "ForImageClassification": "image-classification",
    "ForConditionalGeneration": "seq2seq-classification",
    "ForCausalLM": "lm",
    "LMHeadModel": "lm",
}


@dataclass(slots=True)
class Draft:
    """A task.yaml.

    Args:
        content: what goes into it.
        guesses: what was taken from where, one line each.
        missing: what it still lacks, one line each; then it holds `MISSING` in these places.
    """

    content: dict[str, Any] = field(default_factory=dict)
    guesses: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)

    def text(self) -> str:
        """The file."""
        head = ["# A task for `stockpot soup` and `stockpot compare`, made by `stockpot init` from what lies here:"]
        head += [f"#   {line}" for line in self.guesses]
        head += [f"# MISSING: {line}" for line in self.missing]
        body: str = yaml.safe_dump(self.content, sort_keys=False, allow_unicode=True, width=110)
        return "\n".join(head) + "\n" + body


def draft_task(scene: Scene, target: Path) -> Draft:
    """A task for what was found.

    Args:
        scene: see `scout`.
        target: where the file will stand; paths in it are relative to its folder.
    """
    draft = Draft()
    home = target.resolve().parent
    if not scene.models:
        draft.missing.append("models: no folder with a configuration (config.json) and weights was found")
    described = {str(model): _described(model) for model in scene.models}
    families = {name: kind for name, (kind, _) in described.items()}
    family = _family(families, draft)
    config = next((config for kind, config in described.values() if kind == family), {})
    draft.content["family"] = family or MISSING
    if family is not None:
        first = next(name for name, kind in families.items() if kind == family)
        n_same = sum(kind == family for kind in families.values())
        models = "1 model" if n_same == 1 else f"{n_same} models"
        draft.guesses.append(f"family {family}: {models}, the first is {_near(Path(first), home)}")
    if family in {"image-classification", "clip"}:
        _add_images(draft, scene, home)
    else:
        _add_tables(draft, scene, home, family, config)
    return draft


def _described(model: Path) -> tuple[str | None, Mapping[str, Any]]:
    """Family and configuration of a model folder."""
    name = "config.json" if (model / "config.json").is_file() else "open_clip_config.json"
    try:
        config = json.loads((model / name).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None, {}
    if not isinstance(config, dict):
        return None, {}
    if name != "config.json" or config.get("model_type") in _CLIP_TYPES:
        return "clip", config
    if "architecture" in config:
        return "image-classification", config
    kinds = [str(kind) for kind in config.get("architectures") or ()]
    for ending, family in _ENDINGS.items():
        if any(kind.endswith(ending) for kind in kinds):
            return family, config
    return None, config


def _family(families: Mapping[str, str | None], draft: Draft) -> str | None:
    """The one that all models have."""
    unknown = [name for name, kind in families.items() if kind is None]
    if unknown:
        draft.missing.append(
            f"family: {unknown[0]}: its configuration names no classifier or language model "
            "(`architectures` of config.json); a network without a head is what `stockpot run` starts from"
        )
    known = sorted({kind for kind in families.values() if kind is not None})
    if len(known) > 1:
        listed = ", ".join(f"{next(n for n, kind in families.items() if kind == one)} is {one}" for one in known)
        draft.missing.append(f"family: the models are of several kinds ({listed}); name the folders of one kind")
        return None
    return known[0] if known else None


def _near(path: Path, home: Path) -> str:
    """Relative where that is shorter than absolute and stays near."""
    relative = os.path.relpath(path.resolve(), home)
    return relative if relative.count("..") <= 2 else str(path.resolve())


def _add_images(draft: Draft, scene: Scene, home: Path) -> None:
    data: dict[str, Any] = {}
    for split in ("held_out", "test"):
        found = scene.images.get(split, [])
        if len(found) == 1:
            data[split] = {"path": _near(found[0], home)}
            draft.guesses.append(f"{split}: {_near(found[0], home)}, a folder of class folders")
    _require_held_out(draft, data, scene.images, "path", "folder of class folders with images", home)
    draft.content |= {"data": data, "metric": "accuracy", "evaluation": {"batch_size": 64}}


def _require_held_out(
    draft: Draft, data: dict[str, Any], found: Mapping[str, list[Path]], key: str, what: str, home: Path
) -> None:
    """Held-out data are what a task cannot do without; the training data are not in their place."""
    if "held_out" not in data:
        several = found.get("held_out", [])
        seen = found.get("train", [])
        why = f"several files would do: {', '.join(_near(path, home) for path in several)}" if several else "none found"
        if seen and not several:
            why = f"only {_near(seen[0], home)} was found, which the models have been trained on"
        data["held_out"] = {key: MISSING}
        draft.missing.append(f"data.held_out: a {what} that no model was trained on ({why})")
    if "test" not in data:
        draft.guesses.append("no test data were found: the table will have held-out scores alone; add `test` for more")


def _add_tables(draft: Draft, scene: Scene, home: Path, family: str | None, config: Mapping[str, Any]) -> None:
    data: dict[str, Any] = {}
    chosen: dict[str, Path] = {}
    for split in ("held_out", "test"):
        found = scene.tables.get(split, [])
        if len(found) == 1:
            chosen[split] = found[0]
    first = next(iter(chosen.values()), None)
    labels = _labels(config)
    if family == "lm":
        _add_lm_columns(draft, data, first)
    else:
        _add_columns(draft, data, first, labels)
    for split, path in chosen.items():
        data[split] = {"file": _near(path, home)}
        draft.guesses.append(f"{split}: {_near(path, home)}")
    _require_held_out(draft, data, scene.tables, "file", "table (.tsv, .csv, .jsonl, .parquet)", home)
    draft.content["data"] = data
    if family == "text-classification" and config.get("problem_type") == "regression":
        draft.content["metric"] = "mse"
        draft.guesses.append("metric mse: config.json says regression")
    elif family != "lm":
        draft.content["metric"] = "accuracy"
    draft.content["evaluation"] = {"batch_size": 64, "max_length": _max_length(config)}


def _labels(config: Mapping[str, Any]) -> list[str] | None:
    names = config.get("id2label")
    return [str(name) for name in names.values()] if isinstance(names, dict) and names else None


def _max_length(config: Mapping[str, Any]) -> int:
    most = config.get("max_position_embeddings")
    return min(128, most) if isinstance(most, int) and most > 0 else 128


def _sampled(draft: Draft, path: Path | None) -> Any:
    if path is None:
        return None
    try:
        return sample(path)
    except (DataError, MissingExtraError) as error:
        draft.missing.append(f"data: {error.message}")
        return None


def _add_columns(draft: Draft, data: dict[str, Any], path: Path | None, labels: list[str] | None) -> None:
    found = _sampled(draft, path)
    label = label_column(found, labels) if found is not None else None
    texts = text_columns(found, label) if found is not None else ()
    data["text"] = (texts[0] if len(texts) == 1 else list(texts)) if texts else MISSING
    data["label"] = label or MISSING
    if found is None:
        draft.missing += ["data.text, data.label: columns of texts and labels, once there is a table"]
        return
    listed = ", ".join(found.columns)
    if texts and label:
        draft.guesses.append(f"text {' and '.join(texts)}, label {label}: of the columns {listed}")
        return
    if not texts:
        draft.missing.append(f"data.text: which column holds the texts? there is {listed}")
    if not label:
        draft.missing.append(f"data.label: which column holds the labels? there is {listed}")


def _add_lm_columns(draft: Draft, data: dict[str, Any], path: Path | None) -> None:
    found = _sampled(draft, path)
    columns = {name.lower(): name for name in (found.columns if found is not None else ())}
    context = next((columns[name] for name in ("context", "question", "ctx", "prompt") if name in columns), None)
    choices = next((columns[name] for name in ("choices", "endings", "options") if name in columns), None)
    answer = next((columns[name] for name in ("answer", "label", "gold") if name in columns), None)
    if context and choices and answer:
        draft.content["scoring"] = "multiple-choice"
        data |= {"context": context, "choices": choices, "answer": answer}
        draft.guesses.append(f"multiple choice: context {context}, choices {choices}, answer {answer}")
        return
    draft.content["scoring"] = "likelihood"
    texts = text_columns(found, None) if found is not None else ()
    data["text"] = texts[0] if len(texts) == 1 else MISSING
    if len(texts) == 1:
        draft.guesses.append(f"likelihood of the texts in the column {texts[0]}")
    else:
        listed = ", ".join(columns.values()) or "no table yet"
        draft.missing.append(f"data.text: which column holds the texts? there is {listed}")
