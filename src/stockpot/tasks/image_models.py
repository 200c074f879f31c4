"""Image classifiers of transformers and timm: the network and its own preprocessing, from one folder."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stockpot.errors import ConfigError, MissingExtraError
from stockpot.tasks.byte_tables import byte_ramp, byte_steps, looked_up, random_image
from stockpot.tasks.hardware import import_hf
from stockpot.tasks.saved_names import name_as_saved
from stockpot.tasks.timm_config import is_timm, timm_config

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

__all__ = [
    "ImageModel",
    "image_model",
    "image_processor",
    "import_timm",
    "network_inputs",
    "pixels_of_pipelines",
    "processed_by_transformers",
    "require_pillow",
    "timm_network",
]

_AS_IT_IS = {"do_resize": False, "do_center_crop": False}
_FIX = "name the folder of an image classifier, with its preprocessing, as `model:` in the task file"


@dataclass(frozen=True, slots=True, eq=False)
class ImageModel:
    """What a family knows about the models of one folder.

    Args:
        input_name: of the pixels in the network's forward.
        mode: of the images, "RGB" or "L".
        pixels: image -> [channels, height, width]: uint8 where `table` finishes the work, else float32.
        table: [channels, 256] float32: what the network gets for each byte; None where pixels are final.
        new_module: (folder, number of labels) -> the network, weights as they come.
        identity: everything that the way from image to logits depends on.
        exact: as `pixels`, for an image that has the network's size: it is neither resized nor cropped.
        resample: Pillow's filter that the model's preprocessing resizes with.
    """

    input_name: str
    mode: str
    pixels: Callable[[Image], np.ndarray[Any, Any]]
    table: np.ndarray[Any, Any] | None
    new_module: Callable[[Path, int], torch.nn.Module]
    identity: Mapping[str, Any]
    exact: Callable[[Image], np.ndarray[Any, Any]]
    resample: int

    def size_for(self) -> Callable[[tuple[int, int]], tuple[int, int]]:
        """(width, height) of an image -> those of what the network gets for it, found by trying and remembered."""
        import PIL.Image

        @lru_cache(maxsize=4096)
        def size(original: tuple[int, int]) -> tuple[int, int]:
            height, width = self.pixels(PIL.Image.new(self.mode, original)).shape[1:]
            return width, height

        return size


def image_model(folder: Path, config: Mapping[str, Any]) -> ImageModel:
    """The family whose config.json this is: timm's says "architecture", transformers' "model_type".

    Raises:
        ConfigError: neither, or the preprocessing is missing.
        MissingExtraError: timm, transformers or Pillow is not installed.
    """
    version = require_pillow()
    found = _timm_model(folder, config) if is_timm(config) else processed_by_transformers(folder, config)
    return replace(found, identity={**found.identity, "pillow": version})


def require_pillow() -> str:
    """Pillow's version, which the pixels depend on.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        import PIL
    except ModuleNotFoundError as exc:
        raise MissingExtraError("pillow", extra="vision", needed_for="a task of images") from exc
    return PIL.__version__


# ---------------------------------------------------------------------------------------------------- transformers


def processed_by_transformers(folder: Path, config: Mapping[str, Any]) -> ImageModel:
    """Images as the folder's own preprocessing of transformers makes them; networks of AutoModelForImageClassification.

    Raises:
        ConfigError: the folder has no preprocessing, or one for another number of channels.
    """
    import PIL.Image

    mode = "L" if config.get("num_channels", 3) == 1 else "RGB"
    processor = image_processor(folder)
    _check_channels(processor, mode, folder)
    table = _byte_table(processor, mode)

    kept = {} if table is None else {"do_rescale": False, "do_normalize": False}

    def pixels(image: Image) -> np.ndarray[Any, Any]:
        return _processed(processor, image, kept)

    def exact(image: Image) -> np.ndarray[Any, Any]:
        return _processed(processor, image, {**kept, **_AS_IT_IS})

    settings = {key: value for key, value in processor.to_dict().items() if not key.startswith("_")}
    identity = {"library": "transformers", "processor": settings}
    said = getattr(processor, "resample", None)
    resample = int(PIL.Image.Resampling.BICUBIC if said is None else said)
    return ImageModel("pixel_values", mode, pixels, table, _new_transformers, identity, exact, resample)


