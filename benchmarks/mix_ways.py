"""Ways of averaging checkpoints that `mix.py` measures, each as a process of its own.

    python benchmarks/mix_ways.py WAY OUTPUT FILE...

Written anew, as small as their published forms: nothing but the average is in them.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence


def official(files: Sequence[str], output: str) -> None:
    """The loop of the paper's repository: each state dict is loaded, divided by k and added."""
    from safetensors.torch import load_file, save_file

    soup: dict = {}
    for position, file in enumerate(files):
        state = load_file(file)
        if position == 0:
            soup = {name: tensor * (1.0 / len(files)) for name, tensor in state.items()}
        else:
            soup = {name: tensor * (1.0 / len(files)) + soup[name] for name, tensor in state.items()}
    save_file(soup, output)


def stacked(files: Sequence[str], output: str) -> None:
    """All state dicts at once, stack().mean()."""
    import torch
    from safetensors.torch import load_file, save_file

    states = [load_file(file) for file in files]
    save_file({name: torch.stack([state[name] for state in states]).mean(0) for name in states[0]}, output)


def float64_sum(files: Sequence[str], output: str) -> None:
    """As timm's avg_checkpoints works: sums of whole state dicts in float64, divided, cut to float32's range."""
    import torch
    from safetensors.torch import load_file, save_file

    total: dict = {}
    for file in files:
        for name, tensor in load_file(file).items():
            total[name] = total[name] + tensor.double() if name in total else tensor.double()
    limits = torch.finfo(torch.float32)
    save_file({n: (t / len(files)).clamp(limits.min, limits.max).float() for n, t in total.items()}, output)


def swa(files: Sequence[str], output: str) -> None:
    """torch.optim.swa_utils.AveragedModel, updated with one model after the other."""
    import torch
    from safetensors.torch import load_file, save_file

    model = torch.nn.ParameterDict({name.replace(".", "/"): t for name, t in load_file(files[0]).items()})
    average = torch.optim.swa_utils.AveragedModel(model)
    average.update_parameters(model)
    for file in files[1:]:
        with torch.no_grad():
            for name, tensor in load_file(file).items():
                model[name.replace(".", "/")].copy_(tensor)
        average.update_parameters(model)
    save_file({name.replace("/", "."): tensor.detach() for name, tensor in average.module.items()}, output)


WAYS: dict[str, Callable[[Sequence[str], str], None]] = {
    "official": official,
    "stacked": stacked,
    "float64_sum": float64_sum,
    "swa": swa,
}

if __name__ == "__main__":
    import torch

    torch.set_num_threads(1)
    WAYS[sys.argv[1]](sys.argv[3:], sys.argv[2])
