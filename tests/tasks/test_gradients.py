"""Gradients by coefficients: against autograd through the k-way sum, from memory and from files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from stockpot.checkpoints import ingredients
from stockpot.errors import ConfigError, DataError
from stockpot.recipes import LearningOptions, learned
from stockpot.tasks import load_task
from stockpot.tasks.batches import Batch
from stockpot.tasks.gradients import GradientOptions, ModuleGradient, held_out_parts
from tiny_models import tiny_classifier, tiny_fine_tunes, tiny_task

K = 3


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("gradients")
    tiny_fine_tunes(folder / "runs", tiny_classifier(folder / "base"), K, scale=0.3)
    return folder


def task_and_runs(tiny: Path):
    runs = ingredients(str(tiny / "runs" / "*"))
    path = tiny / "task"
    path.mkdir(exist_ok=True)
    task = load_task(tiny_task(path, evaluation={"precision": "fp32", "max_length": 16}), runs[0])
    return task, runs


def autograd_reference(task, runs, coefficients, scale, rows, groups):
    """The official formulation: all models in memory, autograd through the sum."""
    from transformers import AutoModelForSequenceClassification

    models = [AutoModelForSequenceClassification.from_pretrained(run.source).eval() for run in runs]
    alpha = torch.tensor(coefficients, dtype=torch.float64, requires_grad=True)
    beta = torch.tensor(scale, dtype=torch.float64, requires_grad=True)
    row_of = dict.fromkeys(models[0].state_dict(), 0)
    for row, names in enumerate(groups or ()):
        row_of |= dict.fromkeys(names, row)
    mixed = {
        name: sum(alpha[row_of[name], i] * model.state_dict()[name].double() for i, model in enumerate(models))
        if tensor.is_floating_point()
        else tensor
        for name, tensor in models[0].state_dict().items()
    }
    module = models[0].double()
    encodings = task._encodings("held_out")
    loss = 0.0
    for row in rows:
        inputs = {name: torch.tensor([values[row]]) for name, values in encodings.inputs.items()}
        logits = torch.func.functional_call(module, mixed, kwargs=inputs).logits * beta
        loss = loss + torch.nn.functional.cross_entropy(logits, torch.tensor([task.labels("held_out")[row]]))
    loss = loss / len(rows)
    loss.backward()
    return float(loss.detach()), alpha.grad.numpy(), float(beta.grad)


@pytest.mark.parametrize("granularity", ["model", "block", "tensor"])
@pytest.mark.parametrize("budget_bytes", [0, 2**30], ids=["streamed", "in memory"])
def test_gradients_are_those_of_autograd_through_the_sum(tiny: Path, granularity, budget_bytes: int) -> None:
    task, runs = task_and_runs(tiny)
    options = GradientOptions(granularity, batch_size=20, rows_sum_to_one=False)
    with task.gradient(runs, options, budget_bytes=budget_bytes) as gradient:
        assert gradient._mixture.is_streamed == (budget_bytes == 0)
        n_rows = 1 if gradient.groups is None else len(gradient.groups)
        coefficients = np.random.default_rng(0).normal(1 / K, 0.2, (n_rows, K))
        found = gradient(coefficients, 1.3, batch=1)
        rows = gradient._rows_of(1)
        loss, expected, scale_gradient = autograd_reference(task, runs, coefficients, 1.3, rows, gradient.groups)
        assert found.loss == pytest.approx(loss, abs=1e-5)
        assert found.logit_scale_gradient == pytest.approx(scale_gradient, abs=1e-5)
        np.testing.assert_allclose(found.gradient, expected, atol=1e-5, rtol=1e-5)


def test_tensors_that_all_ingredients_share_need_no_gradient_and_change_none(tmp_path: Path) -> None:
    weights = [torch.randn(3, 5, generator=torch.Generator().manual_seed(run)) for run in range(K)]
    for run, weight in enumerate(weights):
        save_file({"weight": weight, "bias": torch.tensor([1.0, -2.0, 0.5])}, tmp_path / f"{run}.safetensors")
    runs = ingredients(str(tmp_path / "*.safetensors"))
    inputs, labels = np.random.default_rng(0).normal(size=(20, 5)).astype(np.float32), np.arange(20) % 3

    def found(*, rows_sum_to_one: bool) -> tuple[np.ndarray, int]:
        module = torch.nn.Linear(5, 3)
        with ModuleGradient(
            module, runs, forward=lambda batch: module(torch.from_numpy(batch.inputs["x"])), labels=labels,
            batches=lambda rows: [Batch({"x": inputs[list(rows)]}, np.array(rows))],
            options=GradientOptions(batch_size=20, rows_sum_to_one=rows_sum_to_one),
        ) as gradient:  # fmt: skip
            result = gradient(np.array([[0.5, 0.2, 0.3]]), 1.0, 0).gradient
            assert torch.equal(module.bias, torch.tensor([1.0, -2.0, 0.5]))
            return result - result.mean(), len(gradient._mixture.parameters)

    (some, n_some), (every, n_every) = found(rows_sum_to_one=True), found(rows_sum_to_one=False)
    assert (n_some, n_every) == (1, 2)
    np.testing.assert_allclose(some, every, atol=1e-6)


def test_no_bit_depends_on_threads(tiny: Path) -> None:
    _, runs = task_and_runs(tiny)
    found = []
    for n_threads in (1, 3):
        task = load_task(tiny / "task" / "task.yaml", runs[0], n_threads=n_threads)
        with task.gradient(runs, GradientOptions(batch_size=48)) as gradient:
            result = gradient(np.array([[0.2, 0.3, 0.5]]), 0.9, 0)
            found.append((result.loss, result.gradient.tobytes(), result.logit_scale_gradient))
    assert found[0] == found[1]


def test_the_resident_model_is_reloaded_after_learning(tiny: Path) -> None:
    from stockpot.recipes import uniform

    task, runs = task_and_runs(tiny)
    before = task.predict(uniform(runs), "held_out").logits
    with task.gradient(runs) as gradient:
        gradient(np.array([[0.9, 0.05, 0.05]]), 1.0, 0)
        np.testing.assert_array_equal(task.predict(uniform(runs), "held_out").logits, before)
    np.testing.assert_array_equal(task.predict(uniform(runs), "held_out").logits, before)
    gradient.close()


@pytest.mark.parametrize("granularity", ["model", "tensor"])
def test_a_learned_soup_of_a_transformer_is_no_worse_than_what_it_started_from(tiny: Path, granularity) -> None:
    task, runs = task_and_runs(tiny)
    with task.gradient(runs, GradientOptions(granularity, batch_size=32)) as gradient:
        soup = learned(runs, gradient, LearningOptions(least_steps=20, epochs=1, check_every=10))
        rows = np.array(soup.coefficients.rows)
        loss = gradient.stopping_loss(rows, soup.logit_scale)
    compared = {point.label: point.stopping_loss for point in soup.curve}
    assert set(compared) == {"uniform", *(f"only {run.name}" for run in runs), "step 10", "step 20"}
    assert loss == min(compared.values())
    np.testing.assert_allclose(rows.sum(axis=1), 1.0, atol=1e-12)


# --- a linear model: convex, so a second optimiser says what the answer is ----------------------------------------


def linear_problem(folder: Path, *, n: int = 200, k: int = 4, extra: dict | None = None):
    generator = torch.Generator().manual_seed(7)
    inputs = torch.randn(n, 5, generator=generator)
    truth = torch.randn(5, 3, generator=generator)
    labels = (inputs @ truth + torch.randn(n, 3, generator=generator)).argmax(1).numpy()
    for run in range(k):
        weight = truth.t() + torch.randn(3, 5, generator=generator)
        save_file(
            {"weight": weight.contiguous(), "bias": torch.randn(3, generator=generator)}, folder / f"{run}.safetensors"
        )
    module = torch.nn.Linear(5, 3)
    runs = ingredients(str(folder / "*.safetensors"))
    gradient = ModuleGradient(
        module,
        runs,
        forward=lambda batch: module(torch.from_numpy(batch.inputs["x"])),
        labels=labels,
        batches=lambda rows: [Batch({"x": inputs[list(rows)].numpy()}, np.array(rows))],
        options=GradientOptions(batch_size=n),
    )
    return inputs.numpy().astype(float), labels, runs, gradient


def test_the_learned_soup_of_a_linear_model_is_the_minimum_of_a_second_optimiser(tmp_path: Path) -> None:
    from scipy.optimize import minimize

    inputs, labels, runs, gradient = linear_problem(tmp_path)
    weights = [load_file(run.source) for run in runs]
    training, _ = held_out_parts(len(labels), 0.2, 0)

    def loss(free: np.ndarray) -> float:
        shares = np.exp(free[:-1] - free[:-1].max())
        shares /= shares.sum()
        weight = sum(s * w["weight"].numpy().astype(float) for s, w in zip(shares, weights, strict=True))
        bias = sum(s * w["bias"].numpy().astype(float) for s, w in zip(shares, weights, strict=True))
        logits = free[-1] * (inputs[training] @ weight.T + bias)
        shifted = logits - logits.max(1, keepdims=True)
        return float(np.mean(np.log(np.exp(shifted).sum(1)) - shifted[np.arange(len(training)), labels[training]]))

    expected = minimize(loss, np.array([0.0] * len(runs) + [1.0]), method="Nelder-Mead",
                        options={"maxiter": 20000, "maxfev": 20000, "fatol": 1e-12, "xatol": 1e-9}).fun  # fmt: skip
    with gradient:
        soup = learned(runs, gradient, LearningOptions(least_steps=1500, check_every=1500))
        reached = _training_loss_at_the_end(runs, gradient)
    assert reached == pytest.approx(expected, abs=2e-4)
    assert soup.curve[0].label == "uniform"


def _training_loss_at_the_end(runs, gradient) -> float:
    seen = []

    class Watched:
        groups, n_batches = gradient.groups, gradient.n_batches
        stopping_loss = staticmethod(lambda coefficients, scale: 0.0)

        def __call__(self, coefficients, scale, batch):
            found = gradient(coefficients, scale, batch)
            seen.append(found.loss)
            return found

    learned(runs, Watched(), LearningOptions(least_steps=1500, check_every=500))
    return seen[-1]


def test_streaming_and_memory_agree_on_every_step(tmp_path: Path) -> None:
    _, _, runs, gradient = linear_problem(tmp_path)
    module = torch.nn.Linear(5, 3)
    _, labels, _, _ = linear_problem(tmp_path)
    shares = np.array([[0.1, 0.2, 0.3, 0.4]])
    streamed = ModuleGradient(
        module, runs, forward=lambda batch: module(torch.from_numpy(batch.inputs["x"])), labels=labels,
        batches=gradient._batches, options=GradientOptions(batch_size=200), budget_bytes=0,
    )  # fmt: skip
    with gradient, streamed:
        a, b = gradient(shares, 1.0, 0), streamed(shares, 1.0, 0)
    np.testing.assert_allclose(a.gradient, b.gradient, atol=1e-5)
    assert a.loss == pytest.approx(b.loss, abs=1e-6)


def test_half_precision_checkpoints_can_be_learned_from(tmp_path: Path) -> None:
    for run in range(2):
        torch.manual_seed(run)
        save_file(
            {"weight": torch.randn(3, 5).bfloat16(), "bias": torch.randn(3).bfloat16()}, tmp_path / f"{run}.safetensors"
        )
    module = torch.nn.Linear(5, 3)
    runs = ingredients(str(tmp_path / "*.safetensors"))
    inputs = np.random.default_rng(0).normal(size=(20, 5)).astype(np.float32)
    labels = np.arange(20) % 3
    for budget_bytes in (0, 2**20):
        with ModuleGradient(
            module, runs, forward=lambda batch: module(torch.from_numpy(batch.inputs["x"])), labels=labels,
            batches=lambda rows: [Batch({"x": inputs[list(rows)]}, np.array(rows))],
            options=GradientOptions(batch_size=20), budget_bytes=budget_bytes,
        ) as gradient:  # fmt: skip
            gradient(np.array([[0.25, 0.75]]), 1.0, 0)
            first, second = (load_file(run.source)["weight"].double() for run in runs)
            mixed = 0.25 * first + 0.75 * second
        torch.testing.assert_close(module.weight.double(), mixed, atol=1e-6, rtol=1e-6)


def test_buffers_tied_and_untrained_tensors_are_handled_by_name(tmp_path: Path) -> None:
    class Odd(torch.nn.Module):
        """A buffer before the parameters, a tied matrix, a parameter that takes no part."""

        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("a_mean", torch.zeros(4))
            self.body = torch.nn.Linear(4, 4, bias=False)
            self.twin = self.body
            self.idle = torch.nn.Parameter(torch.zeros(2))
            self.head = torch.nn.Linear(4, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(self.twin(self.body(x - self.a_mean)))

    module = Odd()
    for run in range(2):
        torch.manual_seed(run)
        for parameter in module.parameters():
            torch.nn.init.normal_(parameter)
        module.a_mean.fill_(float(run))
        torch.save(module.state_dict(), tmp_path / f"{run}.pt")
    states = [torch.load(tmp_path / f"{run}.pt", weights_only=True) for run in range(2)]
    runs = ingredients(str(tmp_path / "*.pt"))
    inputs = torch.randn(6, 4)
    labels = torch.tensor([0, 1, 0, 1, 1, 0])
    options = GradientOptions("tensor", batch_size=5, rows_sum_to_one=False)
    with ModuleGradient(
        module, runs, forward=lambda batch: module(torch.from_numpy(batch.inputs["x"])), labels=labels.numpy(),
        batches=lambda rows: [Batch({"x": inputs[list(rows)].numpy()}, np.array(rows))], options=options,
    ) as gradient:  # fmt: skip
        coefficients = np.random.default_rng(1).normal(0.5, 0.2, (len(gradient.groups), 2))
        found = gradient(coefficients, 1.0, 0)
        rows = list(gradient._rows_of(0))
        groups = gradient.groups
    assert ("twin.weight",) not in groups or ("body.weight",) not in groups
    alpha = torch.tensor(coefficients, requires_grad=True)
    by_name = {names[0]: row for row, names in enumerate(groups)}
    mixed = {
        name: (alpha[row, 0] * states[0][name].double() + alpha[row, 1] * states[1][name].double())
        for name, row in by_name.items()
    }
    body = mixed.get("body.weight", mixed.get("twin.weight"))
    hidden = (inputs[rows].double() - mixed["a_mean"].detach()) @ body.t() @ body.t()
    logits = hidden @ mixed["head.weight"].t() + mixed["head.bias"]
    torch.nn.functional.cross_entropy(logits, labels[rows]).backward()
    np.testing.assert_allclose(found.gradient, alpha.grad.numpy(), atol=1e-4, rtol=1e-4)
    assert not found.gradient[by_name["a_mean"]].any(), "a buffer has no gradient"


def test_the_parts_of_the_held_out_split_do_not_meet() -> None:
    training, stopping = held_out_parts(1000, 0.25, seed=3)
    assert len(stopping) == 250
    assert not set(training.tolist()) & set(stopping.tolist())
    assert held_out_parts(1000, 0.25, seed=4)[1].tolist() != stopping.tolist()
    assert [len(part) for part in held_out_parts(2, 0.9, seed=0)] == [1, 1]
    with pytest.raises(DataError, match="at least 2 held-out examples"):
        held_out_parts(1, 0.5, seed=0)


def test_every_pass_sees_every_training_row_once(tiny: Path) -> None:
    task, runs = task_and_runs(tiny)
    with task.gradient(runs, GradientOptions(batch_size=7)) as gradient:
        passes = [
            [
                row
                for batch in range(gradient.n_batches)
                for row in gradient._rows_of(number * gradient.n_batches + batch)
            ]
            for number in range(2)
        ]
        assert sorted(passes[0]) == sorted(passes[1]) == gradient._training.tolist()
        assert passes[0] != passes[1]


def test_options_out_of_range_are_named() -> None:
    with pytest.raises(ConfigError) as caught:
        GradientOptions(batch_size=0, stopping_fraction=1.0)
    assert len(caught.value.problems) == 2


def test_streaming_mixes_straight_into_the_module(tiny: Path) -> None:
    task, runs = task_and_runs(tiny)
    with task.gradient(runs, budget_bytes=0) as gradient:
        targets = gradient._mixture._store._targets
        held = {tensor.data_ptr() for tensor in task._model.module.state_dict().values()}
        assert {target.data_ptr() for target in targets.values()} <= held


def test_a_folded_soup_gives_the_scaled_logits_without_extra_code(tiny: Path, tmp_path: Path) -> None:
    from dataclasses import replace

    from transformers import AutoModelForSequenceClassification

    from stockpot.assembly import write
    from stockpot.recipes import uniform

    task, runs = task_and_runs(tiny)
    soup = replace(uniform(runs), recipe="learned", logit_scale=1.7)
    scaled = task.predict(soup, "held_out").logits
    np.testing.assert_allclose(scaled, 1.7 * task.predict(uniform(runs), "held_out").logits, rtol=1e-6)
    folded = task.folded(soup)
    assert folded.logit_scale == 1.0
    assert folded.coefficients.row_of("classifier.weight") == pytest.approx((1.7 / K,) * K)
    np.testing.assert_allclose(task.predict(folded, "held_out").logits, scaled, atol=1e-5)
    write(folded, tmp_path / "soup")
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "soup").eval()
    batch = task._batches_of("held_out")[0]
    with torch.no_grad():
        logits = model(**{name: torch.from_numpy(values) for name, values in batch.inputs.items()}).logits
    np.testing.assert_allclose(logits.numpy()[: len(batch.rows)], scaled[batch.rows], atol=1e-5)
