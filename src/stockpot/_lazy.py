"""Names that import their module when they are first used: a room's front door that does not open every cupboard."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["lazily"]


def lazily(package: str, module_by_name: Mapping[str, str]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """`__getattr__` and `__dir__` of a package.

    Args:
        package: its `__name__`.
        module_by_name: public name -> the module of the package that defines it.

    Returns:
        Both functions; bind them under `if not TYPE_CHECKING`, so that a type checker still sees a wrong name.
    """

    def get(name: str) -> Any:
        module = module_by_name.get(name)
        if module is None:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(importlib.import_module(f"{package}.{module}"), name)

    return get, lambda: sorted(module_by_name)
