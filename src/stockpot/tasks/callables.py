"""A user's own evaluate function, named `module:function` on the command line."""

from __future__ import annotations

import difflib
import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from stockpot.errors import ConfigError, StockpotError

__all__ = ["load_callable"]


def load_callable(reference: str) -> Callable[..., Any]:
    """Imports `package.module:function`; modules in the working directory are found too.

    Args:
        reference: dotted module, a colon, the name of a callable in it.

    Raises:
        ConfigError: it is not of that form, the module does not import, or has no such callable.

    Example:
        >>> load_callable("math:sqrt")(9.0)
        3.0
    """
    module_name, colon, name = reference.partition(":")
    if not (module_name and colon and name):
        raise ConfigError(f"--evaluate {reference!r} is not module:function", fix="for example my_eval:accuracy")
    if module_name.endswith(".py") and name.isidentifier():
        dotted = module_name.removesuffix(".py").removeprefix("./").replace("/", ".")
        raise ConfigError(
            f"--evaluate {reference!r} names a file; a module is needed", fix=f"for example {dotted}:{name}"
        )
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        module = importlib.import_module(module_name)
    except StockpotError:
        raise
    except Exception as exc:  # a user's module may raise anything while it is imported
        raise ConfigError(
            f"--evaluate {reference!r}: the module does not import: {type(exc).__name__}: {exc}",
            fix="run `python -c 'import " + module_name + "'` to see where",
        ) from exc
    function = getattr(module, name, None)
    if not callable(function):
        known = sorted(key for key, value in vars(module).items() if callable(value) and not key.startswith("_"))
        close = difflib.get_close_matches(name, known, n=1)
        raise ConfigError(
            f"--evaluate {reference!r}: {module_name} has no callable {name!r}; it has {', '.join(known) or 'none'}",
            fix=f"did you mean {module_name}:{close[0]}?" if close else "name one of them",
        )
    result: Callable[..., Any] = function
    return result
