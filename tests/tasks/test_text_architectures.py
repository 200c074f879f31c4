"""Text classifiers of several architectures: predictions, soups and heads are those of transformers' own loader."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from stockpot import ingredients, uniform, write
from stockpot.errors import EvaluationError
from stockpot.recipes import single
from stockpot.sweeps.head import prepare_initialisation
from stockpot.tasks import load_task
from tiny_lm import tiny_lm_tokenizer
from tiny_models import LABELS, tiny_classifier, tiny_task

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

NARROW = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
ARCHITECTURES = {
    "bert": NARROW,
    "distilbert": {"dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 32},
    "roberta": {**NARROW, "max_position_embeddings": 66},
    "deberta-v2": {**NARROW, "relative_attention": True, "pos_att_type": ["c2p", "p2c"], "position_buckets": 16},
    "modernbert": {**NARROW, "num_hidden_layers": 3},
}


def tiny(folder: Path, architecture: str, *, seed: int, dtype: str = "float32") -> Path:
    tokenizer = transformers.AutoTokenizer.from_pretrained(tiny_classifier(folder.parent / "tokenizer"))
    names = {"id2label": dict(enumerate(LABELS)), "label2id": {name: at for at, name in enumerate(LABELS)}}
    ids = {"pad_token_id": 0, "cls_token_id": 2, "sep_token_id": 3, "bos_token_id": 2, "eos_token_id": 3}
    config = transformers.AutoConfig.for_model(
        architecture, vocab_size=len(tokenizer), **ids, **names, **ARCHITECTURES[architecture]
    )
    torch.manual_seed(seed)
    model = transformers.AutoModelForSequenceClassification.from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape))
    model.to(getattr(torch, dtype)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def own_logits(folder: Path, texts) -> np.ndarray:
    model = transformers.AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    made = []
    with torch.inference_mode():
        for (text,) in texts:
            tokens = tokenizer(text, return_tensors="pt", truncation=True, max_length=16)
            inputs = {name: tokens[name] for name in ("input_ids", "attention_mask")}
            made.append(model(**inputs).logits[0].numpy())
    return np.stack(made)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_predictions_and_written_soups_are_those_of_transformers(tmp_path: Path, architecture: str, dtype: str) -> None:
    for seed in (1, 2):
        tiny(tmp_path / f"run-{seed}", architecture, seed=seed, dtype=dtype)
    runs = ingredients(tmp_path / "run-*")
    path = tiny_task(tmp_path)
    task = load_task(path, runs[0])
    texts = task.texts("held_out")
    expected = own_logits(tmp_path / "run-1", texts)
    assert np.ptp(expected) > 0.01
    assert np.allclose(task.predict(single(runs[0]), "held_out").logits, expected, atol=1e-4)
    write(uniform(runs), tmp_path / "soup")
    soup = ingredients(tmp_path / "soup")[0]
    found = load_task(path, soup).predict(single(soup), "held_out").logits
    assert np.allclose(found, own_logits(tmp_path / "soup", texts), atol=1e-4)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_linear_probe_fits_the_head_of_each(tmp_path: Path, architecture: str) -> None:
    pytest.importorskip("sklearn")
    tiny(tmp_path / "base", architecture, seed=1)
    task = load_task(tiny_task(tmp_path), tmp_path / "base")
    prepare_initialisation(task, tmp_path / "base", tmp_path / "start", head="linear-probe", seed=0)

    def loss(folder: Path) -> float:
        logits = torch.from_numpy(own_logits(folder, task.texts("train")))
        return float(torch.nn.functional.cross_entropy(logits, torch.from_numpy(task.labels("train"))))

    assert loss(tmp_path / "start") < min(loss(tmp_path / "base"), np.log(len(LABELS)))


def decoder(folder: Path, architecture: str, *, config_pads: int | None, tokenizer_pads: str | None) -> Path:
    """A decoder that reads the class at the last token that is no padding, of its configuration's kind."""
    tokenizer = tiny_lm_tokenizer()
    tokenizer.pad_token = tokenizer_pads
    narrow = {"n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": 64} if architecture == "gpt2" else NARROW
    ids = {"pad_token_id": config_pads, "bos_token_id": 2, "eos_token_id": 3, "num_labels": len(LABELS)}
    config = transformers.AutoConfig.for_model(architecture, vocab_size=len(tokenizer), **ids, **narrow)
    torch.manual_seed(0)
    transformers.AutoModelForSequenceClassification.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
@pytest.mark.parametrize(("config_pads", "tokenizer_pads"), [(3, None), (3, "<pad>"), (0, "</s>"), (0, "<pad>")])
def test_texts_are_filled_up_with_what_the_network_takes_for_padding(
    tmp_path: Path, architecture: str, config_pads: int, tokenizer_pads: str | None
) -> None:
    folder = decoder(tmp_path / "model", architecture, config_pads=config_pads, tokenizer_pads=tokenizer_pads)
    task = load_task(tiny_task(tmp_path), folder)
    found = task.predict(single(ingredients(folder)[0]), "held_out").logits
    assert np.allclose(found, own_logits(folder, task.texts("held_out")), atol=1e-5)


def test_a_decoder_without_padding_says_where_to_name_it(tmp_path: Path) -> None:
    folder = decoder(tmp_path / "model", "gpt2", config_pads=None, tokenizer_pads=None)
    task = load_task(tiny_task(tmp_path), folder)
    with pytest.raises(EvaluationError, match="give `pad_token_id` in the config"):
        task.predict(single(ingredients(folder)[0]), "held_out")
