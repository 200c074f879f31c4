"""One resident module whose weights are swapped in place, and the running sum that makes a greedy step one read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

from stockpot.assembly.opening import opened
from stockpot.assembly.tensors import fill, require_weights
from stockpot.errors import IncompatibleError
from stockpot.kernel import Chunk, RunningBlend, blend
from stockpot.types import Checkpoint, Incumbent, Ingredient, Soup, TensorSpec

if TYPE_CHECKING:
    import torch

__all__ = ["ResidentSoup", "assign_to"]

#: Above this the running sum (two float64 copies of the parameters) lives in a memory-mapped scratch file.
RUNNING_SUM_BUDGET_BYTES = 4 * 2**30


class ResidentSoup:
    """Keeps a module's weights equal to the soup asked for.

    If the soup is the incumbent plus one equal share, one checkpoint is read and added to the running sum; else the
    soup is blended from scratch. Both give the same bytes, so a search that is resumed decides as one that is not.

    Args:
        module: its tensors keep their dtype and device.
        budget_bytes: memory for the running sum.
    """

    def __init__(self, module: torch.nn.Module, *, budget_bytes: int = RUNNING_SUM_BUDGET_BYTES) -> None:
        self._module = module
        self._budget_bytes = budget_bytes
        self._running: RunningBlend | None = None
        self._held: tuple[Ingredient, ...] = ()
        self._pending: tuple[Ingredient, ...] = ()
        self._loaded: tuple[object, ...] | None = None
        self.n_checkpoints_read = 0

    def load(self, soup: Soup, *, against: Incumbent | None = None) -> bool:
        """Makes the module's weights those of `soup`; does nothing if they are already.

        Args:
            soup: combine must be "weights".
            against: the incumbent of a greedy search, if this is one.

        Returns:
            Whether anything was written.

        Raises:
            BlendError, CheckpointError: as `blend` and `open_checkpoint`.
        """
        require_weights(soup)
        wanted = (soup.ingredients, soup.coefficients)
        if wanted == self._loaded:
            return False
        self._loaded = None  # a failure half-way leaves no claim about the weights
        if _extends(soup, against):
            self._load_running(soup)
        else:
            self._load_from_scratch(soup)
        self._loaded = wanted
        return True

    def forget(self) -> None:
        """Says that somebody else has changed the module's weights."""
        self._loaded = None

    def close(self) -> None:
        """Frees the running sum and its scratch file."""
        if self._running is not None:
            self._running.close()
        self._running, self._held, self._pending = None, (), ()

    def _load_from_scratch(self, soup: Soup) -> None:
        with opened(soup.ingredients) as checkpoints:
            labels = [ingredient.name for ingredient in soup.ingredients]
            assign = assign_to(self._module, checkpoints[0], label=labels[0])
            _each(blend(checkpoints, soup.coefficients, labels=labels), assign)
            self.n_checkpoints_read += len(checkpoints)

    def _load_running(self, soup: Soup) -> None:
        *kept, candidate = soup.ingredients
        if self._running is None:
            self._running = RunningBlend(budget_bytes=self._budget_bytes)
        if tuple(kept) == self._pending and self._pending != self._held:
            self._running.accept()
            self._held = self._pending
        if tuple(kept) != self._held:
            self._rebuild(self._running, kept)
        # Compatibility is checked against the first ingredient, as in a blend from scratch.
        with opened([soup.ingredients[0], candidate]) as (first, checkpoint):
            assign = assign_to(self._module, first, label=soup.ingredients[0].name)
            self._pending = ()
            _each(self._running.propose(checkpoint, candidate.name), assign)
            self._pending = soup.ingredients
            self.n_checkpoints_read += 1

    def _rebuild(self, running: RunningBlend, kept: list[Ingredient]) -> None:
        self._held = self._pending = ()
        with opened(kept) as checkpoints:
            for position, (ingredient, checkpoint) in enumerate(zip(kept, checkpoints, strict=True)):
                self._add(running, checkpoint, ingredient.name, first=position == 0)
                self.n_checkpoints_read += 1
        self._held = tuple(kept)

    @staticmethod
    def _add(running: RunningBlend, checkpoint: Checkpoint, label: str, *, first: bool) -> None:
        if first:
            running.start(checkpoint, label)
            return
        for _ in running.propose(checkpoint, label):
            pass
        running.accept()


