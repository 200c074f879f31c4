"""Where a model comes from: a folder, `package:NAME/sub/folder`, or a hub id."""

from __future__ import annotations

import os
import re
from pathlib import Path

from stockpot.config import resolve_model
from stockpot.errors import CheckpointError, ConfigError

__all__ = ["model_folder"]

#: What stands beside the weights: configuration and tokenizer.
_BESIDE = ("*.json", "*.txt", "*.model", "*.jinja")

#: What timm and open_clip write before the id of a model on the hub.
_SPELLED = re.compile(r"^hf[-_]hub:")


def model_folder(reference: str, *, relative_to: Path | None = None) -> Path:
    """The local folder of a model.

    Args:
        reference: a folder; `package:NAME/sub/folder`, a folder inside an installed package, which is located but not
            imported; or a hub id `[owner/]name[@revision]`, which is downloaded (or taken from the hub's cache);
            timm's and open_clip's `hf-hub:` may stand before it.
        relative_to: the folder that relative paths start from; default: the working directory.

    Returns:
        An existing folder.

    Raises:
        ConfigError: the package is not installed, or has no such folder.
        CheckpointError: neither a folder nor a model the hub can give.

    Example:
        >>> model_folder("package:stockpot/recipes").name
        'recipes'
    """
    path = Path(resolve_model(reference, relative_to or Path()))
    if path.is_dir():
        return path
    if path.is_file():
        raise ConfigError(
            f"model {reference!r} is a file; a folder with config.json and tokenizer is needed",
            fix="give the folder, or name one with `model:` in the task file",
        )
    if path.is_absolute() or reference.startswith((".", "~")) or reference.count("/") > 1:
        raise CheckpointError(f"no such model folder: {reference!r}", fix="check the path")
    return _from_hub(reference)


def _from_hub(reference: str) -> Path:
    """The folder that the hub's cache holds; pickled weights are fetched only where there are no others."""
    import huggingface_hub
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    name, _, revision = _SPELLED.sub("", reference).partition("@")

    def fetch(*patterns: str) -> Path:
        found = huggingface_hub.snapshot_download(name, revision=revision or None, allow_patterns=[*_BESIDE, *patterns])
        return Path(found)

    try:
        folder = fetch("*.safetensors")
        return folder if any(folder.glob("*.safetensors")) else fetch("pytorch_model*.bin", "open_clip*.bin")
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as exc:
        offline = " (HF_HUB_OFFLINE is set)" if os.environ.get("HF_HUB_OFFLINE") else ""
        raise CheckpointError(
            f"{reference!r} is no local folder, and the hub gave no such model{offline}: {type(exc).__name__}",
            fix="check the path or the hub id, and the connection; `hf auth login` for what is gated or private",
        ) from exc
