"""Text-to-text classification with encoder-decoder models: prompts in, likelihoods of label words out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stockpot._cores import available_cores
from stockpot.assembly import DELTAS_BUDGET_BYTES, opened
from stockpot.config import Seq2SeqTaskConfig, fill_template
from stockpot.errors import ConfigError
from stockpot.tasks.batches import Encodings
from stockpot.tasks.classifier import ResidentClassifier, encoded, load_tokenizer
from stockpot.tasks.data import check_overlap, load_splits
from stockpot.tasks.gradients import GradientOptions, ModuleGradient
from stockpot.tasks.hardware import import_hf
from stockpot.tasks.label_words import LabelTokens, label_order, label_tokens, words_of_labels
from stockpot.tasks.labels import class_names, encode_labels
from stockpot.tasks.text import TextClassification, try_metric
from stockpot.types import Incumbent, Ingredient, Soup

if TYPE_CHECKING:
    import torch

__all__ = ["Seq2SeqClassification"]

#: What the network's encoder takes; some tokenizers make more.
_INPUTS = ("input_ids", "attention_mask")


class Seq2SeqClassification(TextClassification):
    """A family of text-to-text models, data and a metric: predicts with any soup of them.

    Texts become prompts by the task's template; a label's logit is the log-likelihood of its words, or marks the words
    that greedy decoding gives. All else is as for texts. The model's own label names do not count, for it has no head.

    Args:
        config: the task.
        folder: relative paths in `config` start here.
        model_folder: has config.json and the tokenizer.
        n_threads: batches in flight on a CPU; default: the cores. Does not change a single bit.
        own_labels: of no effect.

    Raises:
        DataError: rows, labels or splits are wrong; held-out rows are in test.
        ConfigError: label words that do not fit the labels.
        MissingExtraError: the metric needs scikit-learn, which is not installed.
    """

    config: Seq2SeqTaskConfig

    def __init__(
        self,
        config: Seq2SeqTaskConfig,
        *,
        folder: Path,
        model_folder: Path,
        n_threads: int | None = None,
        own_labels: bool = True,
    ) -> None:
        del own_labels
        self.config = config
        self.metric = config.metric
        self._model_folder = model_folder
        self._n_threads = n_threads or available_cores()
        self._splits = load_splits(config.data, folder=folder)
        check_overlap(self._splits, config.data.allow_overlap)
        found = (label for split in self._splits.values() for label in split.labels)
        self.label_names, self._labels = encode_labels(
            self._splits, label_order(config.labels, config.label_words, found, class_names(self._splits))
        )
        #: What the model answers with for each label.
        self.words = words_of_labels(self.label_names, config.label_words)
        try_metric(config.metric, len(self.label_names))
        self._encoded = {}
        self._batches = {}
        self._untied_for: set[str] = set()

    def prompts(self, split: str) -> list[str]:
        """What the model reads for each example."""
        template, columns = self.config.template, self.config.data.text
        texts = self._splits[split].texts
        if template is None:
            return [" ".join(row) for row in texts]
        return [fill_template(template, dict(zip(columns, row, strict=True))) for row in texts]

    @cached_property
    def label_tokens(self) -> LabelTokens:
        """What the model answers with for each label, as tokens.

        Raises:
            ConfigError: the folder holds no tokenizer, or labels cannot be told by their tokens.
        """
        return label_tokens(load_tokenizer(self._model_folder), self.label_names, self.words)

    def gradient(
        self,
        ingredients: Sequence[Ingredient],
        options: GradientOptions | None = None,
        *,
        budget_bytes: int = DELTAS_BUDGET_BYTES,
    ) -> ModuleGradient:
        """As for texts.

        Raises:
            ConfigError: answers are generated, and a likeliest token has no gradient.
        """
        self.check_learnable(fold=False)
        self._untie_as(ingredients[0])
        return super().gradient(ingredients, options, budget_bytes=budget_bytes)

    def check_learnable(self, *, fold: bool) -> None:
        """Refuses what has no gradient, and a scale that has no place.

        Args:
            fold: whether the scale is to go into the weights.

        Raises:
            ConfigError: answers are generated, and a likeliest token has no gradient; `fold`.
        """
        if self.config.scoring == "generation":
            raise ConfigError(
                "learned soups need a gradient, and `scoring: generation` has none",
                fix="use `scoring: likelihood`, or a recipe that does not learn",
            )
        if fold:
            raise ConfigError(
                "no layer of a text-to-text model scales the likelihoods of its answers, so the logit scale has no "
                "place in the weights",
                fix="leave out --fold: soup.json holds the logit scale",
            )

    def folded(self, soup: Soup) -> Soup:
        """A soup without a logit scale, as it is.

        Raises:
            ConfigError: it has one: log-likelihoods are linear in no layer.
        """
        if soup.logit_scale != 1.0:
            self.check_learnable(fold=True)
        return soup

    def _load(self, soup: Soup, against: Incumbent | None = None) -> None:
        self._untie_as(soup.ingredients[0])
        super()._load(soup, against)

    def _untie_as(self, ingredient: Ingredient) -> None:
        """Ties the network's tensors as the checkpoint has them; soups mix only checkpoints that agree in this."""
        if ingredient.source not in self._untied_for:
            self._untied_for.add(ingredient.source)
            with opened([ingredient]) as (checkpoint,):
                self._model.module.untie(checkpoint.specs)  # type: ignore[operator]

    @cached_property
    def _model(self) -> ResidentClassifier:
        import_hf()
        from stockpot.tasks.label_scorer import LabelScorer, new_network

        def new_module(folder: Path, _: int) -> torch.nn.Module:
            return LabelScorer(
                new_network(folder),
                self.label_tokens,
                is_mean=self.config.normalise == "mean",
                is_generation=self.config.scoring == "generation",
            )

        return ResidentClassifier(
            self._model_folder,
            n_labels=len(self.label_names),
            hardware=self.hardware,
            n_threads=self._n_threads,
            new_module=new_module,
        )

    @cached_property
    def _settings_identity(self) -> Mapping[str, Any]:
        config = self.config
        return {
            **super()._settings_identity,
            "template": [config.template, config.data.text if config.template else None],
            "answers": [self.words, self.label_tokens.ids, self.label_tokens.n_given],
            "scoring": [config.scoring, config.normalise],
        }

    def _encodings(self, split: str) -> Encodings:
        if split not in self._encoded:
            prompts = [(prompt,) for prompt in self.prompts(split)]
            made = encoded(self._model_folder, prompts, max_length=self.config.evaluation.max_length)
            inputs = {name: values for name, values in made.inputs.items() if name in _INPUTS}
            self._encoded[split] = Encodings(inputs, made.padding_values, made.padding_side, made.max_length)
        return self._encoded[split]
