"""What an entry of the journal is about, as one SHA-256."""

from __future__ import annotations

import hashlib
import inspect
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from stockpot.errors import EvaluationError
from stockpot.types import Incumbent, Soup

__all__ = ["identity_of_callable", "incumbent_key", "soup_key"]


def soup_key(soup: Soup, task_identity: str) -> str:
    """The name of everything a soup's evaluation depends on: SHA-256 over canonical JSON.

    It holds the ingredients' digests (and which state dict of a wrapped file), in order; coefficients, groups and logit
    scale to the last bit; weights or logits; the task. Names, paths, the recipe and its steps are no part of it: they
    change no number. An ingredient at coefficient 0 is one (its integer tensors may be the donor's).

    Args:
        soup: every ingredient with its digest.
        task_identity: all else that the result depends on: data, metric, model configuration, evaluation settings.

    Returns:
        64 hexadecimal digits.

    Raises:
        EvaluationError: ingredients without a digest; names them all.

    Example:
        >>> from stockpot.types import Coefficients, Ingredient
        >>> a = Soup((Ingredient("a", "runs/a", digest="1f"),), Coefficients.equal(1), "best")
        >>> b = Soup((Ingredient("b", "copy/a", digest="1f"),), Coefficients.equal(1), "uniform")
        >>> soup_key(a, "task") == soup_key(b, "task") != soup_key(b, "other task")
        True
    """
    nameless = [ingredient for ingredient in soup.ingredients if not ingredient.digest]
    if nameless:
        raise EvaluationError(
            f"{len(nameless)} of {len(soup.ingredients)} ingredients have no digest, so nothing can be remembered",
            problems=[f"{ingredient.name}: {ingredient.source}" for ingredient in nameless],
            fix="take the digests of the ingredients first, or evaluate without a journal",
        )
    coefficients = soup.coefficients
    return _sha256_of_json(
        {
            "ingredients": [[ingredient.digest, ingredient.key] for ingredient in soup.ingredients],
            "coefficients": [[float(value).hex() for value in row] for row in coefficients.rows],
            "groups": coefficients.groups,
            "combine": soup.combine,
            "logit_scale": float(soup.logit_scale).hex(),
            "task": task_identity,
        }
    )


def incumbent_key(against: Incumbent | None, task_identity: str) -> str:
    """The name of the question "can it replace this one?"; empty where nothing is to be replaced."""
    if against is None:
        return ""
    needed: list[object] = [float(against.score.utility).hex(), float(against.minimum_gain).hex(), against.strict]
    if against.significance is not None:
        needed.append(float(against.significance).hex())
    return _sha256_of_json({"soup": soup_key(against.soup, task_identity), "needed": needed})


def identity_of_callable(function: Callable[..., Any], dotted_name: str) -> str | None:
    """The identity of a user's function: its dotted name, the SHA-256 of its source, its `version` if it has one.

    The source is the file of the module that `dotted_name` names and, where that is another, the file that defines the
    function. What these import is not looked at: `version`, any attribute of the function, is there to say so.

    Args:
        function: what `dotted_name` stands for.
        dotted_name: ``package.module:function``.

    Returns:
        None for a callable that no file vouches for (typed at a prompt, a lambda, a closure): what it returns can be
        remembered in this process only.

    Example:
        >>> identity_of_callable(json.dumps, "json:dumps").startswith("json:dumps sha256=")
        True
        >>> identity_of_callable(lambda soup: 0.5, "json:dumps") is None
        True
    """
    module_name, _, qualified_name = dotted_name.partition(":")
    module = sys.modules.get(module_name)
    # A closure or a partial depends on values that no file shows, unless its module makes it and gives it this name.
    if module is None or _named(module, qualified_name) is not function:
        return None
    sources = [_source_file(module), _source_file(inspect.unwrap(function))]
    if sources[0] is None:
        return None
    files = dict.fromkeys(path for path in sources if path is not None)
    digests = ",".join(hashlib.sha256(path.read_bytes()).hexdigest() for path in files)
    version = getattr(function, "version", None)
    return f"{dotted_name} sha256={digests}" + ("" if version is None else f" version={version}")


def _named(module: Any, qualified_name: str) -> Any:
    found = module
    for name in qualified_name.split("."):
        found = getattr(found, name, None)
    return found


def _source_file(defined: Any) -> Path | None:
    try:
        name = inspect.getsourcefile(defined)
    except TypeError:  # built in, or an instance: its module's file vouches for it
        return None
    return Path(name) if name is not None and Path(name).is_file() else None


def _sha256_of_json(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, ensure_ascii=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode("ascii")).hexdigest()
