"""A user's own functions, named `module:function` on the command line or in a task."""

from __future__ import annotations

import difflib
import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from stockpot.errors import ConfigError, StockpotError

__all__ = ["load_callable"]


def load_callable(reference: str, *, option: str = "--evaluate", folder: Path | None = None) -> Callable[..., Any]:
    """Imports `package.module:function`; modules in a folder are found too.

    Args:
        reference: dotted module, a colon, the name of a callable in it.
        option: where it is named, for error messages.
        folder: where modules are looked for first; default: the working directory.

    Raises:
        ConfigError: it is not of that form, the module does not import, or has no such callable; or a module of that
            name from another place is in use already.

    Example:
        >>> load_callable("math:sqrt")(9.0)
        3.0
    """
    module_name, colon, name = reference.partition(":")
    if not (module_name and colon and name):
        raise ConfigError(f"{option} {reference!r} is not module:function", fix="for example my_eval:accuracy")
    if module_name.endswith(".py") and name.isidentifier():
        dotted = module_name.removesuffix(".py").removeprefix("./").replace("/", ".")
        raise ConfigError(
            f"{option} {reference!r} names a file; a module is needed", fix=f"for example {dotted}:{name}"
        )
    here = Path.cwd() if folder is None else folder.resolve()
    if str(here) not in sys.path:
        sys.path.insert(0, str(here))
    try:
        module = importlib.import_module(module_name)
    except StockpotError:
        raise
    except Exception as exc:  # a user's module may raise anything while it is imported
        raise ConfigError(
            f"{option} {reference!r}: the module does not import: {type(exc).__name__}: {exc}",
            fix="run `python -c 'import " + module_name + "'` to see where",
        ) from exc
    _check_place(module, here, f"{option} {reference!r}")
    function = getattr(module, name, None)
    if not callable(function):
        known = sorted(key for key, value in vars(module).items() if callable(value) and not key.startswith("_"))
        close = difflib.get_close_matches(name, known, n=1)
        raise ConfigError(
            f"{option} {reference!r}: {module_name} has no callable {name!r}; it has {', '.join(known) or 'none'}",
            fix=f"did you mean {module_name}:{close[0]}?" if close else "name one of them",
        )
    result: Callable[..., Any] = function
    return result


def _check_place(module: ModuleType, folder: Path, what: str) -> None:
    """Refuses a module from elsewhere where the folder has one of that name: an earlier task may have imported it."""
    top = module.__name__.partition(".")[0]
    own = [path for path in (folder / f"{top}.py", folder / top / "__init__.py") if path.is_file()]
    used = Path(getattr(module, "__file__", None) or ".").resolve()
    if own and not used.is_relative_to(folder.resolve()):
        raise ConfigError(
            f"{what}: {own[0]} is not what Python imports by this name, but {used}",
            fix="give the module a name of its own; one process knows one module by a name",
        )
