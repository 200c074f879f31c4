"""Compiles the fused pass when the package is built; where there is no compiler, numpy does its work.

The library is plain C without Python's headers, so one wheel serves every Python version of a platform. Set
STOCKPOT_PORTABLE=1 to build without it.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

SOURCE = Path("src/stockpot/kernel/_fused.c")
#: Contraction would fuse a multiplication with an addition and save a rounding: other bits than numpy's.
FLAGS = ("-std=c11", "-O3", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math", "-fvisibility=hidden")


class FusedPassHook(BuildHookInterface):  # type: ignore[misc]
    """Builds `_fused.so` beside its source, for wheels and for editable installs alike."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002
        """Adds the library to a wheel and names the platform in the wheel's tag."""
        if self.target_name != "wheel" or os.environ.get("STOCKPOT_PORTABLE"):
            return
        source = Path(self.root, SOURCE)
        library = source.with_suffix(".so")
        problem = compiled(source, library)
        if problem is not None:
            self.app.display_warning(f"the fused pass is left to numpy: {problem}")
            return
        platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{platform}"
        build_data["artifacts"].append(library.relative_to(self.root).as_posix())


def compiled(source: Path, library: Path) -> str | None:
    """Compiles the library; what stood in the way, or None."""
    compiler = shlex.split(os.environ.get("CC", "cc"))
    if os.name != "posix" or shutil.which(compiler[0]) is None:
        return f"no C compiler ({compiler[0]})"
    temporary = library.with_name(f".{library.name}.{os.getpid()}")
    command = [*compiler, *FLAGS, "-shared", "-fPIC", str(source), "-o", str(temporary), "-lm"]
    try:
        subprocess.run(command, check=True, capture_output=True, text=True)
        temporary.replace(library)  # a process that has the old one mapped keeps it
    except subprocess.CalledProcessError as exc:
        return f"{shlex.join(command)} failed: {exc.stderr.strip()[-500:]}"
    except OSError as exc:
        return str(exc)
    finally:
        temporary.unlink(missing_ok=True)
    return None
