"""What each family's own library makes of a folder of weights: logits in float64, one example at a time.

Nothing of stockpot's networks, batches or blends takes part; a task only says which examples a split has.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np


def text_logits(folder: Path, task, split: str) -> np.ndarray:
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float64).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    with torch.inference_mode():
        rows = [tokenizer(*row, truncation=True, max_length=16, return_tensors="pt") for row in task.texts(split)]
        return np.concatenate([model(**row).logits.numpy() for row in rows])


def seq2seq_logits(folder: Path, task, split: str) -> np.ndarray:
    """log p(words | prompt), the end-of-text token included."""
    import torch
    from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

    model = AutoModelForSeq2SeqLM.from_pretrained(folder, dtype=torch.float64).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    targets = [tokenizer(text_target=words, return_tensors="pt")["input_ids"] for words in task.words]

    def likelihood(prompt, target) -> float:
        likely = model(input_ids=prompt, labels=target).logits.log_softmax(dim=-1)
        return float(likely[0].gather(1, target[0][:, None]).sum())

    with torch.inference_mode():
        prompts = [tokenizer(f"task: {text}", return_tensors="pt")["input_ids"] for (text,) in task.texts(split)]
        return np.array([[likelihood(prompt, target) for target in targets] for prompt in prompts])


def generated_logits(folder: Path, task, split: str) -> np.ndarray:
    """1 for the label whose words are the answer, in the last column for any other answer."""
    import torch
    from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

    model = AutoModelForSeq2SeqLM.from_pretrained(folder, dtype=torch.float64).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    columns = []
    for (text,) in task.texts(split):
        prompt = tokenizer(f"task: {text}", return_tensors="pt")["input_ids"]
        answer = model.generate(input_ids=prompt, max_new_tokens=6, num_beams=1, do_sample=False)[0]
        said = tokenizer.decode(answer, skip_special_tokens=True).strip()
        columns.append(task.words.index(said) if said in task.words else len(task.words))
    with torch.inference_mode():
        return np.eye(len(task.words) + 1)[columns]


def lm_logits(folder: Path, task, split: str) -> np.ndarray:
    """Mean log-likelihoods of texts [n, 1]; sums over the tokens of choices [n, choices], -1e9 where there is none."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from tiny_lm import tiny_lm_rows

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    lines = tiny_lm_rows(48)
    rows = [lines[int(item.partition(":")[2]) - 1] for item in task.item_ids(split)]

    def likelihoods(tokens: list[int]) -> np.ndarray:
        likely = model(torch.tensor([tokens])).logits[0].log_softmax(dim=-1)
        return likely[range(len(tokens) - 1), tokens[1:]].numpy()

    with torch.inference_mode():
        if task.config.is_likelihood:
            return np.array([[likelihoods(tokenizer(row["text"])["input_ids"]).mean()] for row in rows])
        found = np.full((len(rows), 4), -1e9)
        for at, row in enumerate(rows):
            n_given = len(tokenizer(row["question"])["input_ids"])
            for number, choice in enumerate(row["options"]):
                tokens = tokenizer(f"{row['question']} {choice}")["input_ids"]
                found[at, number] = likelihoods(tokens)[n_given - 1 :].sum()
        return found


def custom_logits(folder: Path, task, split: str) -> np.ndarray:
    import torch

    module = sys.modules[task.config.factory.partition(":")[0]]
    model = module.build().double().eval()
    model.load_state_dict(_weights(folder))
    inputs, _ = module.load(split, task.config.data.splits[split])
    with torch.inference_mode():
        wide = {name: torch.tensor(values) for name, values in inputs.items()}
        return model(**{n: v.double() if v.is_floating_point() else v for n, v in wide.items()}).numpy()


# --------------------------------------------------------------------------------------------------------------- images


def pictures_of(task, split: str):
    from PIL import Image

    return [Image.open(task.config.folder / item.replace(":", "/")).convert("RGB") for item in task.item_ids(split)]


def image_logits(folder: Path, task, split: str) -> np.ndarray:
    import torch
    from transformers import AutoModelForImageClassification

    model = AutoModelForImageClassification.from_pretrained(folder, dtype=torch.float64).eval()
    with torch.inference_mode():
        return model(_processed(folder, pictures_of(task, split))).logits.numpy()


