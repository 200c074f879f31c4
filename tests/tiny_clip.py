"""Small real image-text models for tests: random weights, real files."""

from __future__ import annotations

import json
from pathlib import Path

from tiny_images import tiny_image_task

#: Wide enough apart that classes and texts differ.
SPREAD = 0.3
SIDE = 16
#: Its convolutions halve the picture five times.
ALIGN_SIDE = 64
OPEN_CLIP = {
    "model_cfg": {
        "embed_dim": 12,
        "vision_cfg": {"image_size": SIDE, "layers": 2, "width": 16, "head_width": 8, "patch_size": 8},
        "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
    },
    "preprocess_cfg": {"mean": [0.5, 0.4, 0.6], "std": [0.3, 0.2, 0.4]},
}


def tiny_clip(folder: Path, kind: str = "clip", *, seed: int = 0, dtype: str = "float32") -> Path:
    """A whole random dual encoder of transformers ("clip", "align") or open_clip, as its library writes it."""
    import torch

    torch.manual_seed(0)
    model = open_clip_model() if kind == "open_clip" else transformers_model(kind)
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 0:
                parameter.add_(SPREAD * torch.randn(parameter.shape))
    if kind == "align":
        model.temperature.data.fill_(0.001)  # random towers give all pictures almost the same embedding
    model.to(getattr(torch, dtype))
    folder.mkdir(parents=True, exist_ok=True)
    if kind == "open_clip":
        from safetensors.torch import save_file

        (folder / "open_clip_config.json").write_text(json.dumps(OPEN_CLIP))
        save_file({k: v.contiguous() for k, v in model.state_dict().items()}, folder / "open_clip_model.safetensors")
        return folder
    model.save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    processor(ALIGN_SIDE if kind == "align" else SIDE).save_pretrained(folder)
    return folder


def tiny_open_clip(folder: Path, model_cfg, *, seed: int = 0) -> Path:
    """A whole random network of open_clip of any configuration, as it writes it."""
    import open_clip
    import torch
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "open_clip_config.json").write_text(json.dumps({**OPEN_CLIP, "model_cfg": model_cfg}))
    torch.manual_seed(seed)
    model = open_clip.create_model(f"local-dir:{folder}", load_weights=False).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 0:
                parameter.add_(0.1 * torch.randn(parameter.shape))
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, folder / "open_clip_model.safetensors")
    return folder


def open_clip_model():
    import open_clip

    cfg = OPEN_CLIP["model_cfg"]
    return open_clip.CLIP(cfg["embed_dim"], cfg["vision_cfg"], cfg["text_cfg"]).eval()


def transformers_model(kind: str):
    import transformers

    narrow = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    text = {**narrow, "vocab_size": 64, "max_position_embeddings": 16}
    if kind == "clip":
        text |= {"bos_token_id": 2, "eos_token_id": 3, "pad_token_id": 0}
        vision = {**narrow, "image_size": SIDE, "patch_size": 8}
        return transformers.CLIPModel(
            transformers.CLIPConfig(text_config=text, vision_config=vision, projection_dim=12)
        ).eval()
    vision = {"image_size": ALIGN_SIDE, "width_coefficient": 0.1, "depth_coefficient": 0.1, "hidden_dim": 64}
    config = transformers.AlignConfig(
        text_config={**text, "pad_token_id": 0}, vision_config=vision, projection_dim=_align_width(vision)
    )
    return transformers.AlignModel(config).eval()


def _align_width(vision) -> int:
    import torch
    import transformers

    tower = transformers.AlignVisionModel(transformers.AlignVisionConfig(**vision)).eval()
    return tower(torch.zeros(1, 3, ALIGN_SIDE, ALIGN_SIDE)).pooler_output.shape[1]


def tokenizer():
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "photo", "of", "my", "cat", "dog", "owl", "the", ".", "drawing"]
    made = Tokenizer(models.WordLevel({word: at for at, word in enumerate(words)}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]",
        model_max_length=16, model_input_names=["input_ids", "attention_mask"],
    )  # fmt: skip


def processor(side: int):
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    return CLIPImageProcessorPil(size={"shortest_edge": side}, crop_size={"height": side, "width": side})


def tiny_clip_task(folder: Path, **changes: object) -> Path:
    """A task.yaml of the family `clip` over class folders of tiny pictures."""
    given = {"family": "clip", "zero_shot": {"templates": ["a photo of a {}.", "my {}."]}, **changes}
    return tiny_image_task(folder, **given)
