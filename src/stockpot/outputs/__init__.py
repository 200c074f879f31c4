"""Output that appears whole or not at all: files, folders, and the folder of an experiment.

`write_text_atomically` and `write_json_atomically` are for single files, `whole_folder` for a folder made in one go,
and `ExperimentFolder.claim` for a folder that grows over hours, may be killed at any moment, and is continued.
"""

from __future__ import annotations

from stockpot.outputs.claims import ExperimentFolder
from stockpot.outputs.locks import FolderLock
from stockpot.outputs.partial import sweep_stale, translated_os_errors
from stockpot.outputs.whole import (
    adopt_files,
    check_target,
    made_folder,
    whole_folder,
    write_json_atomically,
    write_text_atomically,
)

__all__ = [
    "ExperimentFolder",
    "FolderLock",
    "adopt_files",
    "check_target",
    "made_folder",
    "sweep_stale",
    "translated_os_errors",
    "whole_folder",
    "write_json_atomically",
    "write_text_atomically",
]
