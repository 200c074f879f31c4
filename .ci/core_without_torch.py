"""Checks an environment that holds stockpot's core alone: safetensors mix, and a .pt source names the extra."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file


def main(folder: Path) -> None:
    folder.mkdir(parents=True)
    for package in ("torch", "transformers"):
        assert importlib.util.find_spec(package) is None, f"{package} is installed: this is not the core alone"
    generator = np.random.default_rng(0)
    arrays = [generator.standard_normal((37, 5)).astype(np.float32) for _ in range(3)]
    for name, array in zip("abc", arrays, strict=True):
        save_file({"w": array}, folder / f"{name}.safetensors")
    stockpot("mix", str(folder / "*.safetensors"), "-o", str(folder / "soup"), expect=0)
    mean = (sum(array.astype(np.float64) for array in arrays) / 3).astype(np.float32)
    assert (load_file(folder / "soup" / "model.safetensors")["w"] == mean).all()
    (folder / "d.pt").write_bytes(b"PK\x03\x04")
    message = stockpot("mix", str(folder / "d.pt"), "-o", str(folder / "other"), expect=2)
    assert "stockpot[torch]" in message, message
    if shutil.which("cc") is not None:
        from stockpot.kernel import native

        assert native.load() is not None, "there is a C compiler, but the fused pass was not built"
        compiled = (folder / "soup" / "model.safetensors").read_bytes()
        os.environ["STOCKPOT_PORTABLE"] = "1"
        stockpot("mix", str(folder / "*.safetensors"), "-o", str(folder / "portable"), expect=0)
        assert (folder / "portable" / "model.safetensors").read_bytes() == compiled
    print("the core mixes without torch, and a .pt file names the extra")


def stockpot(*arguments: str, expect: int) -> str:
    done = subprocess.run([sys.executable, "-m", "stockpot", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == expect, f"{arguments}: exit {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stderr


if __name__ == "__main__":
    main(Path(sys.argv[1]))
