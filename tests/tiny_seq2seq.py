"""Small real text-to-text models and tasks for tests: random weights, real files, a word-level tokenizer."""

from __future__ import annotations

import json
from pathlib import Path

from tiny_models import LABELS, WORDS, tiny_data

ARCHITECTURES = ("t5", "t5-untied", "bart")
#: One, two and three tokens.
LABEL_WORDS = {"games": "game", "mail": "mail server", "text": "small fast editor"}
_SPECIAL = ("<s>", "<pad>", "</s>", "<unk>")


def tiny_seq2seq_tokenizer(architecture: str = "t5"):
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    words = ["task", ":", "sentence1", "sentence2", *LABELS, *(chr(ord("a") + i) for i in range(26))]
    vocabulary = {word: index for index, word in enumerate(dict.fromkeys([*_SPECIAL, *WORDS, *words]))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>" if architecture == "bart" else "$A </s>",
        special_tokens=[("<s>", 0), ("</s>", 2)],
    )
    # Without `model_input_names`: it then makes token types too, which no such model takes.
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", unk_token="<unk>", eos_token="</s>", bos_token="<s>"
    )


def tiny_seq2seq_config(architecture: str, vocab_size: int):
    import transformers

    ids = {"pad_token_id": 1, "eos_token_id": 2, "vocab_size": vocab_size}
    if architecture == "bart":
        return transformers.BartConfig(
            d_model=16, encoder_layers=1, decoder_layers=2, encoder_attention_heads=2, decoder_attention_heads=2,
            encoder_ffn_dim=32, decoder_ffn_dim=32, max_position_embeddings=40, bos_token_id=0,
            decoder_start_token_id=2, **ids,
        )  # fmt: skip
    return transformers.T5Config(
        d_model=16, d_kv=8, d_ff=32, num_layers=2, num_heads=2, decoder_start_token_id=1,
        feed_forward_proj="relu" if architecture == "t5" else "gated-gelu", tie_word_embeddings=architecture == "t5",
        **ids,
    )  # fmt: skip


def tiny_seq2seq_model(folder: Path, architecture: str = "t5", *, seed: int = 0, dtype: str = "float32") -> Path:
    """A random T5 (also one whose output layer is its own, as in T5 1.1) or BART, as `save_pretrained` writes it."""
    import torch
    from transformers import AutoModelForSeq2SeqLM

    torch.manual_seed(seed)
    tokenizer = tiny_seq2seq_tokenizer(architecture)
    model = AutoModelForSeq2SeqLM.from_config(tiny_seq2seq_config(architecture, len(tokenizer)))
    if architecture == "t5-untied":
        model.lm_head.weight = torch.nn.Parameter(torch.randn_like(model.shared.weight))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():  # so that answers differ from text to text
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * (0.5 if parameter.ndim > 1 else 0.05))
    model.to(getattr(torch, dtype)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def tiny_seq2seq_task(folder: Path, *, n: int = 60, **changes: object) -> Path:
    """A task.yaml over `tiny_data` in the same folder."""
    tiny_data(folder / "rows.tsv", n=n)
    content = {
        "family": "seq2seq-classification",
        "data": {
            "file": "rows.tsv", "text": "text", "label": "label",
            "train": {"rows": n // 3}, "held_out": {"rows": n // 3}, "test": {"rows": n // 3},
            "shifts": {"worddrop": {"of": "test", "first": 10, "corrupt": "word_drop", "rate": 0.4}},
        },
        "template": "task: {text}", "label_words": LABEL_WORDS,
        "evaluation": {"batch_size": 8, "max_length": 16, "precision": "fp32", "device": "cpu"}, **changes,
    }  # fmt: skip
    path = folder / "task.yaml"
    path.write_text(json.dumps(content, indent=1), encoding="utf-8")
    return path


def tiny_seq2seq_experiment(folder: Path, *, runs: int = 2, **changes: object) -> Path:
    """An experiment.yaml on a tiny T5, all in one folder."""
    folder.mkdir(parents=True, exist_ok=True)
    tiny_seq2seq_model(folder / "base")
    tiny_seq2seq_task(folder)
    content = {
        "name": "tiny", "task": "task.yaml", "initialisation": "base",
        "sweep": {
            "runs": runs, "seed": 0,
            "space": {"learning_rate": {"log_uniform": [1e-3, 1e-2]}, "epochs": 1, "batch_size": 8},
        },
        "random_orders": 2, **changes,
    }  # fmt: skip
    path = folder / "experiment.yaml"
    path.write_text(json.dumps(content, indent=1), encoding="utf-8")
    return path
