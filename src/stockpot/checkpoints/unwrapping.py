"""Finds the one state dict in what a training script saved: pure functions over mappings, no torch."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from stockpot.errors import CheckpointError

__all__ = ["StateDict", "strip_common_prefixes", "unwrap"]

#: Entries that hold tensors but never the model, in the spelling of torch, Lightning, DeepSpeed, timm and fairseq.
_NEVER_MODELS = re.compile(
    r"(optim|opt_state|sched|lr_sched|scaler|grad_scaler|rng|random_state|callback|hyper_param|hparam).*"
    r"|amp|loops|args|config|cfg",
    re.IGNORECASE,
)
#: The usual names of the model's entry: they win over stray tensors beside them.
_WRAPPERS = frozenset({
    "state_dict", "model", "ema", "model_state_dict", "module", "model_ema", "state_dict_ema", "params", "params_ema",
    "network", "net", "weights", "ema_state_dict", "generator", "model_state",
})  # fmt: skip
_MAX_DEPTH = 4
_PREFIXES = ("module.", "_orig_mod.")
#: What `--key` calls the tensors that lie beside the nested mappings.
_TOP = "."
IsTensor = Callable[[Any], bool]


class StateDict(NamedTuple):
    """The tensors by name, and what was done to find them (one sentence each)."""

    tensors: dict[str, Any]
    notes: tuple[str, ...]


def unwrap(loaded: Any, is_tensor: IsTensor, *, source: str, key: str | None = None) -> StateDict:
    """Takes the state dict out of a loaded file: the only one there is, or the one that `key` names.

    Args:
        loaded: what the file held.
        is_tensor: tells tensors from everything else.
        source: named in errors.
        key: path of names joined by dots; "." means the tensors at the top.

    Returns:
        A non-empty mapping of names to tensors, in the file's order.

    Raises:
        CheckpointError: no state dict, several and no key, or no such key.

    Example:
        >>> unwrap({"epoch": 3, "model": {"w": 1.0}}, lambda value: isinstance(value, float), source="a.pt")
        StateDict(tensors={'w': 1.0}, notes=("took the state dict 'model'",))
    """
    if not isinstance(loaded, Mapping):
        raise CheckpointError(
            f"{source}: holds a {type(loaded).__name__}, not a state dict", fix="save model.state_dict() instead"
        )
    if key is not None:
        return _selected(loaded, key, is_tensor, source)
    candidates = dict(_candidates(loaded, is_tensor))
    path = _obvious(candidates, source)
    return _cleaned(candidates[path], path, is_tensor)


def strip_common_prefixes(tensors: Mapping[str, Any]) -> StateDict:
    """Removes `module.` (DataParallel) and `_orig_mod.` (torch.compile) where every name has them.

    Example:
        >>> strip_common_prefixes({"module.w": 1, "module.b": 2})
        StateDict(tensors={'w': 1, 'b': 2}, notes=("removed the prefix 'module.' from every name",))
    """
    stripped = dict(tensors)
    notes: list[str] = []
    while prefix := next((prefix for prefix in _PREFIXES if _all_have(stripped, prefix)), None):
        stripped = {name.removeprefix(prefix): tensor for name, tensor in stripped.items()}
        notes.append(f"removed the prefix {prefix!r} from every name")
    return StateDict(stripped, tuple(notes))


def _all_have(tensors: Mapping[str, Any], prefix: str) -> bool:
    return bool(tensors) and all(name.startswith(prefix) and name != prefix for name in tensors)


def _candidates(value: Mapping[Any, Any], is_tensor: IsTensor) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every state dict in `value` by its dotted path; a dict stored under two names is one candidate."""
    seen: set[int] = set()
    for path, candidate in _walk(value, is_tensor, ()):
        if id(candidate) not in seen:
            seen.add(id(candidate))
            yield ".".join(path) or _TOP, candidate


def _walk(
    value: Mapping[Any, Any], is_tensor: IsTensor, path: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], Mapping[str, Any]]]:
    if _is_state_dict(value, is_tensor):
        yield path, value
    if len(path) == _MAX_DEPTH or "param_groups" in value:  # the mark of a torch optimiser's state
        return
    for name, entry in value.items():
        if isinstance(name, str) and isinstance(entry, Mapping) and not _NEVER_MODELS.fullmatch(name):
            yield from _walk(entry, is_tensor, (*path, name))


def _is_state_dict(value: Any, is_tensor: IsTensor) -> bool:
    if not isinstance(value, Mapping) or "param_groups" in value:
        return False
    return all(isinstance(name, str) for name in value) and any(is_tensor(entry) for entry in value.values())


def _obvious(candidates: Mapping[str, Mapping[str, Any]], source: str) -> str:
    """The path of the only candidate; a stray tensor beside one well-known wrapper does not make a second."""
    nested = [path for path in candidates if path != _TOP]
    if len(candidates) == 1:
        return next(iter(candidates))
    if len(nested) == 1 and nested[0].split(".")[-1] in _WRAPPERS:
        return nested[0]
    if not candidates:
        raise CheckpointError(f"{source}: holds no tensors by name", fix="save model.state_dict() instead")
    raise CheckpointError(
        f"{source}: holds {len(candidates)} state dicts",
        problems=[f"{path}: {len(entries)} entries" for path, entries in candidates.items()],
        fix=" or ".join(f"--key {path}" for path in candidates),
    )


def _cleaned(entries: Mapping[str, Any], path: str, is_tensor: IsTensor) -> StateDict:
    tensors = {name: entry for name, entry in entries.items() if is_tensor(entry)}
    others = [name for name, entry in entries.items() if not is_tensor(entry)]
    notes = [] if path == _TOP else [f"took the state dict {path!r}"]
    if others:
        notes.append(f"passed over entries that are no tensors: {', '.join(others)}")
    return StateDict(tensors, tuple(notes))


def _selected(loaded: Mapping[Any, Any], key: str, is_tensor: IsTensor, source: str) -> StateDict:
    entry = loaded if key == _TOP else _find(loaded, key)
    if _is_state_dict(entry, is_tensor):
        return _cleaned(entry, key, is_tensor)
    candidates = list(dict(_candidates(loaded, is_tensor)))
    import difflib  # for mistakes alone

    close = difflib.get_close_matches(key, candidates, n=1, cutoff=0.4) or candidates[:1]
    wrong = "is not there" if entry is None else f"is a {type(entry).__name__} and no state dict"
    raise CheckpointError(
        f"{source}: key {key!r} {wrong}",
        problems=[f"there is {path}" for path in candidates],
        fix=f"--key {close[0]}" if close else "save model.state_dict() instead",
    )


def _find(value: Any, key: str) -> Any:
    """The entry at a dotted path; names that contain dots themselves are found too."""
    if not isinstance(value, Mapping):
        return None
    if key in value:
        return value[key]
    splits = [at for at, letter in enumerate(key) if letter == "."]
    found = (_find(value[key[:at]], key[at + 1 :]) for at in splits if key[:at] in value)
    return next((entry for entry in found if entry is not None), None)
