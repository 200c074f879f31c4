"""The model card (README.md) of a soup's folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from stockpot.records import Row, SoupRecord
from stockpot.reports.numbers import scale_for
from stockpot.reports.table import column_title
from stockpot.reports.text import escape, pipe_table
from stockpot.types import Ingredient, Score, Soup, Step

__all__ = ["model_card"]

_PAPER = (
    "Wortsman et al., *Model soups: averaging weights of multiple fine-tuned models improves accuracy without "
    "increasing inference time*, ICML 2022, [arXiv:2203.05482](https://arxiv.org/abs/2203.05482)"
)
_KEPT = "each was kept if the held-out score of the mean did not fall with it (Recipe 1 of the paper)."
_RECIPES: Mapping[str, str] = {
    "best": "The one ingredient with the best held-out score, as it is.",
    "uniform": "The plain mean of all ingredients, each with the same coefficient.",
    "greedy": f"Ingredients were tried in decreasing order of their held-out score; {_KEPT}",
    "greedy_given": f"Ingredients were tried in the order given; {_KEPT}",
    "greedy_random": f"Ingredients were tried in a random order; {_KEPT}",
    "learned": "The coefficients were learned by gradient descent on the held-out split, one for each ingredient.",
    "learned_by_layer": "The coefficients were learned by gradient descent on the held-out split, a row for each part.",
    "ensemble": "The mean of the logits of all ingredients.",
    "greedy_ensemble": f"Logits were averaged; ingredients were tried in decreasing order of held-out score; {_KEPT}",
    "pruned": "From the mean of all ingredients, each was left out, in increasing order of its held-out score, if the "
    "held-out score of the mean of the others did not fall with that.",
    "top_k": "The plain mean of the ingredients with the best held-out scores; the held-out score chose how many.",
    "interpolate": "The initialisation and a fine-tuned end were mixed in several proportions, of which the held-out "
    "score chose one (WiSE-FT: Wortsman et al., *Robust fine-tuning of zero-shot models*, CVPR 2022).",
    "model_stock": "Each tensor lies between the initialisation and the mean of the ingredients, the nearer to the "
    "mean the smaller the angles between their changes; nothing was evaluated (Jang et al., *Model Stock*, ECCV 2024).",
}
#: Recipes whose last ingredient is the initialisation.
_FROM_INITIALISATION = frozenset({"interpolate", "model_stock"})
#: More columns than this do not fit a page; the rest goes into one.
_MOST_SETTINGS = 6
_SHARD_LOOP = """from pathlib import Path
from safetensors.numpy import load_file

tensors = {}
for file in sorted(Path("path/to/this/folder").glob("*.safetensors")):
    tensors |= load_file(file)"""
#: Family -> the hub's word for what its models do.
_PIPELINES = {
    "text-classification": "text-classification",
    "image-classification": "image-classification",
    "seq2seq-classification": "text2text-generation",
    "lm": "text-generation",
}
_TRANSFORMERS = """from transformers import {model}, AutoTokenizer

model = {model}.from_pretrained("path/to/this/folder")
tokenizer = AutoTokenizer.from_pretrained("path/to/this/folder")"""
#: Whose library it is, only the folder tells.
_TOWER = """from safetensors.torch import load_file

weights = load_file("path/to/this/folder/model.safetensors")
# A whole model (CLIP, ALIGN, open_clip) loads as its library loads it. With head.weight and head.bias it is an image
# tower, under its library's names, and a head: logits = embedding / |embedding| @ head.weight.T + head.bias"""
#: Family -> what loads its models.
_CODE = {
    "text-classification": _TRANSFORMERS.format(model="AutoModelForSequenceClassification"),
    "seq2seq-classification": _TRANSFORMERS.format(model="AutoModelForSeq2SeqLM"),
    "lm": _TRANSFORMERS.format(model="AutoModelForCausalLM"),
    "clip": _TOWER,
}


