"""The base of every setting's model, and the translation of pydantic's errors into sentences a user can act on."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NoReturn, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails, PydanticCustomError

from stockpot.errors import ConfigError

__all__ = [
    "Problem",
    "Settings",
    "nearest",
    "raise_problems",
    "several",
    "shown",
    "validated",
    "validated_part",
    "validation_sentences",
]

#: (key path, sentence)
Problem = tuple[tuple[str | int, ...], str]
#: How pydantic writes what it tried: literal['a','b'], tuple[str, ...].
_KIND = re.compile(r"[a-z-]+\[.*\]", re.DOTALL)
_QUOTED = re.compile("'([^']*)'")
_M = TypeVar("_M", bound=BaseModel)


class Settings(BaseModel):
    """A frozen model that refuses unknown keys, conversions between types, NaN and infinity."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


def validated(model: type[_M], content: Mapping[str, Any], *, context: Mapping[str, Any], file: str) -> _M:
    """`content` as a `model`.

    Args:
        model: the settings' type.
        content: what the file or the caller gave.
        context: handed to the model's validators.
        file: named in every problem.

    Raises:
        ConfigError: with every problem: key, file, what was got, what is allowed.
    """
    try:
        return model.model_validate(content, context=context)
    except ValidationError as exc:
        problems = [f"{file}: {line}" for line in _lines(exc, model)]
        raise_problems(problems, file=file, cause=exc)


def raise_problems(problems: Sequence[str], *, file: str, cause: Exception | None = None) -> NoReturn:
    """One ConfigError for all of them."""
    count = f"{len(problems)} problem{'s' if len(problems) > 1 else ''}"
    raise ConfigError(f"{count} in {file}", problems=problems, fix="correct the keys named above") from cause


def several(problems: Iterable[Problem]) -> PydanticCustomError:
    """An error for pydantic that carries many problems, with keys relative to the field it is raised in."""
    return PydanticCustomError("several", "several problems", {"problems": list(problems)})


def nearest(name: object, known: Iterable[str]) -> str:
    """' (did you mean ...?)', or '' where nothing is near.

    Example:
        >>> nearest("learning_rat", ["learning_rate", "epochs"])
        " (did you mean 'learning_rate'?)"
    """
    found = difflib.get_close_matches(str(name), list(known), n=1, cutoff=0.5)
    return f" (did you mean {found[0]!r}?)" if found else ""


def shown(value: object) -> str:
    """What was got, cut to a readable length."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def validation_sentences(exc: ValidationError, model: type[BaseModel]) -> list[str]:
    """What was got and what is allowed, for every error, without the keys."""
    return [_sentence(error, model) for error in exc.errors(include_url=False)]


def validated_part(model: type[_M], content: Mapping[str, Any], *, context: Mapping[str, Any]) -> _M:
    """As `validated`, inside another model's validator: problems get the keys of the field they are in.

    Raises:
        PydanticCustomError: carrying every problem.
    """
    try:
        return model.model_validate(content, context=context)
    except ValidationError as exc:
        raise several(_located(exc, model)) from exc


def _lines(exc: ValidationError, model: type[BaseModel]) -> list[str]:
    return [f"{_dotted(path)}: {sentence}" for path, sentence in _located(exc, model)]


def _located(exc: ValidationError, model: type[BaseModel]) -> list[Problem]:
    found: list[Problem] = []
    for error in _one_for_each(exc.errors(include_url=False)):
        location = error["loc"]
        carried: list[Problem] = error.get("ctx", {}).get("problems", []) if error["type"] == "several" else []
        pairs = [((*location, *path), sentence) for path, sentence in carried] or [(location, _sentence(error, model))]
        found += pairs
    return found


def _one_for_each(errors: Sequence[ErrorDetails]) -> list[ErrorDetails]:
    """The errors with keys for locations: of a value that fits none of several kinds, one error.

    Pydantic gives one for each kind, and names the kinds in the location. Where the value is of one of the kinds and
    something inside it is wrong, the others say nothing to the user.
    """
    plain = [(tuple(part for part in error["loc"] if not _is_kind(part)), error) for error in errors]
    at_union = {path for path, error in plain if len(path) < len(error["loc"]) and _is_kind(error["loc"][-1])}
    inside = {path for path in at_union if any(other[: len(path)] == path and other != path for other, _ in plain)}
    kept: dict[tuple[str | int, ...], ErrorDetails] = {}
    found: list[ErrorDetails] = []
    for path, error in plain:
        if path in at_union and (path in inside or path in kept):
            if path in kept:
                kept[path].setdefault("ctx", {}).setdefault("others", []).append(error)
            continue
        located: ErrorDetails = {**error, "loc": path}
        found.append(located)
        if path in at_union:
            kept[path] = located
    return found


def _is_kind(part: str | int) -> bool:
    """Whether a part of a location is no key but the kind of value that was tried."""
    return isinstance(part, str) and _KIND.fullmatch(part) is not None


def _dotted(location: Iterable[str | int]) -> str:
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
    return text.removeprefix(".") or "(top level)"


_SENTENCES: Mapping[str, str] = {
    "literal_error": "allowed: {expected}",
    "greater_than": "allowed: a number > {gt}",
    "greater_than_equal": "allowed: a number >= {ge}",
    "less_than": "allowed: a number < {lt}",
    "less_than_equal": "allowed: a number <= {le}",
    "finite_number": "allowed: a finite number",
    "int_type": "allowed: a whole number",
    "int_from_float": "allowed: a whole number",
    "float_type": "allowed: a number",
    "bool_type": "allowed: true or false",
    "string_type": "allowed: text (put quotes around it)",
    "string_too_short": "allowed: text that is not empty",
    "model_type": "allowed: a mapping of `key: value`",
    "dict_type": "allowed: a mapping of `key: value`",
    "tuple_type": "allowed: a list",
    "too_short": "allowed: at least {min_length} entries",
    "too_long": "allowed: at most {max_length} entries",
}


def _sentence(error: ErrorDetails, model: type[BaseModel]) -> str:
    location, got = error["loc"], error["input"]
    if error["type"] == "missing":
        return "is missing"
    if error["type"] == "extra_forbidden":
        known = _known_keys(model, location[:-1])
        return f"unknown key{nearest(location[-1], known)}; allowed: {', '.join(known)}"
    context = error.get("ctx", {})
    if error["type"] not in _SENTENCES:
        return f"got {shown(got)}; {error['msg']}"
    meant = nearest(got, _QUOTED.findall(context["expected"])) if error["type"] == "literal_error" else ""
    tried = [error, *(one for one in context.get("others", ()) if one["type"] in _SENTENCES)]
    allowed = [_SENTENCES[one["type"]].format(**one.get("ctx", {})).removeprefix("allowed: ") for one in tried]
    return f"got {shown(got)}{meant}; allowed: {', or '.join(allowed)}"


def _known_keys(model: type[BaseModel], location: Iterable[str | int]) -> list[str]:
    """Keys of the model at `location`; parts that are no field (names inside a mapping, indices) are passed over."""
    for part in location:
        if isinstance(part, str) and part in model.model_fields:
            model = _model_in(model.model_fields[part].annotation) or model
    return list(model.model_fields)


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for argument in get_args(annotation) if (found := _model_in(argument))), None)