def timm_logits(folder: Path, task, split: str) -> np.ndarray:
    import timm
    import torch

    config = json.loads((folder / "config.json").read_text())
    model = timm.create_model(f"local-dir:{folder}", pretrained=True).eval().double()
    timm.models.load_checkpoint(model, str(folder / "model.safetensors"))  # once more, not rounded to float32
    transform = timm.data.create_transform(**timm.data.resolve_data_config({}, pretrained_cfg=config["pretrained_cfg"]))
    with torch.inference_mode():
        return model(torch.stack([transform(picture) for picture in pictures_of(task, split)]).double()).numpy()


def tower_logits(folder: Path, task, split: str) -> np.ndarray:
    """The image tower by transformers' own loader, the head by hand."""
    import torch
    import transformers

    kind = json.loads((folder / "config.json").read_text())["model_type"]
    made = {
        "clip_vision_model": transformers.CLIPVisionModelWithProjection,
        "align_vision_model": transformers.AlignVisionModel,
    }[kind]
    model, report = made.from_pretrained(folder, dtype=torch.float64, output_loading_info=True)
    assert not report["missing_keys"]
    with torch.inference_mode():
        output = model.eval()(_processed(folder, pictures_of(task, split)))
        return _head(folder, output.image_embeds if kind.startswith("clip") else output.pooler_output)


def open_clip_tower_logits(folder: Path, task, split: str) -> np.ndarray:
    """The image tower by open_clip's own loader, the head by hand."""
    import open_clip
    import torch

    model, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{folder}", load_weights=False)
    left = open_clip.load_checkpoint(model.double(), folder / "model.safetensors", strict=False)
    assert set(left.unexpected_keys) == {"head.weight", "head.bias"}
    assert not [name for name in left.missing_keys if name.startswith("visual.")]
    pixels = torch.stack([preprocess(picture) for picture in pictures_of(task, split)]).double()
    with torch.inference_mode():
        return _head(folder, model.eval().encode_image(pixels))


def zero_shot_logits(folder: Path, task, split: str) -> np.ndarray:
    """A whole dual encoder of transformers, its embeddings as its own forward gives them."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    model = AutoModel.from_pretrained(folder, dtype=torch.float64).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    pixels = _processed(folder, pictures_of(task, split))
    columns = []
    with torch.inference_mode():
        for name in task.label_names:
            prompts = [template.format(name) for template in task.config.zero_shot.templates]
            found = [model(pixel_values=pixels[:1], **tokenizer(one, return_tensors="pt")) for one in prompts]
            mean = torch.stack([one.text_embeds[0] for one in found]).mean(dim=0)
            columns.append(mean / mean.norm())
        images = model(pixel_values=pixels, **tokenizer("a", return_tensors="pt")).image_embeds
        scale = model.logit_scale.exp() if hasattr(model, "logit_scale") else 1 / model.temperature
        return (scale * images @ torch.stack(columns).T).numpy()


def open_clip_zero_shot_logits(folder: Path, task, split: str) -> np.ndarray:
    import open_clip
    import torch

    model, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{folder}", precision="fp32")
    tokenizer, templates = open_clip.get_tokenizer(f"local-dir:{folder}"), task.config.zero_shot.templates
    pixels = torch.stack([preprocess(picture) for picture in pictures_of(task, split)]).double()
    with torch.inference_mode():
        model = model.eval().double()
        head = open_clip.build_zero_shot_classifier(model, tokenizer, task.label_names, templates)
        return (model.logit_scale.exp() * model.encode_image(pixels, normalize=True) @ head).numpy()


def _processed(folder: Path, pictures):
    from transformers import AutoImageProcessor

    processor = AutoImageProcessor.from_pretrained(folder, backend="pil")
    return processor(pictures, return_tensors="pt")["pixel_values"].double()


def _head(folder: Path, features) -> np.ndarray:
    weights = _weights(folder)
    unit = features / features.norm(dim=-1, keepdim=True)
    return (unit @ weights["head.weight"].T + weights["head.bias"]).numpy()


def _weights(folder: Path):
    from safetensors.torch import load_file

    found = load_file(folder if folder.is_file() else folder / "model.safetensors")
    return {name: tensor.double() if tensor.is_floating_point() else tensor for name, tensor in found.items()}
