"""Running statistics made anew for a network whose weights were averaged."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from stockpot.errors import DataError

if TYPE_CHECKING:
    import torch

__all__ = ["has_running_statistics", "recalibrate", "recalibration_note"]


def has_running_statistics(module: torch.nn.Module) -> bool:
    """Whether any layer normalises by statistics that it has gathered (BatchNorm and its kind)."""
    return bool(_layers(module))


def recalibration_note(module: torch.nn.Module, wanted: int, n_rows: int, batch_size: int) -> str:
    """What becomes of a wish for so many batches: over how many they are estimated, or that there is nothing to.

    Args:
        module: the network.
        wanted: batches asked for, >= 1.
        n_rows: training examples there are.
        batch_size: of them in a batch, >= 1.

    Example:
        >>> import torch
        >>> recalibration_note(torch.nn.BatchNorm1d(1), 9, 60, 16)
        'Running statistics were made anew over 4 batches: 9 were asked for, and 60 training examples give no more.'
    """
    if not has_running_statistics(module):
        return "The network has no running statistics (BatchNorm): recalibrating changed nothing."
    there = -(-n_rows // batch_size)
    more = f": {wanted} were asked for, and {n_rows} training examples give no more" if wanted > there else ""
    n = min(wanted, there)
    return f"Running statistics were made anew over {n} batch{'' if n == 1 else 'es'}{more}."


def recalibrate(module: torch.nn.Module, batches: Iterable[Any]) -> int:
    """Re-estimates every running mean and variance over some batches, each batch counting alike.

    ``mean = (1/B) sum_b mean_b`` and ``var = (1/B) sum_b var_b`` over B batches, without momentum: the order of the
    batches does not matter but for rounding. Statistics are reset first; weights, dropout and the other layers stay as
    in evaluation, and so does the mode of the module afterwards. An average of networks has activations that none of
    them had, so their averaged statistics fit none; to be fair to all candidates, do this for single models too.

    Args:
        module: any torch module; one without such layers is left alone.
        batches: of training inputs: dictionaries are passed as keywords, tuples and lists as positions, anything else
            as the one argument. Tensors are moved to the module's device.

    Returns:
        Number of batches seen; 0 where nothing had to be done.

    Raises:
        DataError: no batches, though there are statistics to estimate.

    Source: Izmailov et al. 2018, "Averaging weights leads to wider optima and better generalization" (batch
        normalisation after averaging); Jordan et al. 2023, "REPAIR".

    Example:
        >>> import torch
        >>> layer = torch.nn.BatchNorm1d(1)
        >>> recalibrate(layer, [torch.tensor([[1.0], [3.0]]), torch.tensor([[5.0], [7.0]])])
        2
        >>> layer.running_mean.tolist(), layer.running_var.tolist()
        ([4.0], [2.0])
    """
    import torch

    layers = _layers(module)
    if not layers:
        return 0
    device = next((parameter.device for parameter in module.parameters()), torch.device("cpu"))
    n = 0
    with torch.no_grad(), _gathering(module, layers):
        for batch in batches:
            _forward(module, _moved(batch, device))
            n += 1
    if not n:
        raise DataError("there are no batches to estimate running statistics from", fix="give training batches")
    return n


def _layers(module: torch.nn.Module) -> list[Any]:
    from torch.nn.modules.batchnorm import _NormBase

    return [layer for layer in module.modules() if isinstance(layer, _NormBase) and layer.running_mean is not None]


@contextmanager
def _gathering(module: torch.nn.Module, layers: Sequence[Any]) -> Iterator[None]:
    """Evaluation mode but for these layers, which gather plain means; everything is put back afterwards."""
    modes = {layer: layer.training for layer in module.modules()}
    momenta = [layer.momentum for layer in layers]
    try:
        module.eval()
        for layer in layers:
            layer.reset_running_stats()
            layer.momentum = None  # torch's word for a cumulative average
            layer.train()
        yield
    finally:
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum
        for layer, was_training in modes.items():
            layer.training = was_training


def _forward(module: torch.nn.Module, batch: Any) -> None:
    if isinstance(batch, Mapping):
        module(**batch)
    elif isinstance(batch, list | tuple):
        module(*batch)
    else:
        module(batch)


def _moved(value: Any, device: torch.device) -> Any:
    import torch

    if isinstance(value, torch.Tensor):
        return value.to(device)
    if isinstance(value, Mapping):
        return {key: _moved(entry, device) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_moved(entry, device) for entry in value)
    return value
