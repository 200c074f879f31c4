"""Small real models and data for tests: random weights, real files, real tokenizers."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path

WORDS = ("red", "green", "blue", "fast", "slow", "small", "large", "server", "game", "editor", "mail", "font")
LABELS = ("games", "mail", "text")


def tiny_classifier(folder: Path, *, labels: Sequence[str] = LABELS, seed: int = 0, dtype: str = "float32") -> Path:
    """A BERT of 2 layers, 16 wide, with a word-level tokenizer, as `save_pretrained` writes it."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification

    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=5 + len(WORDS) + 26,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=32,
        id2label=dict(enumerate(labels)),
        label2id={name: index for index, name in enumerate(labels)},
    )
    model = BertForSequenceClassification(config).to(getattr(torch, dtype))
    with torch.no_grad():  # wider than BERT's own start, so that predictions differ from text to text
        for parameter in model.parameters():
            parameter.mul_(4)
    model.save_pretrained(folder)
    _tokenizer().save_pretrained(folder)
    return folder


def _tokenizer():
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    special = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
    letters = [chr(ord("a") + i) for i in range(26)]
    vocabulary = {word: index for index, word in enumerate([*special, *WORDS, *letters])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", vocabulary["[CLS]"]), ("[SEP]", vocabulary["[SEP]"])],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )


def tiny_fine_tunes(folder: Path, base: Path, k: int, *, scale: float = 0.05, seed: int = 0) -> list[Path]:
    """k copies of a classifier, each with its own noise on every floating tensor."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    made = []
    for number in range(k):
        model = AutoModelForSequenceClassification.from_pretrained(base)
        generator = torch.Generator().manual_seed(1000 * seed + number)
        with torch.no_grad():
            for parameter in model.parameters():
                spread = parameter.float().std() if parameter.numel() > 1 else parameter.float().abs().mean()
                noise = torch.randn(parameter.shape, generator=generator) * spread * scale
                parameter.add_(noise.to(parameter.dtype))
        target = folder / f"run-{number}"
        model.save_pretrained(target)
        AutoTokenizer.from_pretrained(base).save_pretrained(target)
        made.append(target)
    return made


def tiny_rows(n: int, *, seed: int = 0, labels: Sequence[str] = LABELS) -> list[tuple[str, str]]:
    """n distinct (label, text) rows, the first word of a text leaning towards its label."""
    generator = random.Random(seed)
    rows: dict[str, str] = {}
    while len(rows) < n:
        label = generator.choice(list(labels))
        words = [generator.choice(WORDS) for _ in range(generator.randint(1, 6))]
        letters = [chr(ord("a") + generator.randrange(26)) for _ in range(3)]
        rows.setdefault(" ".join([WORDS[list(labels).index(label)], *words, *letters]), label)
    return [(label, text) for text, label in rows.items()]


def tiny_data(path: Path, *, n: int = 120, seed: int = 0, labels: Sequence[str] = LABELS) -> Path:
    """A TSV of `tiny_rows` with the columns label and text."""
    lines = ["label\ttext", *(f"{label}\t{text}" for label, text in tiny_rows(n, seed=seed, labels=labels))]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def tiny_task(folder: Path, *, n: int = 120, shifts: bool = True, test: bool = True, **changes: object) -> Path:
    """A task.yaml (JSON is YAML) over `tiny_data` in the same folder."""
    tiny_data(folder / "rows.tsv", n=n)
    data: dict[str, object] = {
        "file": "rows.tsv", "text": "text", "label": "label", "seed": 0,
        "train": {"rows": n // 3}, "held_out": {"rows": n // 3},
    }  # fmt: skip
    if test:
        data["test"] = {"rows": n // 3}
    if shifts:
        data["shifts"] = {
            "typos": {"of": "test", "first": 20, "corrupt": "typos", "rate": 0.2},
            "worddrop": {"of": "test", "first": 20, "corrupt": "word_drop", "rate": 0.4},
        }
    content = {
        "family": "text-classification", "data": data, "metric": "accuracy",
        "evaluation": {"batch_size": 8, "max_length": 16, "precision": "fp32", "device": "cpu"}, **changes,
    }  # fmt: skip
    path = folder / "task.yaml"
    path.write_text(json.dumps(content, indent=1), encoding="utf-8")
    return path


def tiny_experiment(folder: Path, *, runs: int = 3, head: str = "own", **changes: object) -> Path:
    """An experiment.yaml on `tiny_classifier` and `tiny_task`, all in one folder."""
    folder.mkdir(parents=True, exist_ok=True)
    tiny_classifier(folder / "base")
    tiny_task(folder)
    content = {
        "name": "tiny", "task": "task.yaml", "initialisation": "base", "head": head,
        "sweep": {
            "runs": runs, "seed": 0,
            "space": {"learning_rate": {"log_uniform": [1e-3, 1e-2]}, "epochs": 1, "batch_size": 8},
        },
        "random_orders": 2, **changes,
    }  # fmt: skip
    path = folder / "experiment.yaml"
    path.write_text(json.dumps(content, indent=1), encoding="utf-8")
    return path
