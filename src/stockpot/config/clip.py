"""The schema of a task.yaml of image-text models: that of images, and the sentences about the classes."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, Strict, field_validator, model_validator

from stockpot.config._problems import Settings, several
from stockpot.config.images import ImageTaskConfig

__all__ = ["ClipTaskConfig", "ZeroShotConfig"]

_Name = Annotated[str, Field(min_length=1)]


class ZeroShotConfig(Settings):
    """What the text tower is told about the classes.

    Args:
        templates: sentences with `{}` for the class; "imagenet" are the 80 of CLIP, "imagenet-simple" its best 7
            (open_clip's lists).
        class_names: label -> what the sentences call it; "imagenet" are open_clip's 1,000 names in the usual order;
            None takes the labels, underscores as spaces.
    """

    templates: (
        Literal["imagenet", "imagenet-simple"] | Annotated[tuple[_Name, ...], Strict(False), Field(min_length=1)]
    ) = ("a photo of a {}.",)
    class_names: Literal["imagenet"] | dict[_Name, _Name] | None = None

    @field_validator("templates")
    @classmethod
    def _with_a_place(cls, templates: str | tuple[str, ...]) -> str | tuple[str, ...]:
        wrong = [] if isinstance(templates, str) else [one for one in templates if "{}" not in one]
        if wrong:
            raise several([((), f"got {one!r}; allowed: a sentence with {{}} for the class") for one in wrong])
        return templates


class ClipTaskConfig(ImageTaskConfig):
    """What a soup of image-text models, or of their image towers with a head, is judged by.

    Args:
        zero_shot: sentences about the classes: for heads made by the text tower, and for whole models as they are.
    """

    family: Literal["clip"]
    zero_shot: ZeroShotConfig = ZeroShotConfig()

    @model_validator(mode="after")
    def _names_of_labels(self) -> Self:
        names = self.zero_shot.class_names
        labels = self.labels if isinstance(self.labels, tuple) else None
        if isinstance(names, dict) and labels and (odd := sorted(set(names) ^ set(labels))):
            wrong = f"{', '.join(odd[:10])} in class_names or labels alone; allowed: one name for each label"
            raise several([(("zero_shot", "class_names"), wrong)])
        return self
