"""How a reader of Markdown sees a table."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest


@pytest.fixture(scope="session")
def n_cells() -> Callable[[str], int]:
    """Cells of a table's line, as GitHub splits it: at pipes that no backslash escapes."""
    return lambda line: len(re.findall(r"(?<!\\)(?:\\\\)*\|", line)) - 1
