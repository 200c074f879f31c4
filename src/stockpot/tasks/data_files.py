"""Where data are: a path, or a file or folder of a data set on the hub, at a revision that is named."""

from __future__ import annotations

import os
import re
from pathlib import Path

from stockpot._shards import is_pattern
from stockpot.config import resolve_file
from stockpot.errors import ConfigError, DataError, MissingExtraError

__all__ = ["HUB_DATA", "data_path"]

#: How the name of data on the hub begins.
HUB_DATA = "hf://datasets/"
_REFERENCE = re.compile(r"hf://datasets/(?P<name>[^/@]+/[^/@]+)@(?P<revision>[^/]+)/(?P<path>.+)")
_ONE_FILE = re.compile(r"\.\w+$")


def data_path(given: str, folder: Path) -> Path:
    """The absolute local path of data named in a task.

    Args:
        given: a path; or `hf://datasets/OWNER/NAME@REVISION/PATH`, which is downloaded (or taken from the hub's cache):
            one file, or those that fit where it is a pattern (`train-*.parquet`), or all files below it. A branch
            moves; a commit does not.
        folder: what relative paths are relative to.

    Raises:
        ConfigError: a hub reference of another shape.
        DataError: the hub gives no such data.
        MissingExtraError: huggingface_hub is not installed.

    Example:
        >>> data_path("../a.tsv", Path("tasks")) == Path.cwd() / "a.tsv"
        True
        >>> data_path("hf://datasets/nyu-mll/glue/mrpc", Path("tasks"))
        Traceback (most recent call last):
        ...
        stockpot.errors.ConfigError: 'hf://datasets/nyu-mll/glue/mrpc' is no data set on the hub at a revision
        fix: write hf://datasets/OWNER/NAME@REVISION/PATH, with a commit as the revision, which never changes
    """
    if not given.startswith(HUB_DATA):
        # Links are not followed: those of the hub's cache lead to files without an ending.
        return Path(os.path.abspath(resolve_file(given, folder)))  # noqa: PTH100
    found = _REFERENCE.fullmatch(given.rstrip("/"))
    if found is None:
        raise ConfigError(
            f"{given!r} is no data set on the hub at a revision",
            fix="write hf://datasets/OWNER/NAME@REVISION/PATH, with a commit as the revision, which never changes",
        )
    return _downloaded(given, **found.groupdict())


def _downloaded(given: str, *, name: str, revision: str, path: str) -> Path:
    try:
        import huggingface_hub
        from huggingface_hub.errors import (
            EntryNotFoundError,
            HfHubHTTPError,
            HFValidationError,
            LocalEntryNotFoundError,
        )
    except ModuleNotFoundError as exc:
        raise MissingExtraError("huggingface_hub", extra="hf", needed_for="data on the hub") from exc
    try:
        is_many = is_pattern(Path(path))
        if _ONE_FILE.search(path) and not is_many:
            try:
                return Path(huggingface_hub.hf_hub_download(name, path, repo_type="dataset", revision=revision))
            except LocalEntryNotFoundError:
                raise
            except EntryNotFoundError:
                pass  # a folder's name may have a dot, too
        patterns = [path if is_many else f"{path}/**"]
        found = huggingface_hub.snapshot_download(name, repo_type="dataset", revision=revision, allow_patterns=patterns)
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as exc:
        offline = " (HF_HUB_OFFLINE is set)" if os.environ.get("HF_HUB_OFFLINE") else ""
        raise DataError(
            f"{given}: the hub gave no such data{offline}: {type(exc).__name__}",
            fix="check name, revision and path, and the connection; `hf auth login` for what is gated or private",
        ) from exc
    if not (Path(found) / path).exists() and not (is_many and any(Path(found).glob(path))):
        raise DataError(f"{given}: the data set has no such files at this revision", fix="check the path")
    return Path(found) / path