def model_card(
    record: SoupRecord,
    row: Row | None = None,
    *,
    title: str,
    metric: str = "score",
    task_family: str | None = None,
    base_model: str | None = None,
) -> str:
    """README.md of a soup's folder: what it is, of what, how good, how to load it, how it was made.

    Args:
        record: what soup.json says.
        row: the soup's line of the results, when it was measured on more than the held-out split.
        title: heading of the card.
        metric: name of the metric of `row`.
        task_family: those of texts and language models add the lines that load them with transformers.
        base_model: hub id of the initialisation, when there is one.

    Returns:
        Markdown with a YAML front matter; every name and setting shows literally.

    Example:
        >>> from stockpot.types import Coefficients, Ingredient
        >>> soup = Soup((Ingredient("a", "a"), Ingredient("b", "b")), Coefficients.equal(2), "uniform")
        >>> print(model_card(SoupRecord(soup), title="A soup").split("\\n\\n")[2])
        A model soup: one model whose weights are the linear combination of 2 fine-tuned ones. It costs what one of them costs.
    """  # noqa: E501
    sections = [
        _front_matter(record, task_family, base_model),
        f"# {escape(title)}",
        _claim(record.soup),
        "## Ingredients",
        _ingredients(record.soup),
        *(["## Scores", _scores(row, metric)] if row and row.scores else []),
        "## Loading",
        _loading(record.soup, task_family),
        "## How it was made",
        _making(record),
        *(["### What was tried", _log(record.soup.steps)] if record.soup.steps else []),
    ]
    return "\n\n".join(sections) + "\n"


def _front_matter(record: SoupRecord, task_family: str | None, base_model: str | None) -> str:
    content: dict[str, Any] = {}
    if (task_family in _CODE and task_family != "clip") or _names_file(record.output, "config.json"):
        content["library_name"] = "transformers"
    if task_family in _PIPELINES:
        content["pipeline_tag"] = _PIPELINES[task_family]
    if base_model:
        content["base_model"] = base_model
    content["tags"] = ["model-soup", "stockpot"]
    return f"---\n{yaml.safe_dump(content, sort_keys=False, allow_unicode=True)}---"


def _names_file(output: Mapping[str, Any], name: str) -> bool:
    return any(name in (output.get(key) or ()) for key in ("files", "side_files"))


def _claim(soup: Soup) -> str:
    k = len(soup.ingredients)
    if k == 1:
        return f"One fine-tuned model, {escape(soup.ingredients[0].name)}: no other ingredient is part of it."
    if soup.combine == "logits":
        return (
            f"An ensemble: the mean of the logits of {k} fine-tuned models. It costs {k} times what one of them costs."
        )
    parts = f"{k} fine-tuned ones"
    if soup.recipe in _FROM_INITIALISATION:
        parts = f"the initialisation and {k - 1} fine-tuned one{'s' if k > 2 else ''}"
    return (
        f"A model soup: one model whose weights are the linear combination of {parts}. It costs what one of them costs."
    )


def _ingredients(soup: Soup) -> str:
    varying, shared = _settings(soup)
    shown, rest = varying[:_MOST_SETTINGS], varying[_MOST_SETTINGS:]
    header = ["ingredient", "coefficient", *map(escape, shown), *(["other settings"] if rest else []), "SHA-256"]
    rows = [
        [
            escape(ingredient.name),
            _coefficient([row[index] for row in soup.coefficients.rows]),
            *(_setting(ingredient.settings.get(key)) for key in shown),
            *([_assignments(ingredient.settings, rest)] if rest else []),
            escape((ingredient.digest or "")[:12]),
        ]
        for index, ingredient in enumerate(soup.ingredients)
    ]
    parts = [pipe_table(header, rows)]
    if (n_rows := len(soup.coefficients.rows)) > 1:
        parts.append(
            f"Coefficients differ between {n_rows} groups of tensors: mean and range are shown, `soup.json` has all."
        )
    if shared:
        parts.append(f"Shared by all: {_assignments(soup.ingredients[-1].settings, shared)}.")
    return "\n\n".join(parts)