def image_processor(folder: Path) -> Any:
    """The folder's preprocessing, as transformers loads it, on Pillow.

    Raises:
        ConfigError: there is none.
    """
    _, transformers = import_hf()
    try:
        # One backend everywhere: torchvision's resizes to other pixels, and would make scores depend on what is there.
        return transformers.AutoImageProcessor.from_pretrained(
            folder, backend="pil", local_files_only=True, trust_remote_code=False
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ImportError) as exc:
        reason = next(iter(str(exc).splitlines()), type(exc).__name__)
        raise ConfigError(f"{folder}: no usable preprocessor_config.json: {reason}", fix=_FIX) from exc


def _check_channels(processor: Any, mode: str, folder: Path) -> None:
    """One grey or coloured image goes through, so that a preprocessing for the other kind is told now."""
    import PIL.Image

    try:
        _processed(processor, PIL.Image.new(mode, (40, 50)), {})
    except (ValueError, TypeError, LookupError) as exc:
        n_channels = 1 if mode == "L" else 3
        raise ConfigError(
            f"{folder}: the preprocessing does not fit images of {n_channels} "
            f"channel{'s' if n_channels > 1 else ''}, which config.json asks for: {exc}",
            fix="mend preprocessor_config.json: image_mean and image_std have a number for each channel, sizes are "
            "above 0",
        ) from exc


def _byte_table(processor: Any, mode: str) -> np.ndarray[Any, Any] | None:
    """What the processor makes of each byte, found by trying; None where resized pixels are not bytes."""
    trial = random_image(mode)
    try:
        table = _processed(processor, byte_ramp(mode), _AS_IT_IS).reshape(-1, 256)
        whole = _processed(processor, trial, {})
        as_bytes = _processed(processor, trial, {"do_rescale": False, "do_normalize": False})
    except (ValueError, TypeError):
        return None
    if as_bytes.dtype != np.uint8 or len(table) != len(as_bytes):
        return None
    is_all = np.array_equal(looked_up(table, as_bytes[None])[0], whole)
    return table.astype(np.float32) if is_all else None  # bytes themselves, where nothing scales them


def _processed(processor: Any, image: Image, changes: Mapping[str, bool]) -> np.ndarray[Any, Any]:
    values: Any = image if image.mode == "RGB" else np.asarray(image)[:, :, None]
    extra = {} if image.mode == "RGB" else {"input_data_format": "channels_last", "do_convert_rgb": False}
    made = processor(values, return_tensors="np", **changes, **extra)["pixel_values"][0]
    return made if made.dtype == np.uint8 else np.asarray(made, dtype=np.float32)


