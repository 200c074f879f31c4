"""Settings of learned soups as typed on the command line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer

from stockpot.errors import ConfigError

if TYPE_CHECKING:
    from stockpot.config import LearnedConfig

__all__ = ["Learned", "learned_config"]

Learned: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("--learned", help="Setting of learned soups, NAME=VALUE; repeatable.", show_default=False),
]


def learned_config(pairs: Sequence[str] | None, *, fold: bool = False) -> LearnedConfig:
    """The settings given, the rest as published.

    Args:
        pairs: "batch_size=64" and the like.
        fold: whether the written model has the logit scale in its classifier head.

    Raises:
        ConfigError: no NAME=VALUE, an unknown name, a value out of range; all of them named.

    Example:
        >>> learned_config(["batch_size=64", "patience=null"]).batch_size
        64
    """
    from stockpot.config import learned_config as checked

    content: dict[str, Any] = {"fold": True} if fold else {}
    broken = [pair for pair in pairs or () if "=" not in pair]
    if broken:
        raise ConfigError(
            "--learned takes NAME=VALUE", problems=[repr(pair) for pair in broken], fix="for example batch_size=64"
        )
    content |= {name.strip(): _value(text) for name, _, text in (pair.partition("=") for pair in pairs or ())}
    return checked(content)


def _value(text: str) -> Any:
    """A number, true, false or null where the text is one, as in a YAML file."""
    text = text.strip()
    named = {"true": True, "false": False, "null": None, "none": None}
    if text.lower() in named:
        return named[text.lower()]
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