def _settings(soup: Soup) -> tuple[list[str], list[str]]:
    """Names of the settings in which the ingredients differ, and of those that all share."""
    every = [ingredient.settings for ingredient in _fine_tunes(soup)]
    names = list(dict.fromkeys(name for settings in every for name in settings))
    shared = [n for n in names if len(every) > 1 and all(n in s and s[n] == every[0].get(n) for s in every)]
    return [name for name in names if name not in shared], shared


def _fine_tunes(soup: Soup) -> Sequence[Ingredient]:
    return soup.ingredients[:-1] if soup.recipe in _FROM_INITIALISATION else soup.ingredients


def _assignments(settings: Mapping[str, Any], names: Sequence[str]) -> str:
    return ", ".join(f"{escape(name)} = {_setting(settings[name])}" for name in names if name in settings)


def _setting(value: Any) -> str:
    if value is None:
        return ""
    return escape(f"{value:.4g}" if isinstance(value, float) else value)


def _coefficient(values: Sequence[float]) -> str:
    """The coefficient, or mean and range over the groups of tensors."""
    if len(set(values)) == 1:
        return f"{values[0]:.4g}"
    return f"{sum(values) / len(values):.4g} ({min(values):.4g} to {max(values):.4g})"


def _scores(row: Row, metric: str) -> str:
    scale = scale_for(metric, row.scores.values())
    unit = ", percent" if scale.factor == 100.0 else ""
    header = ["split", f"{escape(metric)}{unit}", "standard error", "n"]
    rows = [
        [
            escape(column_title(split)),
            scale.number(cell.value),
            "" if cell.stderr is None else scale.number(cell.stderr),
            "" if cell.n is None else f"{cell.n:,}",
        ]
        for split, cell in row.scores.items()
    ]
    table = pipe_table(header, rows)
    if "held_out" not in row.scores:
        return table
    return f"{table}\n\nThe soup was chosen on the held-out split, so its score there is optimistic."


def _loading(soup: Soup, task_family: str | None) -> str:
    code = _CODE.get(task_family or "", _SHARD_LOOP)
    block = f"```python\n{code}\n```"
    if soup.logit_scale == 1.0:
        return block
    return (
        f"{block}\n\nMultiply the logits by {soup.logit_scale!r}: the scale is part of the recipe, not of the weights."
    )


def _making(record: SoupRecord) -> str:
    recipe = record.soup.recipe
    lines = [f"Recipe *{escape(recipe)}*. {_RECIPES.get(recipe, '')}".strip()]
    if record.soup.combine == "weights" and len(record.soup.ingredients) > 1:
        dtype = record.output.get("dtype")
        stored = f", stored as {escape(dtype)}" if dtype else ""
        lines.append(f"Weights were summed in float64 and rounded once{stored}.")
    lines += [escape(note) + "." for note in record.notes]
    lines.append(f"Made with stockpot {escape(record.stockpot)}; `soup.json` holds the full record.")
    return f"{' '.join(lines)}\n\nModel soups: {_PAPER}."


def _log(steps: Sequence[Step]) -> str:
    metric = steps[0].score.metric
    rows = [
        [str(index), escape(step.label or step.ingredient.name), _tried(step.score), "yes" if step.accepted else "no"]
        for index, step in enumerate(steps, 1)
    ]
    titles = ("tried", "taken") if any(step.label for step in steps) else ("ingredient", "kept")
    return pipe_table(["step", titles[0], f"held-out {escape(metric)}", titles[1]], rows, left=2)


def _tried(score: Score) -> str:
    if score.is_abandoned:
        seen = "" if score.n_evaluated is None else f" after {score.n_evaluated:,} examples"
        bound = (
            "" if score.at_most is None else f", at {'most' if score.higher_is_better else 'least'} {score.at_most:.4f}"
        )
        return f"abandoned{seen}{bound}"
    return f"{score.value:.4f}" + ("" if score.stderr is None else f" ± {score.stderr:.4f}")
