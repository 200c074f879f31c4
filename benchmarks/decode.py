"""How often images are decoded when k candidates are evaluated, and what that saves.

    python benchmarks/decode.py [--quick] [--images 1000] [--candidates 8] [--out benchmarks]

Real pictures (Fashion-MNIST's test images, enlarged to 256 x 256 pixels and written as JPEG files in class folders), a
ViT with random weights. Ours decodes into the task's cache at the first prediction; the plain way decodes and
preprocesses every image for every candidate, as a DataLoader over a folder does. Same network, batches and threads;
logits are compared. CPU seconds of the process, ratios in one run. Writes decode.md and decode.json. Needs Debian's
package dataset-fashion-mnist.
"""

from __future__ import annotations

import argparse
import gzip
import json
import time
from collections.abc import Callable
from datetime import date
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
import transformers
from PIL import Image
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

from quickstart import ROOT, processor
from stockpot.checkpoints import ingredients
from stockpot.recipes import single
from stockpot.tasks import load_task

FOLDER = Path("/usr/share/datasets/fashion-mnist")
SIDE, BATCH = 256, 50


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--candidates", type=int, default=8)
    parser.add_argument("--out", type=Path, help="default: benchmarks, or with --quick out/benchmarks/quick")
    parser.add_argument("--quick", action="store_true", help="200 images, 2 candidates")
    arguments = parser.parse_args()
    arguments.out = arguments.out or (ROOT / "out" / "benchmarks" / "quick" if arguments.quick else ROOT / "benchmarks")
    if arguments.quick:
        arguments.images, arguments.candidates = 200, 2
    if not FOLDER.exists():
        print(f"no {FOLDER}: nothing measured; install Debian's package dataset-fashion-mnist")
        return
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    with TemporaryDirectory() as scratch:
        numbers = measured(Path(scratch), arguments.images, arguments.candidates)
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "decode.json").write_text(json.dumps(numbers, indent=1) + "\n", encoding="utf-8")
    (arguments.out / "decode.md").write_text(page(numbers, quick=arguments.quick), encoding="utf-8")
    print(page(numbers, quick=arguments.quick))


def measured(folder: Path, n: int, k: int) -> dict[str, Any]:
    """CPU seconds and decodes of both ways."""
    pictures = write_pictures(folder / "photos", n)
    for number in range(k):
        write_network(folder / f"run-{number}", seed=number)
    runs = ingredients(folder / "run-*")
    data = {"path": "photos", "held_out": {}}
    evaluation = {"batch_size": BATCH, "precision": "fp32", "device": "cpu"}
    content = {"family": "image-classification", "data": data, "evaluation": evaluation}
    task = load_task(content, runs[0], folder=folder, n_threads=1)
    found: dict[str, Any] = {"n": n, "k": k}
    counted = count_decodes()
    found["listing_s"], _ = clocked(lambda: task.identity("held_out"))
    found["first_s"], first = clocked(lambda: task.predict(single(runs[0]), "held_out").logits)
    found["first_decodes"] = counted()
    ours = [first]
    found["others_s"], more = clocked(lambda: [task.predict(single(run), "held_out").logits for run in runs[1:]])
    found["other_decodes"] = counted()
    ours += more
    found["plain_s"], plain = clocked(lambda: [plainly(Path(run.source), pictures) for run in runs])
    found["plain_decodes"] = counted()
    found["largest_difference"] = float(max(np.abs(a - b).max() for a, b in zip(ours, plain, strict=True)))
    found["forward_s"] = found["others_s"] / (k - 1)
    found["decode_s"] = found["first_s"] - found["forward_s"]
    found["cache_bytes"] = sum(file.stat().st_size for file in (folder / ".stockpot-images").glob("*.npy"))
    return found


