"""Language models: the plain transformers model is the reference for likelihoods, choices and written soups."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import datasets
import numpy as np
import pytest

from stockpot import config as c
from stockpot import write
from stockpot.errors import ConfigError, DataError, EvaluationError, IncompatibleError
from stockpot.experiment import compare
from stockpot.experiment.analysing import AnalysisOptions, analyse
from stockpot.experiment.diagnosing import diagnose
from stockpot.metrics import METRICS
from stockpot.recipes import ensemble, greedy, single, uniform
from stockpot.tasks import load_task
from stockpot.tasks.gradients import GradientOptions
from stockpot.tasks.lm_data import load_lm_splits
from stockpot.tasks.lm_models import ABSENT
from stockpot.types import Ingredient
from tiny_lm import ARCHITECTURES, tiny_lm, tiny_lm_rows, tiny_lm_task, tiny_lm_tokenizer

LEARNED = c.LearnedConfig(epochs=1, least_steps=20, batch_size=8)
SCORINGS = ("likelihood", "multiple-choice")


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    for architecture in ARCHITECTURES:
        for seed in (1, 2):
            tiny_lm(folder / f"{architecture}-{seed}", architecture, seed=seed)
    return folder


def members(models: Path, architecture: str = "llama") -> tuple[Ingredient, ...]:
    return tuple(Ingredient(f"r{seed}", str(models / f"{architecture}-{seed}")) for seed in (1, 2))


def rows_of(task, split: str) -> list[dict]:
    rows = tiny_lm_rows(48)
    return [rows[int(item.partition(":")[2]) - 1] for item in task.item_ids(split)]


def log_likelihoods(folder: Path, tokens: list[int], *, dtype: str = "float32") -> np.ndarray:
    """Of every token but the first, given all before it: the plain model, one text at a time."""
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype)).float().eval()
    with torch.no_grad():
        logits = model(torch.tensor([tokens])).logits[0]
    return torch.log_softmax(logits, dim=-1)[range(len(tokens) - 1), tokens[1:]].numpy()


def reference(folder: Path, task, split: str, **more) -> np.ndarray:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)  # transformers splits Qwen's texts otherwise: into letters
    longest = task.config.evaluation.max_length
    if task.config.is_likelihood:
        texts = [tokenizer(row["text"])["input_ids"][:longest] for row in rows_of(task, split)]
        return np.array([[log_likelihoods(folder, tokens, **more).mean()] for tokens in texts])
    found = np.full((len(task.item_ids(split)), 4), ABSENT)
    for at, row in enumerate(rows_of(task, split)):
        for number, choice in enumerate(row["options"]):
            tokens = tokenizer(f"{row['question']} {choice}")["input_ids"]
            n = len(tokens) - len(tokenizer(row["question"])["input_ids"])
            found[at, number] = log_likelihoods(folder, tokens[-longest:], **more)[-n:].sum()
    return found


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("scoring", SCORINGS)
def test_predictions_are_the_plain_models(scoring, architecture, models, tmp_path) -> None:
    first, second = members(models, architecture)
    task = load_task(tiny_lm_task(tmp_path, scoring), first)
    task.predict(single(second), "held_out")  # swapped in place, and back
    found = task.predict(single(first), "held_out")
    np.testing.assert_allclose(found.logits, reference(Path(first.source), task, "held_out"), atol=1e-5, rtol=1e-5)
    if scoring == "likelihood" and architecture == "qwen2":
        assert max(found.labels) == 47  # texts of many letters are cut
        return
    if scoring == "likelihood":
        expected = [len(row["text"].split()) for row in rows_of(task, "held_out")]  # the first of the tokens is <s>
    else:
        expected = [row["right"] for row in rows_of(task, "held_out")]
    assert found.labels.tolist() == expected
    assert np.ptp(found.logits[:, 0]) > 0.1  # the texts are told apart


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("scoring", SCORINGS)
def test_a_written_soup_loads_with_transformers(scoring, architecture, models, tmp_path) -> None:
    soup = uniform(members(models, architecture))
    task = load_task(tiny_lm_task(tmp_path, scoring), models / f"{architecture}-1")
    found = task.predict(soup, "test")
    write(soup, tmp_path / "soup")
    np.testing.assert_allclose(found.logits, reference(tmp_path / "soup", task, "test"), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_checkpoints(dtype, tmp_path) -> None:
    folders = [tiny_lm(tmp_path / f"m{seed}", "qwen2", seed=seed, dtype=dtype) for seed in (1, 2)]
    runs = tuple(Ingredient(folder.name, str(folder)) for folder in folders)
    task = load_task(tiny_lm_task(tmp_path, "likelihood"), folders[0])
    found = task.predict(single(runs[0]), "test").logits
    np.testing.assert_allclose(found, reference(folders[0], task, "test", dtype=dtype), atol=1e-5, rtol=1e-5)
    write(uniform(runs), tmp_path / "soup")
    # The written soup is rounded to the checkpoints' dtype, and so is what was scored.
    found = task.predict(uniform(runs), "test").logits
    np.testing.assert_allclose(found, reference(tmp_path / "soup", task, "test", dtype=dtype), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("scoring", SCORINGS)
def test_gradients_are_differences(scoring, models, tmp_path) -> None:
    task = load_task(tiny_lm_task(tmp_path, scoring), models / "llama-1")
    with task.gradient(members(models), GradientOptions(batch_size=8)) as gradient:
        at, step = np.array([[0.6, 0.4]]), 1e-3
        found = gradient(at, 1.0, 0)
        for k in (0, 1):
            move = np.eye(2)[[k]] * step
            slope = (gradient(at + move, 1.0, 0).loss - gradient(at - move, 1.0, 0).loss) / (2 * step)
            assert found.gradient.ravel()[k] == pytest.approx(slope, rel=0.02, abs=2e-3)


def test_the_loss_of_learning_is_the_metric(models, tmp_path) -> None:
    task = load_task(tiny_lm_task(tmp_path, "likelihood"), models / "llama-1")
    soup = uniform(members(models))
    whole = GradientOptions(batch_size=64, stopping_fraction=0.99)
    with task.gradient(members(models), whole) as gradient:
        stopping = gradient.stopping_loss(np.array([[0.5, 0.5]]), 1.0)
        training = gradient(np.array([[0.5, 0.5]]), 1.0, 0).loss
    expected = task.evaluate(soup)
    assert (15 * stopping + training) / 16 == pytest.approx(expected.value, rel=1e-5)  # one row is trained on
    assert (expected.metric, expected.higher_is_better) == ("text_nll", False)


def test_the_mean_is_the_sum_over_the_tokens_of_a_choice(models, tmp_path) -> None:
    path = tiny_lm_task(tmp_path)
    sums = load_task(path, models / "llama-1")
    means = load_task({**json.loads(path.read_text()), "choice_score": "mean"}, models / "llama-1", folder=tmp_path)
    soup = single(members(models)[0])
    counts = np.ones((16, 4))
    for at, row in enumerate(rows_of(sums, "test")):
        counts[at, : len(row["options"])] = [len(choice.split()) for choice in row["options"]]
    expected = sums.predict(soup, "test").logits / counts
    np.testing.assert_allclose(means.predict(soup, "test").logits, expected, rtol=1e-5)
    assert sums.identity("test") != means.identity("test")


def test_rows_of_fewer_choices_never_answer_the_others(models, tmp_path) -> None:
    task = load_task(tiny_lm_task(tmp_path), models / "llama-1")
    runs = members(models)
    found = task.predict(uniform(runs), "held_out")
    n_choices = np.array([len(row["options"]) for row in rows_of(task, "held_out")])
    assert set(n_choices.tolist()) == {2, 3, 4}
    absent = np.arange(4) >= n_choices[:, None]
    assert (found.logits[absent] == ABSENT).all()
    assert (found.logits[~absent] > -1000).all()
    own = [row[:n] - row[:n].max() for row, n in zip(found.logits.astype(float), n_choices, strict=True)]
    expected = np.mean([np.log(np.exp(row).sum()) - row[at] for row, at in zip(own, found.labels, strict=True)])
    assert METRICS["nll"](found.logits, found.labels).value == pytest.approx(expected, rel=1e-6)


def test_what_is_too_long_loses_its_start(models, tmp_path) -> None:
    row = {"question": "red green blue fast slow small", "options": ["large server", "game"], "right": 1}
    (tmp_path / "long.jsonl").write_text(json.dumps(row) + "\n")
    tokenizer, first = tiny_lm_tokenizer(), members(models)[0]
    evaluation = {"batch_size": 2, "max_length": 4, "precision": "fp32", "device": "cpu"}
    data = {"context": "question", "choices": "options", "answer": "right", "held_out": {"file": "long.jsonl"}}
    content = {"family": "lm", "scoring": "multiple-choice", "data": data, "evaluation": evaluation}
    found = load_task(content, first, folder=tmp_path).predict(single(first), "held_out").logits
    for number, (text, n) in enumerate([("slow small large server", 2), ("fast slow small game", 1)]):
        tokens = tokenizer(text)["input_ids"][1:]
        assert found[0, number] == pytest.approx(log_likelihoods(Path(first.source), tokens)[-n:].sum(), abs=1e-5)
    short = {**content, "evaluation": {**evaluation, "max_length": 2}}
    with pytest.raises(DataError, match="unfit for 2 tokens") as caught:
        load_task(short, first, folder=tmp_path)
    assert caught.value.problems == ("held_out: long.jsonl:1, choice 0 has 2 tokens of its own",)


def test_csv_with_one_column_per_choice(models, tmp_path) -> None:
    rows = ["q,a,b,c,right", "red green,blue,fast,slow,2", "small x,large,game,,0"]
    (tmp_path / "rows.csv").write_text("\n".join(rows) + "\n")
    (tmp_path / "rows.jsonl").write_text(
        '{"q": "red green", "o": ["blue", "fast", "slow"], "right": 2}\n'
        '{"q": "small x", "o": ["large", "game"], "right": 0}\n'
    )
    made = []
    for file, choices in (("rows.csv", ["a", "b", "c"]), ("rows.jsonl", "o")):
        data = {"file": file, "context": "q", "choices": choices, "answer": "right", "held_out": {}}
        evaluation = {"precision": "fp32", "device": "cpu"}
        content = {"family": "lm", "scoring": "multiple-choice", "data": data, "evaluation": evaluation}
        task = load_task(content, models / "llama-1", folder=tmp_path)
        made.append((task.predict(single(members(models)[0]), "held_out"), task.identity("held_out")))
    assert np.array_equal(made[0][0].logits, made[1][0].logits)
    assert made[0][0].labels.tolist() == made[1][0].labels.tolist() == [2, 0]
    assert made[0][1] == made[1][1]  # the same rows, wherever they came from


def test_the_identity_knows_what_shapes_the_logits(models, tmp_path) -> None:
    path = tiny_lm_task(tmp_path)
    content = json.loads(path.read_text())
    before = load_task(path, models / "llama-1").identity("test")
    data, evaluation = content["data"], content["evaluation"]
    changed = [
        {"data": {**data, "separator": ""}},
        {"data": {**data, "seed": 1}},
        {"evaluation": {**evaluation, "max_length": 32}},
        {"evaluation": {**evaluation, "batch_size": 4}},
    ]
    found = {load_task({**content, **one}, models / "llama-1", folder=tmp_path).identity("test") for one in changed}
    assert len(found | {before}) == 5
    assert load_task(path, models / "llama-2").identity("test") == before  # other weights alone
    assert load_task(path, models / "gpt2-1").identity("test") != before


def test_greedy_and_a_race_decide_as_without(models, tmp_path) -> None:
    path = tiny_lm_task(tmp_path)
    runs = members(models)
    recipes = ("uniform", "greedy", "ensemble", "learned")
    compared = compare(runs, task=path, learned=LEARNED, out=tmp_path / "out", recipes=recipes)
    rows = {row.method: row for row in compared.rows}
    plain = greedy(runs, load_task(path, runs[0]).evaluate)
    task = load_task(path, runs[0])
    assert rows["greedy"].scores["held_out"].value == task.evaluate(plain).value
    assert rows["greedy"].n_ingredients == len(plain.ingredients)
    mean = np.mean([task.predict(single(one), "test").logits.astype(float) for one in runs], axis=0)
    assert rows["ensemble"].scores["test"].value == METRICS["accuracy"](mean, task.labels("test")).value
    assert "learned" in rows


# --------------------------------------------------------------------------------------------------- likelihoods


def test_likelihoods_are_compared_without_ensembles(models, tmp_path) -> None:
    runs = members(models)
    path = tiny_lm_task(tmp_path, "likelihood")
    recipes = ("uniform", "greedy", "ensemble", "greedy_ensemble", "learned")
    compared = compare(runs, task=path, learned=LEARNED, out=tmp_path / "out", recipes=recipes)
    rows = {row.method: row for row in compared.rows}
    assert not {"ensemble", "greedy_ensemble"} & set(rows)
    assert (compared.metric, compared.higher_is_better) == ("text_nll", False)
    task = load_task(path, runs[0])
    assert rows["uniform"].scores["test"].value == task.score(task.predict(uniform(runs), "test")).value
    learned = json.loads((tmp_path / "out" / "results.json").read_text())
    assert all(cell["value"] > 0 for row in learned["rows"] for cell in row["scores"].values())
    scaled = replace(uniform(runs), logit_scale=2.0)
    with pytest.raises(EvaluationError, match="likelihoods of texts have none"):
        task.predict(scaled, "test")


def test_an_ensemble_of_likelihoods_is_refused(models, tmp_path) -> None:
    from stockpot.experiment.bench import TaskBench
    from stockpot.journal import Journal

    runs = members(models)
    with Journal(tmp_path / "journal") as journal:
        bench = TaskBench(load_task(tiny_lm_task(tmp_path, "likelihood"), runs[0]), journal)
        assert bench.evaluate_ensemble is None
        with pytest.raises(ConfigError, match="no ensemble"):
            bench.predictions(ensemble(runs), "test")


def test_the_space_between_models_is_measured_in_their_loss(models, tmp_path) -> None:
    path, runs = tiny_lm_task(tmp_path, "likelihood", metric="token_nll"), members(models)
    start = Ingredient("start", str(tiny_lm(tmp_path / "start", seed=3)))
    options = AnalysisOptions(line_points=3, orders=1, grid=3)
    found = analyse(runs, tmp_path / "out", task=path, initialisation=start.source, options=options)
    at_start = load_task(path, start).predict(single(start), "test")
    expected = METRICS["text_nll"](at_start.logits, at_start.labels).value
    assert found.line.measured["test"][0].loss == pytest.approx(expected)
    assert not found.pairs
    assert {curve.method for curve in found.count} == {"best", "uniform", "greedy"}
    assert not diagnose(runs, task=path).is_refused


def test_perplexity_weighs_tokens(models, tmp_path) -> None:
    path = tiny_lm_task(tmp_path, "likelihood", metric="token_nll")
    first = members(models)[0]
    task = load_task(path, first)
    tokenizer = tiny_lm_tokenizer()
    each = [
        log_likelihoods(Path(first.source), tokenizer(row["text"])["input_ids"]) for row in rows_of(task, "held_out")
    ]
    assert task.evaluate(single(first)).value == pytest.approx(-np.concatenate(each).mean(), rel=1e-5)


# ----------------------------------------------------------------------------------------------------- mistakes


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ({"right": 2}, "column 'right' holds 2; allowed: 0 to 1"),
        ({"right": "blue"}, "column 'right' holds 'blue'; allowed"),
        ({"right": True}, "column 'right' holds True"),
        ({"right": None}, "column 'right' holds None"),
        ({"o": "blue"}, "column 'o' holds 'blue', which is no list"),
        ({"o": ["blue"], "right": 0}, "1 choice; at least 2"),
        ({"o": ["blue", " "]}, "choice 1 is empty"),
        ({"right": "C"}, "holds 'C'; allowed: 0 to 1, or A to B"),
        ({"o": {"text": ["blue", "red"], "label": ["A", "B"]}}, "holds 1; allowed: one of A, B"),
        ({"o": {"text": ["blue", "red"]}}, "which is no list"),
        ({"o": ["blue", 1.5]}, "choice 1 holds 1.5, which is no text"),
        ({"q": ""}, "column 'q' is empty"),
        ({"q": "\ud800"}, "half of a surrogate pair"),
    ],
)
def test_a_row_that_is_wrong_is_named(row, problem, models, tmp_path) -> None:
    good = {"q": "red", "o": ["blue", "fast"], "right": 1}
    (tmp_path / "a.jsonl").write_text(f"{json.dumps(good)}\n{json.dumps(good | row)}\n")
    data = {"file": "a.jsonl", "context": "q", "choices": "o", "answer": "right", "held_out": {}}
    with pytest.raises(DataError) as caught:
        load_task({"family": "lm", "scoring": "multiple-choice", "data": data}, models / "llama-1", folder=tmp_path)
    assert caught.value.problems[0].startswith("a.jsonl, line 2: ")
    assert problem in caught.value.problems[0]


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_answers_as_numbers_letters_and_names_mean_the_same(suffix: str, tmp_path) -> None:
    words, rights = ["blue", "fast", "slow"], [2, 0, 1]
    written = {
        "number": [{"q": f"red {right}", "o": words, "right": right} for right in rights],
        "text": [{"q": f"red {right}", "o": words, "right": str(right)} for right in rights],
        "letter": [{"q": f"red {right}", "o": words, "right": "ABC"[right]} for right in rights],
        "arc": [{"q": f"red {r}", "o": {"text": words, "label": ["1", "2", "3"]}, "right": str(r + 1)} for r in rights],
    }
    found = []
    for name, rows in written.items():
        datasets.Dataset.from_list(rows).to_parquet(tmp_path / f"{name}.parquet")
        (tmp_path / f"{name}.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
        data = {"context": "q", "choices": "o", "answer": "right", "held_out": {"file": f"{name}.{suffix}"}}
        splits = load_lm_splits(c.LmDataConfig.model_validate(data), folder=tmp_path)
        found.append((splits["held_out"].texts, splits["held_out"].labels))
    assert found == [(tuple((f"red {right}", *words) for right in rights), tuple(rights))] * 4


def test_texts_of_one_token_and_shared_texts(models, tmp_path) -> None:
    tokenizer = tiny_lm_tokenizer()
    tokenizer.backend_tokenizer.post_processor = None  # nothing stands before a text
    folder = tiny_lm(tmp_path / "bare")
    tokenizer.save_pretrained(folder)
    (tmp_path / "a.jsonl").write_text('{"text": "red"}\n{"text": "red green"}\n')
    content = {"family": "lm", "scoring": "likelihood", "data": {"file": "a.jsonl", "text": "text", "held_out": {}}}
    with pytest.raises(DataError, match="too short") as caught:
        load_task(content, folder, folder=tmp_path)
    assert caught.value.problems == ("held_out: a.jsonl:1 has 1 token",)
    content["data"] = {"text": "text", "held_out": {"file": "a.jsonl"}, "test": {"file": "b.jsonl"}}
    (tmp_path / "b.jsonl").write_text('{"text": "red green "}\n')
    with pytest.raises(DataError, match="splits share rows"):
        load_task(content, models / "llama-1", folder=tmp_path)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"metric": "accuracy"}, "allowed for likelihood: text_nll, token_nll"),
        ({"metric": "mse"}, "allowed for likelihood: text_nll, token_nll"),
        ({"scoring": "multiple-choice"}, "data.context: is missing; multiple-choice needs it"),
        ({"scoring": "multiple-choice", "metric": "text_nll"}, "allowed for multiple-choice: accuracy, nll"),
        ({"scoring": "multiple-choice"}, "data.text: given, but multiple-choice has no such column"),
        ({"labels": ["a", "b"]}, "a language model's answers have no names"),
        ({"evaluation": {"recalibrate": 3}}, "no running statistics"),
        ({"scoring": "perplexity"}, "allowed: 'likelihood', 'multiple-choice' or 'harness'"),
    ],
)
def test_keys_that_do_not_fit_the_scoring(changes, problem) -> None:
    content = {"family": "lm", "scoring": "likelihood", "data": {"file": "a", "text": "t", "held_out": {}}}
    assert c.task_config(content).metric == "text_nll"
    with pytest.raises(ConfigError) as caught:
        c.task_config({**content, **changes})
    assert problem in str(caught.value)


def test_likelihood_metrics_are_for_language_models_alone() -> None:
    data = {"file": "a", "text": "t", "label": "l", "held_out": {}}
    with pytest.raises(ConfigError, match="a metric of language models"):
        c.task_config({"family": "text-classification", "data": data, "metric": "text_nll"})


def test_a_model_that_is_no_language_model_or_another_one(models, tmp_path) -> None:
    path = tiny_lm_task(tmp_path)
    with pytest.raises(IncompatibleError, match="not those of the model"):
        load_task(path, models / "llama-1").predict(single(members(models, "gpt2")[0]), "test")
    other = tiny_lm(tmp_path / "other")
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps({**config, "model_type": "vit"}))
    with pytest.raises(ConfigError, match="no causal language model"):
        load_task(path, other).evaluate(single(members(models)[0]))


def test_an_experiment_says_what_it_fine_tunes(tmp_path) -> None:
    content = {"name": "x", "initialisation": "y", "sweep": {"runs": 2}, "task": str(tiny_lm_task(tmp_path))}
    with pytest.raises(ConfigError, match="fine-tunes text-classification, "):
        c.experiment_config(content)
