"""Small networks with random weights, of any architecture that transformers or timm can make from a configuration."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stockpot.errors import ConfigError
from stockpot.tasks.hardware import import_hf
from stockpot.tasks.image_models import import_timm

__all__ = ["make_dual_encoder", "make_image_model", "make_text_model", "make_tokenizer"]

_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "</s>")


def _configuration(tiny: Mapping[str, Any], **more: Any) -> Any:
    _, transformers = import_hf()
    given = {**tiny, **more}
    try:
        return transformers.AutoConfig.for_model(given.pop("model_type"), **given)
    except (KeyError, ValueError, TypeError) as exc:
        raise ConfigError(
            f"tiny: transformers makes no configuration of it: {exc}", fix="give model_type and keys of its config.json"
        ) from exc


def make_text_model(tiny: Mapping[str, Any], folder: Path, *, words: Sequence[str]) -> None:
    """A pre-trained text network without head, and a tokenizer that knows the words.

    Args:
        tiny: `model_type` and keys of its configuration.
        folder: becomes a model folder.
        words: of the texts.

    Raises:
        ConfigError: transformers knows no such architecture.
    """
    torch, transformers = import_hf()
    tokenizer = make_tokenizer(words)
    torch.manual_seed(0)
    config = _configuration(
        tiny, vocab_size=len(tokenizer), pad_token_id=tokenizer.pad_token_id, eos_token_id=tokenizer.eos_token_id
    )
    if getattr(config, "is_encoder_decoder", False):
        config.decoder_start_token_id = config.pad_token_id
        model = transformers.AutoModelForSeq2SeqLM.from_config(config)
    else:
        model = transformers.AutoModel.from_config(config)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def make_tokenizer(words: Sequence[str]) -> Any:
    """A word-level tokenizer in the manner of BERT; digits and letters stand alone where a word is not known."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    vocabulary = {word: number for number, word in enumerate(dict.fromkeys([*_SPECIAL, *words]))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", vocabulary["[CLS]"]), ("[SEP]", vocabulary["[SEP]"])],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]",
        mask_token="[MASK]", eos_token="</s>", model_input_names=["input_ids", "attention_mask"],
    )  # fmt: skip


def make_dual_encoder(tiny: Mapping[str, Any], folder: Path, *, texts: Sequence[str]) -> None:
    """A whole dual encoder with a tokenizer that knows the words, and preprocessing to the size of its configuration.

    Args:
        tiny: `model_type`, `text_config`, `vision_config` and keys of its configuration.
        folder: becomes a model folder.
        texts: sentences that the tokenizer is to know the words of.

    Raises:
        ConfigError: transformers knows no such architecture.
    """
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    torch, transformers = import_hf()
    tokenizer = make_tokenizer(sorted({word for text in texts for word in re.findall(r"\w+|[^\w\s]+", text)}))
    text_config = {
        **tiny.get("text_config", {}), "vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": tokenizer.cls_token_id, "eos_token_id": tokenizer.sep_token_id,
    }  # fmt: skip
    torch.manual_seed(0)
    config = _configuration({**tiny, "text_config": text_config})
    model = transformers.AutoModel.from_config(config)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    size = int(config.vision_config.image_size)
    CLIPImageProcessorPil(size={"shortest_edge": size}, crop_size={"height": size, "width": size}).save_pretrained(
        folder
    )


def make_image_model(tiny: Mapping[str, Any], folder: Path, *, labels: Sequence[str], side: int) -> None:
    """An image classifier with a random head, and preprocessing to the size of its configuration.

    Args:
        tiny: `model_type` and keys of its configuration; or timm's `architecture` and `model_args`.
        folder: becomes a model folder.
        labels: names of the classes.
        side: of the pictures, where the configuration names no size.

    Raises:
        ConfigError: the library knows no such architecture.
        MissingExtraError: timm is not installed.
    """
    torch, transformers = import_hf()
    torch.manual_seed(0)
    if "architecture" in tiny:
        _make_timm(tiny, folder, n_labels=len(labels))
        return
    from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

    names = {"id2label": dict(enumerate(labels)), "label2id": {name: number for number, name in enumerate(labels)}}
    config = _configuration(tiny, **names)
    transformers.AutoModelForImageClassification.from_config(config).save_pretrained(folder)
    size = int(getattr(config, "image_size", side))
    n_channels = int(getattr(config, "num_channels", 3))
    ViTImageProcessorPil(
        size={"height": size, "width": size},
        image_mean=[0.5] * n_channels,
        image_std=[0.5] * n_channels,
        do_convert_rgb=n_channels == 3,
    ).save_pretrained(folder)


def _make_timm(tiny: Mapping[str, Any], folder: Path, *, n_labels: int) -> None:
    timm = import_timm()
    arguments = dict(tiny.get("model_args") or {})
    try:
        model = timm.create_model(tiny["architecture"], num_classes=n_labels, **arguments)
    except (RuntimeError, ValueError, TypeError, KeyError) as exc:
        raise ConfigError(
            f"tiny: timm makes no model of it: {exc}", fix="correct `architecture`, `model_args`"
        ) from exc
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    side = int(tiny.get("input_size", 32))
    cfg = {
        key: value for key, value in model.pretrained_cfg.items() if isinstance(value, str | int | float | list | tuple)
    }
    config = {
        "architecture": tiny["architecture"], "num_classes": n_labels, "model_args": arguments,
        "pretrained_cfg": {**cfg, "input_size": [3, side, side], "crop_pct": 1.0},
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")
    state = {name: value.contiguous() for name, value in model.state_dict().items()}
    save_file(state, folder / "model.safetensors", {"format": "pt"})
