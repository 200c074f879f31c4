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
from stockpot.scouting.columns import Sample, are_numbers, choice_columns, label_column, sample, text_columns
from stockpot.scouting.hints import hints
from stockpot.scouting.places import Scene
from stockpot.scouting.recorded import recorded_task, search, with_files

__all__ = ["MISSING", "Draft", "draft_task"]

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
_OF_TEXTS = frozenset({"seq2seq-classification", "lm"})
#: What transformers leaves out of config.json.
_DEFAULT_LABELS = ("LABEL_0", "LABEL_1")
#: Keys of networks that read sounds or images, and end like those that read texts (Whisper, BLIP).
_OTHER_INPUTS = frozenset({"audio_config", "num_mel_bins", "vision_config"})


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
        return "\n".join([*head, body.rstrip("\n"), *(hints(self.content["family"]) if self.missing else ())]) + "\n"


def draft_task(scene: Scene, target: Path) -> Draft:
    """A task for what was found.

    Args:
        scene: see `scout`.
        target: where the file will stand; paths in it are relative to its folder.
    """
    draft = Draft()
    home = target.resolve().parent
    recorded = recorded_task(scene.task) if scene.task is not None else None
    if recorded is not None:
        _add_recorded(draft, scene, recorded, home)
        return draft
    if not scene.models:
        draft.missing.append("models: no folder with a configuration (config.json) and weights was found")
    described = {str(model): _described(model) for model in scene.models}
    draft.missing += [f"family: {name}: {why}" for name, (kind, _, why) in described.items() if kind is None]
    families = {name: kind for name, (kind, _, _) in described.items()}
    family = _family(families, draft)
    config = next((config for kind, config, _ in described.values() if kind == family), {})
    draft.content["family"] = family or MISSING
    if family is not None:
        first = next(name for name, kind in families.items() if kind == family)
        n_same = sum(kind == family for kind in families.values())
        models = "1 model" if n_same == 1 else f"{n_same} models"
        draft.guesses.append(f"family {family}: {models}, the first is {_near(Path(first), home)}")
    only_images = bool(scene.images) and not scene.tables
    if family in {"image-classification", "clip"} or (family is None and only_images):
        _add_images(draft, scene, home)
    else:
        _add_tables(draft, scene, home, family, config)
    return draft


def _add_recorded(draft: Draft, scene: Scene, task: Mapping[str, Any], home: Path) -> None:
    """The task that an output of stockpot was made with, with the data where they are found now."""
    output = (scene.task or Path()).resolve()
    near = [place for at in (output, *output.parents[:3]) for place in (at, at / "data")]
    places = [home, Path.cwd(), *scene.places, *near]

    def found(given: str) -> str | None:
        at = search(given, places)
        if at is not None:
            draft.guesses.append(f"data {given}: {_near(at, home)} is called so; is it the file of those runs?")
        return None if at is None else _near(at, home)

    draft.guesses.append(f"family {task['family']}, data and metric: the task that {_near(output, home)} was made with")
    content, lost = with_files(task, found, MISSING)
    draft.content |= content
    draft.missing += [
        f"data: {given}, which those runs were made with, was not found; name its folder too, as in "
        f"`stockpot init {_near(output, Path.cwd())} FOLDER`"
        for given in lost
    ]
    if not scene.models:
        draft.guesses.append("no models lie here: name those that the task is to be used on")


def _described(model: Path) -> tuple[str | None, Mapping[str, Any], str]:
    """Family and configuration of a model folder; without a family, why."""
    name = "config.json" if (model / "config.json").is_file() else "open_clip_config.json"
    try:
        config = json.loads((model / name).read_text(encoding="utf-8"))
    except (OSError, ValueError) as exc:
        return None, {}, f"{name} cannot be read: {exc}"
    if not isinstance(config, dict):
        return None, {}, f"{name} holds {type(config).__name__}, not a mapping"
    if name != "config.json" or config.get("model_type") in _CLIP_TYPES:
        return "clip", config, ""
    if "architecture" in config:
        return "image-classification", config, ""
    listed = config.get("architectures")
    kinds = [str(kind) for kind in listed] if isinstance(listed, list) else []
    for ending, family in _ENDINGS.items():
        if any(kind.endswith(ending) for kind in kinds) and not (family in _OF_TEXTS and _OTHER_INPUTS & config.keys()):
            return family, config, ""
    said = ", ".join(kinds) or "none"
    why = f"{name} names no classifier or language model of texts or images (architectures: {said})"
    more = "a network without a head is what `stockpot run` starts from, any other a task of family `custom`"
    return None, config, f"{why}; {more}"


def _family(families: Mapping[str, str | None], draft: Draft) -> str | None:
    """The one that all models have."""
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
        why = (
            f"several files would do: {', '.join(_near(path, home) for path in several)}"
            if several
            else "none found; name their folder too"
        )
        if (unnamed := found.get("")) and not several:
            listed = ", ".join(_near(path, home) for path in unnamed[:4])
            why = f"{listed}: no name tells held-out data from training data"
        if seen and not several:
            why = f"only {_near(seen[0], home)} was found, which the models have been trained on"
        data["held_out"] = {key: MISSING}
        draft.missing.append(f"data.held_out: a {what} that no model was trained on ({why})")
    if "test" not in data:
        candidates = ", ".join(_near(path, home) for path in found.get("test", []))
        why = f"no test data were chosen of {candidates}" if candidates else "no test data were found"
        draft.guesses.append(f"{why}: the table will have held-out scores alone; add `test` for more")


