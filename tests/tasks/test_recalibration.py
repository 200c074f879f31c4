"""Running statistics: re-estimated ones rescue an averaged network with BatchNorm; every other layer is left alone."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from stockpot.errors import DataError  # noqa: E402
from stockpot.tasks.recalibration import has_running_statistics, recalibrate, recalibration_note  # noqa: E402


def test_what_became_of_a_wish_is_said() -> None:
    norm, plain = torch.nn.BatchNorm1d(1), torch.nn.LayerNorm(1)
    assert recalibration_note(norm, 1, 60, 16) == "Running statistics were made anew over 1 batch."
    assert recalibration_note(norm, 4, 60, 16) == "Running statistics were made anew over 4 batches."
    assert "over 4 batches: 5 were asked for, and 60 training" in recalibration_note(norm, 5, 60, 16)
    assert "no running statistics (BatchNorm): recalibrating changed nothing" in recalibration_note(plain, 5, 60, 16)


def network(width: int = 32) -> torch.nn.Sequential:
    return torch.nn.Sequential(
        torch.nn.Conv2d(1, width, 3, padding=1, bias=False), torch.nn.BatchNorm2d(width), torch.nn.ReLU(),
        torch.nn.Conv2d(width, width, 3, padding=1, bias=False), torch.nn.BatchNorm2d(width), torch.nn.ReLU(),
        torch.nn.Conv2d(width, width, 3, padding=1, bias=False), torch.nn.BatchNorm2d(width), torch.nn.ReLU(),
        torch.nn.AdaptiveAvgPool2d(2), torch.nn.Flatten(), torch.nn.Linear(4 * width, 10),
    )  # fmt: skip


def digits() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    datasets = pytest.importorskip("sklearn.datasets")
    pixels, labels = datasets.load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(labels))
    x = torch.from_numpy(pixels[order].reshape(-1, 1, 8, 8).astype(np.float32) / 16)
    y = torch.from_numpy(labels[order])
    return x[:1200], y[:1200], x[1200:], y[1200:]


def fine_tuned(start: dict, x: torch.Tensor, y: torch.Tensor, *, seed: int, learning_rate: float, epochs: int) -> dict:
    torch.manual_seed(seed)
    model = network()
    model.load_state_dict(start)
    model.train()
    optimiser = torch.optim.SGD(model.parameters(), lr=learning_rate, momentum=0.9)
    for _ in range(epochs):
        for rows in torch.randperm(len(y)).split(64):
            optimiser.zero_grad()
            torch.nn.functional.cross_entropy(model(x[rows]), y[rows]).backward()
            optimiser.step()
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def accuracy(model: torch.nn.Module, x: torch.Tensor, y: torch.Tensor) -> float:
    model.eval()
    with torch.no_grad():
        return float((model(x).argmax(dim=1) == y).float().mean())


def test_a_uniform_soup_collapses_without_and_recovers_with_it() -> None:
    """Digits, four fine-tunes that have left their start's basin: the same weights, other statistics."""
    x, y, test_x, test_y = digits()
    torch.manual_seed(0)
    start = fine_tuned(network().state_dict(), x, y, seed=0, learning_rate=0.05, epochs=1)
    runs = [fine_tuned(start, x, y, seed=seed, learning_rate=0.6, epochs=6) for seed in (1, 2, 3, 4)]
    model = network()
    batches = x.split(100)
    singles = []
    for state in runs:
        model.load_state_dict(state)
        recalibrate(model, batches)  # single models too: the comparison must be fair
        singles.append(accuracy(model, test_x, test_y))
    mean = {name: torch.stack([run[name].double() for run in runs]).mean(dim=0).to(start[name].dtype) for name in start}
    model.load_state_dict(mean)
    before = accuracy(model, test_x, test_y)
    assert recalibrate(model, batches) == 12
    after = accuracy(model, test_x, test_y)
    assert before < min(singles) - 0.15, (before, after, singles)
    assert after > before + 0.15, (before, after, singles)


def test_the_means_are_plain_and_in_any_order() -> None:
    torch.manual_seed(0)
    batches = [torch.randn(20, 3, 4, 4) * scale for scale in (1.0, 2.0, 5.0)]
    layer = torch.nn.BatchNorm2d(3)
    found = []
    for order in (batches, batches[::-1]):
        recalibrate(layer, order)
        found.append((layer.running_mean.clone(), layer.running_var.clone()))
        means = torch.stack([batch.double().mean(dim=(0, 2, 3)) for batch in batches]).mean(dim=0)
        variances = torch.stack([batch.double().var(dim=(0, 2, 3)) for batch in batches]).mean(dim=0)
        assert torch.allclose(layer.running_mean.double(), means, atol=1e-5)
        assert torch.allclose(layer.running_var.double(), variances, rtol=1e-5)
    assert torch.allclose(found[0][0], found[1][0], atol=1e-6)


def test_dictionaries_tuples_and_modes() -> None:
    class Two(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm, self.drop = torch.nn.BatchNorm1d(2), torch.nn.Dropout(0.5)

        def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
            assert not self.drop.training
            return self.drop(self.norm(a + b))

    one = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    for batch in ({"a": one, "b": one}, (one, one), [one, one]):
        model = Two().train()
        assert recalibrate(model, [batch]) == 1
        assert model.norm.running_mean.tolist() == [4.0, 6.0]
        assert model.norm.momentum == 0.1
        assert model.training
        assert model.drop.training


def test_nothing_to_do_and_nothing_to_do_it_with() -> None:
    plain = torch.nn.Linear(2, 2)
    assert not has_running_statistics(plain)
    assert recalibrate(plain, []) == 0
    assert has_running_statistics(torch.nn.BatchNorm1d(2))
    assert not has_running_statistics(torch.nn.BatchNorm1d(2, track_running_stats=False))
    with pytest.raises(DataError, match="no batches"):
        recalibrate(torch.nn.BatchNorm1d(2), [])


def test_weights_stay() -> None:
    model = network(4)
    before = [parameter.clone() for parameter in model.parameters()]
    recalibrate(model, [torch.randn(8, 1, 8, 8)])
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
