"""Reads what stands beside the weights: names of labels, tokenizers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stockpot.analysis.diagnosis import Tokenizer, label_name_findings, said_labels, tokenizer_findings
from stockpot.records import Finding
from stockpot.types import Ingredient

__all__ = ["LookedBeside", "look_beside"]

#: Files that make a tokenizer, the first that is there before the others.
_WHOLE = "tokenizer.json"
_LISTS = ("vocab.json", "vocab.txt")
_OTHERS = ("merges.txt", "tokenizer.model", "spiece.model", "sentencepiece.bpe.model", "source.spm", "target.spm")
_ADDED = "added_tokens.json"
#: Of tokenizer.json; padding and truncation are no part of what a token means.
_SETTINGS = ("normalizer", "pre_tokenizer", "post_processor")


@dataclass(slots=True)
class LookedBeside:
    """What configurations and tokenizers showed; what was looked at; what was not, and why."""

    findings: list[Finding] = field(default_factory=list)
    checked: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)


def look_beside(runs: Sequence[Ingredient], initialisation: str | None) -> LookedBeside:
    """Whether configurations and tokenizers contradict each other.

    Args:
        runs: ingredients; those without such files are passed over.
        initialisation: checkpoint of their start, which is right where runs contradict each other.
    """
    folders = {run.name: _folder(run.source) for run in runs}
    begun = _folder(initialisation) if initialisation is not None else None
    looked = LookedBeside()
    labels = {name: found for name, folder in folders.items() if (found := _labels(name, folder, looked))}
    known: dict[tuple[str, ...], Tokenizer] = {}
    cut = {name: one for name, folder in folders.items() if (one := _tokenizer(name, folder, known, looked))}
    if len(labels) > 1:
        own = _labels("the initialisation", begun, looked) if begun else {}
        looked.findings += label_name_findings(labels, begun=own)
        looked.checked.append("label names")
    else:
        looked.skipped.append("label names: fewer than two ingredients have a config.json that gives them")
    if len(cut) > 1:
        its = _tokenizer("the initialisation", begun, known, looked) if begun else None
        looked.findings += tokenizer_findings(cut, begun=its)
        looked.checked.append("tokenizers")
    else:
        looked.skipped.append("tokenizers: fewer than two ingredients have one beside their weights")
    return looked


def _folder(source: str) -> Path:
    path = Path(source).expanduser()
    return path if path.is_dir() else path.parent


def _labels(name: str, folder: Path, looked: LookedBeside) -> dict[int, str]:
    file = folder / "config.json"
    return said_labels(_json(name, file, looked)) if file.is_file() else {}


def _tokenizer(
    name: str, folder: Path, known: dict[tuple[str, ...], Tokenizer], looked: LookedBeside
) -> Tokenizer | None:
    """The tokenizer in a folder; equal files are read once, as there may be hundreds of a quarter million tokens."""
    wanted = (_WHOLE,) if (folder / _WHOLE).is_file() else (*_LISTS, *_OTHERS, _ADDED)
    try:
        raw = {file: (folder / file).read_bytes() for file in wanted if (folder / file).is_file()}
    except OSError as exc:
        looked.skipped.append(f"tokenizer of {name}: {exc.strerror or exc}")
        return None
    digests = {file: hashlib.sha256(content).hexdigest() for file, content in raw.items()}
    key = tuple(f"{file} {digest}" for file, digest in digests.items())
    if not raw or key in known:
        return known.get(key)
    try:
        known[key] = _whole(raw[_WHOLE]) if _WHOLE in raw else _of_lists(raw, digests)
    except (ValueError, RecursionError, TypeError, KeyError, AttributeError):
        looked.skipped.append(f"tokenizer of {name}: {', '.join(raw)} cannot be understood")
        return None
    return known[key]


def _whole(content: bytes) -> Tokenizer:
    """What tokenizer.json says."""
    told = json.loads(content)
    model = told["model"]
    listed = model["vocab"]
    ids = dict(listed) if isinstance(listed, Mapping) else {entry[0]: index for index, entry in enumerate(listed)}
    ids |= {entry["content"]: entry["id"] for entry in told.get("added_tokens") or []}
    settings = {key: told.get(key) for key in _SETTINGS} | {"model": model.get("type")}
    if merges := model.get("merges"):  # pairs, or, in files of older versions, texts
        settings["merges"] = [" ".join(pair) if isinstance(pair, list) else pair for pair in merges]
    return Tokenizer(ids, settings)


def _of_lists(raw: Mapping[str, bytes], digests: Mapping[str, str]) -> Tokenizer:
    """What the files of older tokenizers say; of those that only their library can read, the digest."""
    ids: dict[str, int] = {}
    if "vocab.json" in raw:
        ids = dict(json.loads(raw["vocab.json"]))
    elif "vocab.txt" in raw:
        ids = {token: index for index, token in enumerate(raw["vocab.txt"].decode("utf-8").splitlines())}
    if _ADDED in raw:
        ids |= dict(json.loads(raw[_ADDED]))
    return Tokenizer(ids, {file: digests[file] for file in _OTHERS if file in digests}, is_whole=False)


def _json(name: str, file: Path, looked: LookedBeside) -> Any:
    try:
        return json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError) as exc:
        reason = exc.strerror or str(exc) if isinstance(exc, OSError) else "is no JSON"
        looked.skipped.append(f"label names of {name}: {file.name} {reason}")
        return None
