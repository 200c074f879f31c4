"""Sentences about classes, for zero-shot heads: templates times class names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from stockpot.config import ZeroShotConfig
from stockpot.errors import ConfigError
from stockpot.tasks.dual_encoders import import_open_clip

__all__ = ["class_prompts"]


def class_prompts(config: ZeroShotConfig, labels: Sequence[str]) -> tuple[list[str], int]:
    """Every template filled with every class, the templates of the first class first; and how many a class has.

    Args:
        config: templates and names; its words `imagenet` stand for open_clip's own lists.
        labels: the classes in order.

    Raises:
        ConfigError: names that are missing or too many; all are listed.
        MissingExtraError: open_clip, whose lists they are, is not installed.

    Example:
        >>> class_prompts(ZeroShotConfig(templates=("a {}.", "my {}.")), ["t_shirt", "cat"])
        (['a t shirt.', 'my t shirt.', 'a cat.', 'my cat.'], 2)
    """
    names = _names(config, labels)
    templates = _templates(config)
    return [template(name) for name in names for template in templates], len(templates)


def _templates(config: ZeroShotConfig) -> list[Any]:
    if config.templates == "imagenet":
        return list(import_open_clip().OPENAI_IMAGENET_TEMPLATES)
    if config.templates == "imagenet-simple":
        return list(import_open_clip().SIMPLE_IMAGENET_TEMPLATES)
    return [lambda name, template=template: template.replace("{}", name) for template in config.templates]


def _names(config: ZeroShotConfig, labels: Sequence[str]) -> list[str]:
    given = config.class_names
    if given is None:
        return [label.replace("_", " ") for label in labels]
    if given == "imagenet":
        names = list(import_open_clip().IMAGENET_CLASSNAMES)
        if len(names) != len(labels):
            raise ConfigError(
                f"class_names: imagenet are {len(names)} names, the task has {len(labels)} labels",
                fix="use `labels: imagenet`, or give class_names as a mapping",
            )
        return names
    problems = [f"{label}: has no name" for label in labels if label not in given]
    problems += [f"{label}: is no label of the task" for label in given if label not in labels]
    if problems:
        raise ConfigError(
            "class_names do not fit the labels", problems=problems, fix="give each label one name, or leave it out"
        )
    return [given[label] for label in labels]
