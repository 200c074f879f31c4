"""Tasks of the lm-evaluation-harness as an Evaluate: its questions and metrics, our resident model."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from stockpot.assembly import ResidentSoup
from stockpot.errors import ConfigError, EvaluationError, MissingExtraError, StockpotError
from stockpot.tasks.classifier import load_tokenizer
from stockpot.tasks.hardware import choose_hardware
from stockpot.tasks.lm_models import new_causal_lm
from stockpot.tasks.locations import model_folder
from stockpot.tasks.model_files import model_identity, sha256_of
from stockpot.tasks.saved_names import name_as_saved
from stockpot.types import Incumbent, Score, Soup

__all__ = ["HarnessTask", "import_lm_eval"]

#: Resamples behind the standard error of metrics that are no means.
_N_RESAMPLES = 1000


class HarnessTask:
    """One task of the lm-evaluation-harness; called with a soup, it gives the score: an Evaluate.

    Nothing is loaded until the first call. Weights are swapped in place, in float32.

    Args:
        name: of the task, as the harness knows it.
        model: folder, or the like, of the architecture and the tokenizer: any of the ingredients.
        metric: one of the task's, such as "acc" or "acc_norm"; "metric,filter" where it has several filters.
        include: folder of YAML tasks of your own; the built-in ones are not looked at then.
        n_shots: examples before every question; None: as the task says.
        limit: only the first so many questions; None: all.
        batch_size: sequences of a batch.
        device: "auto", "cpu", "cuda" or "mps".

    Example:
        >>> easy = HarnessTask("arc_easy", "runs/a", metric="acc")
        >>> easy.name
        'arc_easy'
    """

    def __init__(
        self,
        name: str,
        model: str | Path,
        *,
        metric: str = "acc",
        include: str | Path | None = None,
        n_shots: int | None = None,
        limit: int | None = None,
        batch_size: int = 8,
        device: str = "auto",
    ) -> None:
        self.name, self.metric = name, metric
        self._model_name, self._include = str(model), include
        self._n_shots, self._limit, self._batch_size, self._device = n_shots, limit, batch_size, device

    def __call__(self, soup: Soup, *, against: Incumbent | None = None) -> Score:
        """The task's metric of a soup, with the harness's own standard error.

        Raises:
            MissingExtraError: lm_eval is not installed.
            ConfigError: no such task or metric.
            EvaluationError: the harness failed, or gave no finite number.
            BlendError, CheckpointError: the soup cannot be blended or does not fit the model.
        """
        lm_eval = import_lm_eval()
        if self._include is not None and not Path(self._include).is_dir():
            raise ConfigError(f"{self._include}: no such folder of tasks", fix="correct `include`")
        if self.name not in self._manager.all_tasks:
            raise ConfigError(
                f"the harness has no task {self.name!r}", fix="see `lm_eval ls tasks`, or give its folder as `include`"
            )
        self._resident.load(soup, against=against)
        try:
            found = lm_eval.simple_evaluate(
                model=self._language_model,
                tasks=[self.name],
                num_fewshot=self._n_shots,
                limit=self._limit,
                batch_size=self._batch_size,
                bootstrap_iters=_N_RESAMPLES,
                log_samples=False,
                task_manager=self._manager,
            )
        except StockpotError:
            raise
        except Exception as exc:  # tasks are code and data of others
            raise EvaluationError(
                f"the harness failed on {self.name!r}: {type(exc).__name__}: {exc}",
                fix="run it by `lm_eval` alone, and see that its data are there",
            ) from exc
        return self._score(found)

    @property
    def version(self) -> str:
        """What a remembered score depends on beside the weights: the harness, the settings and one's own task files."""
        own = Path(self._include) if self._include is not None else None
        files = sorted(path for path in own.rglob("*") if path.is_file()) if own is not None and own.is_dir() else []
        digests = {str(path.relative_to(own or "")): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
        settings = [self.name, self.metric, self._n_shots, self._limit, self._batch_size, self._device]
        return sha256_of([import_lm_eval().__version__, settings, digests, model_identity(self._folder)])

    @cached_property
    def _folder(self) -> Path:
        return model_folder(self._model_name)

    @cached_property
    def _module(self) -> Any:
        hardware = choose_hardware(device=self._device, precision="fp32")
        module = new_causal_lm(self._folder).to(hardware.device).eval()
        name_as_saved(module)
        return module

    @cached_property
    def _resident(self) -> ResidentSoup:
        return ResidentSoup(self._module)

    @cached_property
    def _language_model(self) -> Any:
        from lm_eval.models.huggingface import HFLM

        return HFLM(pretrained=self._module, tokenizer=load_tokenizer(self._folder), batch_size=self._batch_size)

    @cached_property
    def _manager(self) -> Any:
        from lm_eval.tasks import TaskManager

        include = None if self._include is None else str(self._include)
        return TaskManager(include_path=include, include_defaults=include is None)

    def _score(self, found: Mapping[str, Any]) -> Score:
        values = found["results"].get(self.name, {})
        known = [key for key in values if "," in key and "_stderr," not in key]
        fitting = [key for key in known if self.metric in (key, key.partition(",")[0])]
        if len(fitting) != 1:
            raise ConfigError(
                f"{self.name!r} has {len(fitting) or 'no'} metric{'s' if len(fitting) != 1 else ''} {self.metric!r}",
                fix=f"name one of {', '.join(known) or 'its parts, this is a group'}",
            )
        metric, _, filtered = fitting[0].partition(",")
        stderr = values.get(f"{metric}_stderr,{filtered}")
        return Score(
            float(values[fitting[0]]),
            float(stderr) if isinstance(stderr, int | float) else None,
            int(found["n-samples"][self.name]["effective"]),
            metric=f"{self.name} {metric}",
            higher_is_better=bool(found["higher_is_better"].get(self.name, {}).get(metric, True)),
        )


def import_lm_eval() -> Any:
    """The harness, silent but for errors.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        import lm_eval
    except ModuleNotFoundError as exc:
        if exc.name is None or exc.name.partition(".")[0] != "lm_eval":
            raise
        raise MissingExtraError("lm_eval", extra="llm", needed_for="a task of the harness") from exc
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    return lm_eval
