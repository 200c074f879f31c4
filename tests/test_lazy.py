from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from stockpot import assembly, kernel, recipes, records
from stockpot.kernel import native


@pytest.mark.parametrize("room", [assembly, kernel, recipes, records])
def test_every_name_of_a_lazy_room_is_found_where_its_table_says(room) -> None:
    assert sorted(room.__all__) == dir(room)
    for name in room.__all__:
        assert getattr(room, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        room.nothing  # noqa: B018


@pytest.mark.parametrize("room", [assembly, kernel, recipes, records])
def test_no_module_of_a_lazy_room_carries_a_public_name(room) -> None:
    """Once imported, the module would hide the function."""
    modules = {path.stem for path in Path(room.__file__).parent.glob("*.py")}
    assert not modules & set(room.__all__)


#: Packages, and what of the standard library takes long to import and serves other work: pickles, archives,
#: suggestions.
_NOT_FOR_A_PLAIN_MIX = {
    "numpy", "torch", "transformers", "rich", "yaml", "asyncio", "typer", "pydantic",
    "pickle", "zipfile", "shutil", "lzma", "bz2", "difflib", "shlex", "uuid", "platform",
    "stockpot.checkpoints.opening_torch", "stockpot.checkpoints.pickles", "stockpot.checkpoints.mapped",
    "stockpot.checkpoints.unwrapping",
}  # fmt: skip


@pytest.mark.skipif(native.load() is None, reason="built without a C compiler")
def test_mixing_imports_nothing_slow_where_the_pass_is_compiled(tmp_path: Path) -> None:
    for name in "ab":
        safetensors.numpy.save_file({"w": np.ones(3, np.float32)}, tmp_path / f"{name}.safetensors")
    program = (
        "import sys; from stockpot.cli.entry import exit_code; "
        f"exit_code(['mix', {str(tmp_path / 'a.safetensors')!r}, {str(tmp_path / 'b.safetensors')!r}, "
        f"'-o', {str(tmp_path / 'soup')!r}]); "
        f"slow = {_NOT_FOR_A_PLAIN_MIX!r}; "
        "print(sorted(slow & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    assert (tmp_path / "soup" / "model.safetensors").exists()
