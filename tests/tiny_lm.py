"""Small causal language models and their data for tests: random weights, real files, a real tokenizer."""

from __future__ import annotations

import json
import random
from pathlib import Path

from tiny_models import WORDS

ARCHITECTURES = ("llama", "gpt2", "qwen2")
_SPECIAL = ("<pad>", "<unk>", "<s>", "</s>")


def tiny_lm_config(architecture: str):
    import transformers

    n = len(_SPECIAL) + len(WORDS) + 26
    narrow = {
        "vocab_size": n, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32,
        "max_position_embeddings": 64, "pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3,
    }  # fmt: skip
    if architecture == "llama":
        return transformers.LlamaConfig(**narrow, num_key_value_heads=1, tie_word_embeddings=False)
    if architecture == "qwen2":
        return transformers.Qwen2Config(**narrow, num_key_value_heads=2, tie_word_embeddings=True)
    return transformers.GPT2Config(vocab_size=n, n_positions=64, n_embd=16, n_layer=2, n_head=2, bos_token_id=2)


def tiny_lm(folder: Path, architecture: str = "llama", *, seed: int = 0, dtype: str = "float32") -> Path:
    """A causal language model of 2 layers, 16 wide, with a word-level tokenizer, as `save_pretrained` writes it."""
    import torch
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(tiny_lm_config(architecture))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():  # wide enough that texts are told apart
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.3)
    model.to(getattr(torch, dtype)).save_pretrained(folder)
    tiny_lm_tokenizer().save_pretrained(folder)
    return folder


def tiny_lm_tokenizer():
    """Words and letters; a beginning-of-text token before every text, as Llama's."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    letters = [chr(ord("a") + i) for i in range(26)]
    vocabulary = {word: index for index, word in enumerate([*_SPECIAL, *WORDS, *letters])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 2)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", unk_token="<unk>", bos_token="<s>", eos_token="</s>"
    )


def _words(generator: random.Random, low: int, high: int) -> str:
    letters = [chr(ord("a") + generator.randrange(26)) for _ in range(3)]
    return " ".join([*(generator.choice(WORDS) for _ in range(generator.randint(low, high))), *letters])


def tiny_lm_rows(n: int, *, seed: int = 0) -> list[dict]:
    """Rows that serve both scorings: a text; a context with two to four choices of one to three words."""
    generator = random.Random(seed)
    rows = []
    for _ in range(n):
        choices = [
            " ".join(generator.choice(WORDS) for _ in range(generator.randint(1, 3)))
            for _ in range(generator.randint(2, 4))
        ]
        rows.append(
            {
                "text": _words(generator, 1, 30),
                "question": _words(generator, 1, 12),
                "options": choices,
                "right": generator.randrange(len(choices)),
            }
        )
    return rows


def tiny_lm_task(folder: Path, scoring: str = "multiple-choice", *, n: int = 48, **changes: object) -> Path:
    """A task.yaml over `tiny_lm_rows` in the same folder."""
    lines = [json.dumps(row) for row in tiny_lm_rows(n)]
    (folder / "rows.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    columns = {"context": "question", "choices": "options", "answer": "right"}
    content = {
        "family": "lm", "scoring": scoring,
        "data": {
            "file": "rows.jsonl", "held_out": {"rows": n // 3}, "test": {"rows": n // 3},
            "shifts": {"dropped": {"of": "test", "first": 10, "corrupt": "word_drop", "rate": 0.4}},
            **({"text": "text"} if scoring == "likelihood" else columns),
        },
        "evaluation": {"batch_size": 5, "max_length": 48, "precision": "fp32", "device": "cpu"}, **changes,
    }  # fmt: skip
    path = folder / "task.yaml"
    path.write_text(json.dumps(content), encoding="utf-8")
    return path