def write_pictures(folder: Path, n: int) -> list[Path]:
    """JPEG files in class folders, in the order of the task."""
    pixels = np.frombuffer(gzip.decompress((FOLDER / "t10k-images-idx3-ubyte.gz").read_bytes()), np.uint8, offset=16)
    labels = np.frombuffer(gzip.decompress((FOLDER / "t10k-labels-idx1-ubyte.gz").read_bytes()), np.uint8, offset=8)
    for number, (image, label) in enumerate(zip(pixels.reshape(-1, 28, 28)[:n], labels[:n], strict=True)):
        (folder / str(label)).mkdir(parents=True, exist_ok=True)
        picture = Image.fromarray(image).convert("RGB").resize((SIDE, SIDE), Image.Resampling.BICUBIC)
        picture.save(folder / str(label) / f"{number:05}.jpg", quality=90)
    return sorted(folder.rglob("*.jpg"))


def write_network(folder: Path, *, seed: int) -> None:
    """A ViT of 12 layers, 192 wide, 5.5 million parameters, with CLIP's preprocessing size."""
    torch.manual_seed(seed)
    config = transformers.ViTConfig(
        hidden_size=192, num_hidden_layers=12, num_attention_heads=3, intermediate_size=768, image_size=224,
        patch_size=32, num_labels=10,
    )  # fmt: skip
    transformers.AutoModelForImageClassification.from_config(config).save_pretrained(folder)
    ViTImageProcessorPil(size={"height": 224, "width": 224}).save_pretrained(folder)


def plainly(folder: Path, pictures: list[Path]) -> np.ndarray[Any, Any]:
    """Logits with every image opened and preprocessed."""
    model = transformers.AutoModelForImageClassification.from_pretrained(folder).eval()
    prepare = transformers.AutoImageProcessor.from_pretrained(folder, backend="pil")
    parts = []
    for start in range(0, len(pictures), BATCH):
        images = [Image.open(path).convert("RGB") for path in pictures[start : start + BATCH]]
        with torch.inference_mode():
            parts.append(model(**prepare(images, return_tensors="pt")).logits.numpy())
    return np.concatenate(parts)


def count_decodes() -> Callable[[], int]:
    """Counts calls of Pillow's open from here on; the function returned tells and forgets."""
    n, original = 0, Image.open

    def counting(*args: Any, **kwargs: Any) -> Any:
        nonlocal n
        n += 1
        return original(*args, **kwargs)

    Image.open = counting

    def told() -> int:
        nonlocal n
        found, n = n, 0
        return found

    return told


def clocked(function: Callable[[], Any]) -> tuple[float, Any]:
    """CPU seconds of all threads, and what the function returns."""
    start = time.process_time()
    result = function()
    return time.process_time() - start, result


def page(found: dict[str, Any], *, quick: bool) -> str:
    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers", "pillow", "numpy"))
    n, k = found["n"], found["k"]
    ours = found["listing_s"] + found["first_s"] + found["others_s"]
    lines = [
        "# Images are decoded once",
        "",
        f"Made by `python benchmarks/decode.py` on {date.today()}: {processor()}, {packages}.",
        *(["", "**A quick run: no number here means anything.**"] if quick else []),
        "",
        f"{n:,} JPEG files of {SIDE} x {SIDE} pixels (Fashion-MNIST, enlarged), {k} candidates, a ViT of 5.5 million",
        "parameters; CPU seconds of the process.",
        "",
        "| | ours | every candidate anew |",
        "| :-- | --: | --: |",
        f"| images decoded for the first candidate | {found['first_decodes']:,} | {n:,} |",
        f"| images decoded for the other {k - 1} | {found['other_decodes']:,} | {(k - 1) * n:,} |",
        f"| CPU seconds, {k} candidates | {ours:.1f} | {found['plain_s']:.1f} |",
        f"| ratio | 1 | {found['plain_s'] / ours:.2f} |",
        "",
        "The first image is decoded twice, for the shape of the cache.",
        f"Decoding and preprocessing: {n / found['decode_s']:,.0f} images per CPU second, once. Forward passes from",
        f"the cache: {n / found['forward_s']:,.0f} images per CPU second. Cache: {found['cache_bytes'] / 1e6:,.0f} MB",
        f"of bytes on disk. Largest difference of a logit between the two ways: {found['largest_difference']:.1e}.",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