def network_inputs(model: ImageModel, pixels: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """[n, channels, height, width] float32, what the network gets for cached pixels."""
    return np.array(pixels, dtype=np.float32) if model.table is None else looked_up(model.table, pixels)


def pixels_of_pipelines(
    mode: str, *pipelines: Any
) -> tuple[list[Callable[[Image], np.ndarray[Any, Any]]], np.ndarray[Any, Any] | None]:
    """What makes pixels by each of these pipelines of torchvision, and the one table of an `ImageModel`.

    All of them give bytes, or none: one table finishes the work of all.
    """
    found = [byte_steps(tuple(getattr(pipeline, "transforms", ())), mode) for pipeline in pipelines]
    parts = [one for one in found if one is not None and found[0] and np.array_equal(one.table, found[0].table)]
    if len(parts) == len(pipelines):
        return [one.pixels for one in parts], parts[0].table
    return [partial(_final_pixels, pipeline) for pipeline in pipelines], None


def _final_pixels(pipeline: Any, image: Image) -> np.ndarray[Any, Any]:
    return np.asarray(pipeline(image), dtype=np.float32)


def _new_transformers(folder: Path, n_labels: int) -> torch.nn.Module:
    from huggingface_hub.errors import StrictDataclassError

    torch_module, transformers = import_hf()
    try:
        config = transformers.AutoConfig.from_pretrained(
            folder, num_labels=n_labels, local_files_only=True, trust_remote_code=False
        )
        module: torch.nn.Module = transformers.AutoModelForImageClassification.from_config(
            config, dtype=torch_module.float32, trust_remote_code=False
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, StrictDataclassError) as exc:
        reason = next(iter(str(exc).splitlines()), type(exc).__name__)
        raise ConfigError(
            f"{folder / 'config.json'}: no image classifier can be made from it: {reason}", fix=_FIX
        ) from exc
    name_as_saved(module)
    return module


# ------------------------------------------------------------------------------------------------------------ timm


def import_timm() -> Any:
    """timm, or the error that names the extra.

    Raises:
        MissingExtraError: timm or torchvision is not installed, or torchvision is one for another torch.
    """
    try:
        import timm
        import timm.data
    except ModuleNotFoundError as exc:
        if exc.name is None or exc.name.partition(".")[0] not in {"timm", "torchvision"}:
            raise
        raise MissingExtraError(exc.name, extra="vision", needed_for="a task with a timm model") from exc
    except RuntimeError as exc:
        # The wheel of torchvision for another build of torch: "operator torchvision::nms does not exist".
        raise ConfigError(
            f"timm cannot be imported: {exc}", fix="install the torchvision that was built for this torch"
        ) from exc
    return timm


def _timm_model(folder: Path, config: Mapping[str, Any]) -> ImageModel:
    import PIL.Image

    timm = import_timm()
    settings = timm.data.resolve_data_config({}, pretrained_cfg=timm_config(config).pretrained_cfg)
    mode = "L" if settings["input_size"][0] == 1 else "RGB"
    try:
        transform = timm.data.create_transform(**settings, is_training=False)
        squash = timm.data.create_transform(**{**settings, "crop_pct": 1.0, "crop_mode": "squash"}, is_training=False)
        transform(PIL.Image.new(mode, (40, 50)))
    except (ValueError, TypeError, LookupError, RuntimeError, AssertionError) as exc:
        raise ConfigError(
            f"{folder / 'config.json'}: timm makes no preprocessing from pretrained_cfg: {type(exc).__name__}: {exc}",
            fix="correct input_size, interpolation, mean, std, crop_pct and crop_mode there",
        ) from exc

    (pixels, exact), table = pixels_of_pipelines(mode, transform, squash)
    described = json.loads(json.dumps(settings, default=str))
    identity = {"library": "timm", "timm": timm.__version__, "data": described}
    resample = _FILTERS.get(str(settings["interpolation"]), _FILTERS["bicubic"])
    return ImageModel("x", mode, pixels, table, timm_network, identity, exact, resample)


#: Pillow's numbers of the filters that timm names.
_FILTERS = {"nearest": 0, "lanczos": 1, "bilinear": 2, "bicubic": 3}


def timm_network(folder: Path, n_labels: int | None = None) -> torch.nn.Module:
    """A network of the architecture in timm's config.json, weights as they come.

    Args:
        folder: holds config.json.
        n_labels: None takes the configuration's own number.

    Raises:
        ConfigError: timm knows no such architecture, or not these arguments.
        MissingExtraError: timm is not installed.
    """
    timm = import_timm()
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    said = timm_config(config)
    arguments = {**said.arguments, "num_classes": said.n_classes if n_labels is None else n_labels}
    try:
        module: torch.nn.Module = timm.create_model(
            said.architecture, pretrained=False, pretrained_cfg=said.pretrained_cfg, **arguments
        )
    except (RuntimeError, ValueError, TypeError, KeyError, AssertionError) as exc:
        raise ConfigError(f"{folder / 'config.json'}: timm makes no model from it: {exc}", fix=_FIX) from exc
    return module
