"""Small random models of every family, their tasks, and what their own libraries make of them: `CASES`.

A case says how a folder of one model is made in a dtype, how a task over small data is written, what the family's own
loader gives for a folder, and which laws do not hold for it, in the words of the error that says so.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

import own_loaders as own
from stockpot.metrics import METRICS
from stockpot.sweeps.head import prepare_initialisation
from stockpot.tasks import load_task
from tiny_clip import tiny_clip, tiny_clip_task
from tiny_custom import tiny_custom_task, tiny_network_runs
from tiny_images import CLASSES, tiny_image_model, tiny_image_task
from tiny_lm import tiny_lm, tiny_lm_task
from tiny_models import tiny_classifier, tiny_fine_tunes, tiny_task
from tiny_seq2seq import tiny_seq2seq_model, tiny_seq2seq_task
from tiny_timm import tiny_timm


def cross_entropy(logits: np.ndarray, labels: np.ndarray) -> float:
    return METRICS["nll"](logits, labels).value


def squared_error(logits: np.ndarray, targets: np.ndarray) -> float:
    return float(np.mean((logits[:, 0] - targets) ** 2))


def negative_mean(log_likelihoods: np.ndarray, n_tokens: np.ndarray) -> float:
    return float(-log_likelihoods.mean())


@dataclass(frozen=True)
class Case:
    """One kind of model.

    Args:
        family: of its tasks.
        make_runs: (folder, dtype) -> two folders of models that can be mixed, in that dtype.
        write_task: folder -> task.yaml with data beside it.
        own_logits: (folder of weights, task, split) -> logits by the family's own loader.
        library: without which its tests are skipped.
        loss: (logits, labels) -> what learned soups lower; default: the mean cross-entropy.
        no_gradient: what the error says where learned soups are refused.
        no_fold: what the error says where a logit scale has no place in the weights.
        names_a_model: whether a task needs the folder of a model.
        tolerance: of logits, absolute.
        step: of differences of the loss; larger where a network computes parts in float32.
    """

    family: str
    make_runs: Callable[[Path, str], list[Path]]
    write_task: Callable[[Path], Path]
    own_logits: Callable[..., np.ndarray]
    library: str | None = None
    loss: Callable[[np.ndarray, np.ndarray], float] = cross_entropy
    no_gradient: str | None = None
    no_fold: str | None = None
    names_a_model: bool = True
    tolerance: float = 1e-4
    step: float = 1e-5


def _each(make: Callable[..., Path], *args: object) -> Callable[[Path, str], list[Path]]:
    """Two models of `make(folder, *args, seed=, dtype=)`."""
    return lambda folder, dtype: [make(folder / f"run-{seed}", *args, seed=seed, dtype=dtype) for seed in (1, 2)]


def _texts(folder: Path, dtype: str, labels=("games", "mail", "text")) -> list[Path]:
    return tiny_fine_tunes(folder, tiny_classifier(folder / "base", labels=labels, dtype=dtype), 2, scale=0.3)


def _small(path: Path, n_rows: int) -> Path:
    """The same task with fewer rows: some in their own library's time."""
    content = json.loads(path.read_text())
    for name in ("train", "held_out", "test"):
        if name in content["data"]:
            content["data"][name] = {"rows": n_rows}
    for shift in content["data"]["shifts"].values():
        shift["first"] = n_rows - 1
    path.write_text(json.dumps(content))
    return path


def _small_text_task(folder: Path, **changes: object) -> Path:
    return _small(tiny_task(folder, n=40, **changes), 8)


def _small_seq2seq_task(folder: Path, **changes: object) -> Path:
    return _small(tiny_seq2seq_task(folder, n=40, **changes), 6)


def _small_lm_task(folder: Path, scoring: str = "multiple-choice") -> Path:
    return _small(tiny_lm_task(folder, scoring), 6)


def _numbers_task(folder: Path) -> Path:
    """Regression on the lengths of texts."""
    path = _small_text_task(folder, metric="mse")
    header, *lines = (folder / "rows.tsv").read_text().splitlines()
    texts = [line.partition("\t")[2] for line in lines]
    (folder / "rows.tsv").write_text("\n".join([header, *(f"{len(text) / 10}\t{text}" for text in texts)]) + "\n")
    return path


def _networks(folder: Path, dtype: str) -> list[Path]:
    return [Path(run.source) for run in tiny_network_runs(folder, 2, dtype=dtype)]


def _towers(kind: str) -> Callable[[Path, str], list[Path]]:
    """Image towers with a head, as an experiment leaves them: one start, two random heads, noise."""

    def make(folder: Path, dtype: str) -> list[Path]:
        import torch
        from safetensors.torch import load_file, save_file

        def moved(name: str, tensor, generator):
            if not tensor.is_floating_point():
                return tensor
            # A head that tells pictures apart whose embeddings are almost the same; running statistics stay positive.
            spread = 10 if name == "head.weight" else 0.0 if "running" in name else 0.1
            return (tensor + spread * torch.randn(tensor.shape, generator=generator)).to(getattr(torch, dtype))

        base = tiny_clip(folder / "base", kind, dtype=dtype)
        task = load_task(_clip_task(folder), base, own_labels=False)
        made = []
        for seed in (1, 2):
            prepare_initialisation(task, base, folder / f"run-{seed}", head="random", seed=seed)
            file = folder / f"run-{seed}" / "model.safetensors"
            generator = torch.Generator().manual_seed(seed)
            save_file({n: moved(n, tensor, generator) for n, tensor in load_file(file).items()}, file, {"format": "pt"})
            made.append(folder / f"run-{seed}")
        return made

    return make