def _each(chunks: Iterator[Chunk], assign: Callable[[Chunk], None]) -> None:
    for chunk in chunks:
        assign(chunk)


def _extends(soup: Soup, against: Incumbent | None) -> bool:
    """Whether the soup is the incumbent plus one equal share."""
    return (
        against is not None
        and soup.coefficients.is_equal
        and against.soup.coefficients.is_equal
        and soup.ingredients[:-1] == against.soup.ingredients
    )


def assign_to(module: torch.nn.Module, checkpoint: Checkpoint, *, label: str) -> Callable[[Chunk], None]:
    """A function that copies chunks into the module's own tensors, by name and strictly.

    Args:
        module: its state dict is the target; tensors keep their dtype and device.
        checkpoint: says which names and shapes will come.
        label: its name, for error messages.

    Raises:
        IncompatibleError: names that only one side has; all are listed.
    """
    import torch

    targets = {name: tensor for name, tensor in module.state_dict().items() if isinstance(tensor, torch.Tensor)}
    counted = _counted_anew(module, checkpoint, targets)
    _check_fits(targets, checkpoint, label, counted)
    # Tied in the checkpoint but not in the model: each of the model's tensors gets the values.
    untied: dict[str, list[torch.Tensor]] = {}
    for alias, name in checkpoint.tied.items():
        if targets[alias].data_ptr() != targets[name].data_ptr():
            untied.setdefault(name, []).append(targets[alias])

    def assign(chunk: Chunk) -> None:
        if chunk.name in counted:
            return
        fill(targets[chunk.name], chunk)
        for tensor in untied.get(chunk.name, ()):
            fill(tensor, chunk)

    return assign


def _counted_anew(
    module: torch.nn.Module, checkpoint: Checkpoint, targets: Mapping[str, torch.Tensor]
) -> frozenset[str]:
    """Tensors of the file that the model makes itself and no longer stores, as `position_ids` of older checkpoints."""
    own = tuple(f".{name}" for name, _ in module.named_buffers())
    return frozenset(
        name for name, spec in checkpoint.specs.items()
        if name not in targets and not spec.is_float and any(kept.endswith(f".{name}") for kept in own)
    )  # fmt: skip


def _check_fits(
    targets: Mapping[str, torch.Tensor], checkpoint: Checkpoint, label: str, counted: frozenset[str]
) -> None:
    """Every tensor of the model is given, nothing more, in the model's shapes; all problems at once."""
    names = (checkpoint.specs.keys() | checkpoint.tied.keys()) - counted
    memory = {name: (tensor.data_ptr(), tuple(tensor.shape)) for name, tensor in targets.items()}
    given = {memory[name] for name in names & targets.keys()}
    # A name the file lacks is given all the same when it shares memory with one that the file has (tied weights).
    problems = [
        f"{name}: in the model, not in the checkpoint"
        for name in targets
        if name not in names and memory[name] not in given
    ]
    problems += [f"{name}: in the checkpoint, not in the model" for name in sorted(names - targets.keys())]
    problems += [
        f"{name}: {list(targets[name].shape)} in the model but {spec} in the checkpoint"
        for name, spec in [*checkpoint.specs.items(), *_tied_specs(checkpoint)]
        if name in targets and tuple(targets[name].shape) != spec.shape
    ]
    if problems:
        raise IncompatibleError(
            f"the tensors of {label!r} are not those of the model",
            problems=problems,
            fix="name the folder with the right config.json as `model:` in the task file",
        )


def _tied_specs(checkpoint: Checkpoint) -> list[tuple[str, TensorSpec]]:
    return [(alias, checkpoint.specs[name]) for alias, name in checkpoint.tied.items()]
