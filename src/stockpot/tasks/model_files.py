"""What a model folder says about its model: architecture, tokenizer, label names; and what identifies them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stockpot.errors import ConfigError, DataError
from stockpot.tasks.timm_config import is_timm, timm_config

__all__ = ["VOLATILE_KEYS", "check_outputs", "model_config", "model_identity", "model_labels", "sha256_of"]

# Of a model folder only what shapes its logits: these keys of config.json say who wrote it.
VOLATILE_KEYS = {"_name_or_path", "transformers_version", "id2label", "label2id", "dtype", "torch_dtype"}
_TOKENIZER_FILES = (
    "tokenizer.json", "vocab.txt", "vocab.json", "merges.txt", "added_tokens.json", "special_tokens_map.json",
    "spiece.model", "tokenizer.model", "sentencepiece.bpe.model", "spm.model", "bpe.codes",
)  # fmt: skip
# And of tokenizer_config.json these: where it came from, what the task's own max_length overrides, and chats.
_TOKENIZER_VOLATILE_KEYS = {
    "_name_or_path", "name_or_path", "transformers_version", "is_local", "local_files_only", "backend",
    "model_max_length", "chat_template", "max_length", "stride", "truncation_strategy",
}  # fmt: skip


def model_identity(folder: Path) -> Mapping[str, Any]:
    """What of a model's folder shapes its logits, beside the weights: the architecture and the tokenizer."""
    config = {key: value for key, value in model_config(folder).items() if key not in VOLATILE_KEYS}
    files = {
        name: hashlib.sha256((folder / name).read_bytes()).hexdigest()
        for name in _TOKENIZER_FILES
        if (folder / name).is_file()
    }
    return {"config": config, "tokenizer": files, "tokenizer_settings": _tokenizer_settings(folder)}


def _tokenizer_settings(folder: Path) -> Mapping[str, Any]:
    """What tokenizer_config.json says about the way from text to tokens."""
    path = folder / "tokenizer_config.json"
    if not path.is_file():
        return {}
    content = _json_object(path)
    return {key: value for key, value in content.items() if key not in _TOKENIZER_VOLATILE_KEYS}


def model_labels(folder: Path) -> tuple[str, ...] | None:
    """The label names in a model's config.json, in order; None where nobody has named them (LABEL_0, ...)."""
    config = model_config(folder)
    if is_timm(config):
        return timm_config(config).label_names
    names = config.get("id2label")
    if not isinstance(names, dict) or not names:
        return None
    if set(names) != {str(index) for index in range(len(names))}:
        raise ConfigError(
            f"{folder / 'config.json'}: the keys of id2label are {', '.join(names)}, not 0 to {len(names) - 1}",
            fix="number the labels in the order of the model's outputs",
        )
    ordered = tuple(str(names[str(index)]) for index in range(len(names)))
    if all(name == f"LABEL_{index}" for index, name in enumerate(ordered)):
        return None
    return ordered


def check_outputs(folder: Path, names: Sequence[str] | None) -> None:
    """Refuses classes that a model has no outputs for, or too few.

    Args:
        folder: the model's.
        names: of the classes; None: one number is predicted.

    Raises:
        DataError: its config.json lists another number of labels.
    """
    n_outputs = _n_outputs(model_config(folder))
    if n_outputs is None or n_outputs == (1 if names is None else len(names)):
        return
    has = f"the model in {folder} has {n_outputs} outputs"
    if names is None:
        raise DataError(
            f"the task's metric is one of numbers, but {has}",
            fix="use a metric of classes (accuracy), or name a model with one output as `model:`",
        )
    shown = ", ".join(names[:10]) + (", ..." if len(names) > 10 else "")
    raise DataError(
        f"the task has {len(names)} classes ({shown}), but {has}",
        fix="mend the rows with other labels, list the model's classes as `labels`, or name another `model:`",
    )


def _n_outputs(config: Mapping[str, Any]) -> int | None:
    if is_timm(config):
        return timm_config(config).n_classes
    listed = config.get("id2label")
    return len(listed) if isinstance(listed, dict) and listed else None


def model_config(folder: Path) -> dict[str, Any]:
    """A folder's config.json.

    Raises:
        ConfigError: there is none, or it is no JSON object.
    """
    path = folder / "config.json"
    if not path.exists():
        raise ConfigError(
            f"{folder}: no config.json, so the model's architecture is unknown",
            fix="give model folders, or name one with `model:` in the task file",
        )
    return _json_object(path)


def _json_object(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as exc:
        raise ConfigError(f"{path}: not readable as JSON: {exc}") from exc
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: not a JSON object")
    return content


def sha256_of(value: Any) -> str:
    """SHA-256 of a value of JSON's kinds, whatever the order of its keys."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()