def _clip_task(folder: Path) -> Path:
    return tiny_clip_task(folder, labels=list(CLASSES), n=18)


def _answering(folder: Path, dtype: str) -> list[Path]:
    """Text-to-text models that answer with label words, or with a text that is none of them."""
    import torch
    from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

    start, made = tiny_seq2seq_model(folder / "base"), []
    for number, state in enumerate(_taught(start)):
        model = AutoModelForSeq2SeqLM.from_pretrained(start)
        model.load_state_dict(state)
        made.append(folder / f"run-{number}")
        model.to(getattr(torch, dtype)).save_pretrained(made[-1])
        AutoTokenizer.from_pretrained(start).save_pretrained(made[-1])
    return made


_STATES: list[dict] = []


def _taught(start: Path) -> list[dict]:
    """Two states of one training, made once: the start is the same for every dtype."""
    import torch
    from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

    if not _STATES:
        said = {"red": "game", "green": "mail server", "blue": "small fast editor", "fast": "font"}
        tokenizer = AutoTokenizer.from_pretrained(start)
        prompts = tokenizer([f"task: {word}" for word in said], return_tensors="pt", padding=True)["input_ids"]
        targets = tokenizer(text_target=list(said.values()), return_tensors="pt", padding=True)["input_ids"]
        targets[targets == tokenizer.pad_token_id] = -100
        model = AutoModelForSeq2SeqLM.from_pretrained(start).eval()
        optimiser = torch.optim.Adam(model.parameters(), lr=0.01)
        for step in range(1, 81):
            optimiser.zero_grad()
            model(prompts, labels=targets).loss.backward()
            optimiser.step()
            if step in (60, 80):
                _STATES.append({name: tensor.clone() for name, tensor in model.state_dict().items()})
    return _STATES


_NO_HEAD = "which learned soups do not follow"
_NO_SCALE = "leave out --fold"
#: open_clip and ALIGN multiply cosines by a hundred or a thousand.
_COSINES = 2e-3

CASES: dict[str, Case] = {
    "text": Case("text-classification", _texts, _small_text_task, own.text_logits),
    "text-regression": Case(
        "text-classification", partial(_texts, labels=["value"]), _numbers_task, own.text_logits, loss=squared_error,
    ),
    "seq2seq": Case(
        "seq2seq-classification", _each(tiny_seq2seq_model, "t5-untied"), _small_seq2seq_task,
        own.seq2seq_logits, no_fold=_NO_SCALE, step=3e-4,
    ),
    "seq2seq-generation": Case(
        "seq2seq-classification", _answering, partial(_small_seq2seq_task, scoring="generation"),
        own.generated_logits, no_gradient="`scoring: generation` has none", no_fold="`scoring: generation` has none",
    ),
    "image": Case("image-classification", _each(tiny_image_model), partial(tiny_image_task, n=18), own.image_logits),
    "timm": Case(
        "image-classification", _each(tiny_timm), partial(tiny_image_task, n=18), own.timm_logits, library="timm",
    ),
    "clip-tower": Case("clip", _towers("clip"), _clip_task, own.tower_logits),
    "align-tower": Case("clip", _towers("align"), _clip_task, own.tower_logits),
    "open_clip-tower": Case(
        "clip", _towers("open_clip"), _clip_task, own.open_clip_tower_logits, library="open_clip",
    ),
    "clip": Case(
        "clip", _each(tiny_clip, "clip"), _clip_task, own.zero_shot_logits,
        no_gradient=_NO_HEAD, no_fold=_NO_HEAD, tolerance=_COSINES,
    ),
    "align": Case(
        "clip", _each(tiny_clip, "align"), _clip_task, own.zero_shot_logits,
        no_gradient=_NO_HEAD, no_fold=_NO_HEAD, tolerance=_COSINES,
    ),
    "open_clip": Case(
        "clip", _each(tiny_clip, "open_clip"), _clip_task, own.open_clip_zero_shot_logits, library="open_clip",
        no_gradient=_NO_HEAD, no_fold=_NO_HEAD, tolerance=_COSINES,
    ),
    "lm": Case("lm", _each(tiny_lm), _small_lm_task, own.lm_logits, no_fold=_NO_SCALE, step=3e-4),
    "lm-likelihood": Case(
        "lm", _each(tiny_lm), partial(_small_lm_task, scoring="likelihood"), own.lm_logits, loss=negative_mean,
        no_fold=_NO_SCALE, step=3e-4,
    ),
    "custom": Case("custom", _networks, tiny_custom_task, own.custom_logits, names_a_model=False),
}  # fmt: skip
