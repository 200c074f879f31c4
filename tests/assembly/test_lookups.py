"""Embeddings mixed by the rows that are looked up: the gradients of whole tables, found by structure, never wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from stockpot.assembly import Mixture
from stockpot.checkpoints import ingredients
from stockpot.tasks.batches import Batch
from stockpot.tasks.gradients import GradientOptions, ModuleGradient

K, N_WORDS, WIDTH, N_CLASSES = 3, 11, 5, 3
BUDGETS = pytest.mark.parametrize("budget_bytes", [0, 2**20], ids=["streamed", "in memory"])


class Bag(torch.nn.Module):
    """The mean of a text's word vectors, and a linear layer."""

    def __init__(self, *, reads_the_table: bool = False, **settings) -> None:
        super().__init__()
        self.words = torch.nn.Embedding(N_WORDS, WIDTH, **settings)
        self.head = torch.nn.Linear(WIDTH, N_CLASSES)
        self.reads_the_table = reads_the_table

    def forward(self, words: torch.Tensor) -> torch.Tensor:
        hidden = self.words(words).mean(1)
        if self.reads_the_table:
            hidden = hidden + self.words.weight.mean(0)
        return self.head(hidden)


class OwnLookup(torch.nn.Embedding):
    def forward(self, words: torch.Tensor) -> torch.Tensor:
        return self.weight[words] * 2


def saved(folder: Path, module: torch.nn.Module):
    names = dict(module.named_parameters())
    for run in range(K):
        generator = torch.Generator().manual_seed(run)
        state = {name: torch.randn(tensor.shape, generator=generator) for name, tensor in names.items()}
        save_file(state, folder / f"{run}.safetensors")
    return ingredients(str(folder / "*.safetensors"))


def gradient_of(module: torch.nn.Module, runs, budget_bytes: int, *, n_threads: int = 1, size: int = 4):
    words = torch.from_numpy(np.random.default_rng(0).integers(0, N_WORDS - 4, (20, 3)))

    def batches(rows):
        pieces = [rows[start : start + size] for start in range(0, len(rows), size)]
        return [Batch({"words": words[piece].numpy()}, np.array(piece)) for piece in pieces]

    return words, ModuleGradient(
        module, runs, forward=lambda batch: module(torch.from_numpy(batch.inputs["words"])),
        labels=np.arange(20) % N_CLASSES, batches=batches, budget_bytes=budget_bytes, n_threads=n_threads,
        options=GradientOptions("tensor", batch_size=16, rows_sum_to_one=False),
    )  # fmt: skip


def autograd_reference(module: torch.nn.Module, runs, words, rows, groups, coefficients):
    from safetensors.torch import load_file

    states = [load_file(run.source) for run in runs]
    alpha = torch.tensor(coefficients, requires_grad=True)
    mixed = {
        name: sum(alpha[row, i] * state[name].double() for i, state in enumerate(states))
        for row, (name,) in enumerate(groups)
    }
    logits = torch.func.functional_call(module.double(), mixed, (words[rows],))
    torch.nn.functional.cross_entropy(logits, torch.tensor(rows) % N_CLASSES).backward()
    module.float()
    return alpha.grad.numpy()


@BUDGETS
@pytest.mark.parametrize(
    ("settings", "has_lookups"),
    [({}, True), ({"padding_idx": 1}, True), ({"reads_the_table": True}, False), ({"scale_grad_by_freq": True}, False)],
    ids=["plain", "padding", "also read whole", "scaled gradients"],
)
def test_gradients_are_those_of_the_whole_table(tmp_path: Path, budget_bytes: int, settings, has_lookups: bool) -> None:
    module = Bag(**settings)
    runs = saved(tmp_path, module)
    words, gradient = gradient_of(module, runs, budget_bytes, size=16)
    coefficients = np.random.default_rng(1).normal(1 / K, 0.3, (3, K))
    with gradient:
        found = gradient(coefficients, 1.0, 0)
        assert gradient._mixture.has_lookups is has_lookups
        rows, groups = list(gradient._rows_of(0)), gradient.groups
    if "scale_grad_by_freq" not in settings:  # torch's own gradient is not the function's there
        expected = autograd_reference(module, runs, words, rows, groups, coefficients)
        np.testing.assert_allclose(found.gradient, expected, atol=1e-5, rtol=1e-5)


@BUDGETS
def test_rows_nobody_asked_for_are_nan_until_the_end_and_then_exact(tmp_path: Path, budget_bytes: int) -> None:
    module = Bag()
    runs = saved(tmp_path, module)
    words, gradient = gradient_of(module, runs, budget_bytes)
    with gradient:
        for shares in ([0.2, 0.3, 0.5], [0.6, 0.3, 0.1]):
            coefficients = np.tile(shares, (3, 1))
            gradient.stopping_loss(coefficients, 1.0)
            used = words[gradient._stopping].unique()
            is_ready = module.words.weight.isfinite().all(1)
            assert is_ready.nonzero().flatten().tolist() == used.tolist()
    from safetensors.torch import load_file

    mixed = sum(s * load_file(run.source)["words.weight"] for s, run in zip(shares, runs, strict=True))
    torch.testing.assert_close(module.words.weight.detach(), mixed)
    assert not module.words.sparse
    assert not module.words._forward_pre_hooks


@BUDGETS
def test_no_bit_depends_on_how_pieces_share_rows(tmp_path: Path, budget_bytes: int) -> None:
    module = Bag()
    runs = saved(tmp_path, module)
    results = []
    for n_threads in (1, 3, 3):
        _, gradient = gradient_of(module, runs, budget_bytes, n_threads=n_threads, size=2)
        with gradient:
            found = gradient(np.tile([0.2, 0.3, 0.5], (3, 1)), 1.0, 0)
            results.append((found.loss, found.gradient.tobytes()))
    assert len(set(results)) == 1


def test_only_tables_of_their_own_are_found(tmp_path: Path) -> None:
    tied, own, plain = Bag(), Bag(), Bag(max_norm=1.0)
    tied.head = torch.nn.Linear(WIDTH, N_WORDS, bias=False)
    tied.head.weight = tied.words.weight
    own.words = OwnLookup(N_WORDS, WIDTH)
    for number, module in enumerate((tied, own, plain)):
        (tmp_path / str(number)).mkdir()
        with Mixture(module, saved(tmp_path / str(number), module)) as mixture:
            assert not mixture.has_lookups
            mixture.load(np.full((1, K), 1 / K))
            assert module.words.weight.isfinite().all()


def test_forward_passes_of_others_mix_nothing(tmp_path: Path) -> None:
    module = Bag()
    with Mixture(module, saved(tmp_path, module)) as mixture:
        mixture.load(np.full((1, K), 1 / K))
        assert module(torch.tensor([[0]])).isnan().all()
        with mixture.looking_up():
            assert module(torch.tensor([[0]])).isfinite().all()
            with pytest.raises(IndexError):
                module(torch.tensor([[N_WORDS]]))


def test_a_loss_that_is_nan_by_itself_stays_nan(tmp_path: Path) -> None:
    module = Bag()
    _, gradient = gradient_of(module, saved(tmp_path, module), 2**20)
    with gradient:
        assert np.isnan(gradient.stopping_loss(np.full((3, K), 1 / K), float("nan")))
        assert np.isfinite(gradient.stopping_loss(np.full((3, K), 1 / K), 1.0))