def _add_tables(draft: Draft, scene: Scene, home: Path, family: str | None, config: Mapping[str, Any]) -> None:
    data: dict[str, Any] = {}
    tables = {split: scene.tables[split][0] for split in ("held_out", "test") if len(scene.tables.get(split, [])) == 1}
    samples = {split: _sampled(draft, path) for split, path in tables.items()}
    first = next((found for found in samples.values() if found is not None), None)
    is_regression = family == "text-classification" and _is_regression(config)
    if family == "lm":
        _add_lm_columns(draft, data, first)
    else:
        _add_columns(draft, data, first, None if is_regression else _labels(config))
    for split, path in tables.items():
        found = samples[split]
        if split == "test" and found is not None and (why := _unusable(found, data)):
            draft.guesses.append(f"test: {_near(path, home)} is left out: {why}")
            continue
        data[split] = {"file": _near(path, home)}
        draft.guesses.append(f"{split}: {_near(path, home)}")
    unsettled = {split: paths for split, paths in scene.tables.items() if split != "held_out" or len(paths) > 1}
    _require_held_out(draft, data, unsettled, "file", "table (.tsv, .csv, .jsonl, .parquet)", home)
    draft.content["data"] = data
    if family == "seq2seq-classification":
        _add_words(draft, first, data["label"])
    if is_regression:
        _add_regression(draft, first, data["label"])
    elif family != "lm":
        draft.content["metric"] = "accuracy"
    most = 1024 if family == "lm" else 128
    draft.content["evaluation"] = {"batch_size": 8 if family == "lm" else 64, "max_length": _max_length(config, most)}


def _add_words(draft: Draft, found: Sample | None, label: str) -> None:
    """What a text-to-text model reads and answers; neither stands in its configuration."""
    draft.guesses.append(
        "template: left out, so the model reads the texts as they stand; one that was trained on prompts needs "
        '`template`, as in "sst2 sentence: {sentence}"'
    )
    if found is not None and are_numbers(found.columns.get(label, ())):
        draft.content["label_words"] = MISSING
        draft.missing.append(
            f"label_words: the column {label} holds numbers, and the model answers in words: which for each? "
            "as in {0: negative, 1: positive}"
        )


def _is_regression(config: Mapping[str, Any]) -> bool:
    names = config.get("id2label")
    n_outputs = len(names) if isinstance(names, dict) else config.get("num_labels")
    return config.get("problem_type") == "regression" or n_outputs == 1


def _add_regression(draft: Draft, found: Sample | None, label: str) -> None:
    draft.content["metric"] = "mse"
    draft.guesses.append("metric mse: config.json says regression (problem_type, or one output)")
    if found is not None and label in found.columns and not are_numbers(found.columns[label]):
        draft.missing.append(f"data.label: the column {label} holds no numbers, but the model predicts one")
        draft.content["data"]["label"] = MISSING


def _unusable(found: Sample, data: Mapping[str, Any]) -> str | None:
    """Why a test table is none: it lacks columns that the held-out one has, or its labels are withheld (GLUE's)."""
    needed = [name for key in ("text", "label", "context", "choices", "answer") for name in _listed(data.get(key))]
    if lacking := [name for name in needed if name != MISSING and name not in found.columns]:
        return f"it has no column {' and none '.join(lacking)}"
    for key in ("label", "answer"):
        values = {str(value) for value in found.columns.get(data.get(key) or "", ())}
        if values and values <= {"-1", "", "None"}:
            return f"its {data[key]} says nothing ({', '.join(sorted(repr(value) for value in values))} in every row)"
    return None


def _listed(value: object) -> list[str]:
    return [str(name) for name in value] if isinstance(value, list) else [] if value is None else [str(value)]


def _labels(config: Mapping[str, Any]) -> list[str] | None:
    names = config.get("id2label")
    if isinstance(names, dict) and names:
        return [str(name) for name in names.values()]
    return list(_DEFAULT_LABELS) if config.get("architectures") and names is None else None


def _max_length(config: Mapping[str, Any], most: int) -> int:
    said = config.get("max_position_embeddings", config.get("n_positions"))
    return min(most, said) if isinstance(said, int) and said > 1 else most


def _sampled(draft: Draft, path: Path) -> Sample | None:
    try:
        return sample(path)
    except (DataError, MissingExtraError) as error:
        draft.missing.append(f"data: {error.message}")
        return None


def _add_columns(draft: Draft, data: dict[str, Any], found: Sample | None, labels: list[str] | None) -> None:
    if found is not None and not found.has_header:
        draft.missing.append(
            f"data.columns: the table has no header ({', '.join(map(repr, found.columns))} would be its names); "
            "name its columns in order, then text and label"
        )
        data |= {"columns": MISSING, "text": MISSING, "label": MISSING}
        return
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


def _add_lm_columns(draft: Draft, data: dict[str, Any], found: Sample | None) -> None:
    listed = ", ".join(found.columns) if found is not None else "no table yet"
    if found is not None and (columns := choice_columns(found)) is not None:
        choices, context, answer = columns
        draft.content["scoring"] = "multiple-choice"
        data |= {"context": context or MISSING, "choices": choices, "answer": answer or MISSING}
        draft.guesses.append(f"multiple choice: {choices} holds lists; of the columns {listed}")
        if not context:
            draft.missing.append(f"data.context: which column stands before the choices? there is {listed}")
        if not answer:
            draft.missing.append(f"data.answer: which column tells the right choice? there is {listed}")
        return
    draft.content["scoring"] = "likelihood"
    texts = text_columns(found, None) if found is not None else ()
    data["text"] = texts[0] if len(texts) == 1 else MISSING
    if len(texts) == 1:
        draft.guesses.append(f"likelihood of the texts in the column {texts[0]}")
    else:
        draft.missing.append(f"data.text: which column holds the texts? there is {listed}")
