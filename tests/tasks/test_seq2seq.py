"""Text-to-text classifiers: the family's own network, one label at a time, is the reference."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from stockpot.assembly import write
from stockpot.config import LearnedConfig, fill_template
from stockpot.ensembles import combine_logits
from stockpot.errors import ConfigError, EvaluationError
from stockpot.metrics import METRICS
from stockpot.recipes import ensemble, greedy, single, uniform
from stockpot.tasks import load_task
from stockpot.tasks.gradients import GradientOptions
from stockpot.tasks.label_words import label_order, label_tokens, words_of_labels
from stockpot.types import Coefficients, Ingredient, Soup
from tiny_models import LABELS
from tiny_seq2seq import ARCHITECTURES, LABEL_WORDS, tiny_seq2seq_model, tiny_seq2seq_task, tiny_seq2seq_tokenizer

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    for architecture in ARCHITECTURES:
        for seed in (1, 2):
            tiny_seq2seq_model(folder / f"{architecture}-{seed}", architecture, seed=seed)
    return folder


def members(models: Path, architecture: str) -> tuple[Ingredient, ...]:
    return tuple(Ingredient(f"{architecture}-{seed}", str(models / f"{architecture}-{seed}")) for seed in (1, 2))


def reference_logits(folder: Path, texts: list[str], *, normalise: str = "sum", words=LABEL_WORDS) -> np.ndarray:
    """log p(words | prompt) by the network's own forward, one text and one label at a time."""
    model = transformers.AutoModelForSeq2SeqLM.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    rows = np.zeros((len(texts), len(LABELS)))
    for row, text in enumerate(texts):
        prompt = tokenizer(f"task: {text}", return_tensors="pt", truncation=True, max_length=16)["input_ids"]
        for column, label in enumerate(LABELS):
            target = tokenizer(text_target=words[label], return_tensors="pt")["input_ids"]
            with torch.no_grad():
                likely = model(input_ids=prompt, labels=target).logits.log_softmax(dim=-1)
            first = int(target[0, 0] == tokenizer.bos_token_id)  # BART's: part of every target, of no answer
            found = likely[0].gather(1, target[0][:, None])[first:, 0]
            rows[row, column] = found.sum() if normalise == "sum" else found.mean()
    return rows


def texts(task, split: str) -> list[str]:
    return [text for (text,) in task.texts(split)]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("normalise", ["sum", "mean"])
def test_logits_are_the_log_likelihoods_of_label_words(architecture, normalise, models, tmp_path) -> None:
    first, second = members(models, architecture)
    task = load_task(tiny_seq2seq_task(tmp_path, normalise=normalise), first)
    task.predict(single(second), "test")  # swapped in place, and back
    found = task.predict(single(first), "test")
    expected = reference_logits(Path(first.source), texts(task, "test"), normalise=normalise)
    np.testing.assert_allclose(found.logits, expected, rtol=1e-5, atol=1e-5)
    assert np.ptp(found.logits - found.logits.mean(axis=1, keepdims=True), axis=0).max() > 0.1  # texts are told apart
    assert task.label_names == LABELS


def test_without_words_and_template_the_labels_names_answer_to_the_columns(models, tmp_path) -> None:
    first, _ = members(models, "t5")
    path = tiny_seq2seq_task(tmp_path, template=None, label_words=None)
    task = load_task(path, first)
    assert task.prompts("test") == texts(task, "test")
    assert task.words == LABELS
    spelt = load_task(tiny_seq2seq_task(tmp_path, template="{text}", label_words={n: n for n in LABELS}), first)
    one, other = task.predict(single(first), "test"), spelt.predict(single(first), "test")
    assert np.array_equal(one.logits, other.logits)


def test_two_columns_fill_the_template_by_name_and_a_shift_by_position(models, tmp_path) -> None:
    rows = [f"{LABELS[n % 3]}\tred {chr(97 + n)}\tblue {chr(97 + n)}\tslow {chr(97 + n)}" for n in range(12)]
    (tmp_path / "pairs.tsv").write_text("\n".join(["label\ts1\ts2\tother", *rows]))
    data = {
        "file": "pairs.tsv", "text": ["s1", "s2"], "label": "label", "held_out": {"rows": 4}, "test": {"rows": 4},
        "shifts": {"other": {"of": "test", "text": ["other", "s2"]}},
    }  # fmt: skip
    content = {
        "family": "seq2seq-classification", "data": data, "template": "sentence2: {s2} {{sentence1}}: {s1}",
        "label_words": LABEL_WORDS, "evaluation": {"device": "cpu", "precision": "fp32"},
    }  # fmt: skip
    task = load_task(content, models / "t5-1", folder=tmp_path)
    for (s1, s2), prompt in zip(task.texts("test"), task.prompts("test"), strict=True):
        assert prompt == f"sentence2: {s2} {{sentence1}}: {s1}"
    assert task.prompts("shift:other")[0].split()[-2] == "slow"
    assert np.isfinite(task.predict(single(members(models, "t5")[0]), "shift:other").logits).all()
    del content["template"]
    plain = load_task(content, models / "t5-1", folder=tmp_path)
    assert plain.prompts("test") == [f"{s1} {s2}" for s1, s2 in plain.texts("test")]


def test_braces_in_a_text_are_no_placeholders() -> None:
    assert fill_template("{a} {{b}}: {b}", {"a": "{b}", "b": "}{a"}) == "{b} {b}: }{a"


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_written_soup_loads_with_the_familys_loader(architecture, models, tmp_path) -> None:
    soup = uniform(members(models, architecture))
    task = load_task(tiny_seq2seq_task(tmp_path), models / f"{architecture}-1")
    found = task.predict(soup, "test").logits
    write(soup, tmp_path / "soup")
    np.testing.assert_allclose(found, reference_logits(tmp_path / "soup", texts(task, "test")), rtol=1e-5, atol=1e-5)
    if architecture.startswith("t5"):
        model = transformers.T5ForConditionalGeneration.from_pretrained(tmp_path / "soup")
        assert (model.lm_head.weight is model.shared.weight) == (architecture == "t5")
    (again,) = members(models, architecture)[:1]
    written = task.predict(single(Ingredient("soup", str(tmp_path / "soup"))), "test").logits
    np.testing.assert_allclose(written, found, rtol=1e-5, atol=1e-5)
    assert np.abs(task.predict(single(again), "test").logits - found).max() > 1e-3


@pytest.mark.parametrize("architecture", ["t5", "bart"])
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_checkpoints(architecture, dtype, tmp_path) -> None:
    folders = [tiny_seq2seq_model(tmp_path / f"m{seed}", architecture, seed=seed, dtype=dtype) for seed in (1, 2)]
    soup = uniform(tuple(Ingredient(folder.name, str(folder)) for folder in folders))
    task = load_task(tiny_seq2seq_task(tmp_path), folders[0])
    found = task.predict(soup, "test").logits
    write(soup, tmp_path / "soup")
    np.testing.assert_allclose(found, reference_logits(tmp_path / "soup", texts(task, "test")), rtol=1e-5, atol=1e-5)


def test_autocast_to_bf16_is_near(models, tmp_path) -> None:
    first, _ = members(models, "t5")
    halves = {"batch_size": 8, "max_length": 16, "precision": "bf16", "device": "cpu"}
    exact = load_task(tiny_seq2seq_task(tmp_path), first).predict(single(first), "test").logits
    near = load_task(tiny_seq2seq_task(tmp_path, evaluation=halves), first).predict(single(first), "test").logits
    assert near.dtype == np.float32
    assert 0 < np.abs(near - exact).max() < 0.5
    assert np.corrcoef(near.ravel(), exact.ravel())[0, 1] > 0.99


def test_labels_in_several_passes_are_the_same_labels(models, tmp_path, monkeypatch) -> None:
    first, _ = members(models, "t5")
    path = tiny_seq2seq_task(tmp_path)
    together = load_task(path, first).predict(single(first), "test").logits
    monkeypatch.setattr("stockpot.tasks.label_scorer._MOST_LOGITS", 1)
    apart = load_task(path, first).predict(single(first), "test").logits
    np.testing.assert_allclose(together, apart, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("granularity", ["model", "tensor"])
def test_gradients_are_autograds_through_the_sum(architecture, granularity, models, tmp_path) -> None:
    """theta = sum_i a_i theta_i built with torch.func from the files alone, one leaf a_i for every coefficient."""
    task = load_task(tiny_seq2seq_task(tmp_path), models / f"{architecture}-1")
    pair = members(models, architecture)
    options = GradientOptions(granularity=granularity, batch_size=100)
    with task.gradient(pair, options) as gradient:
        n_groups = 1 if gradient.groups is None else len(gradient.groups)
        at = np.random.default_rng(0).dirichlet([1, 1], size=n_groups)
        found = gradient(at, 1.3, 0)
        groups = gradient.groups
        rows = gradient._rows_of(0)
    loss, expected, by_scale = _autograd(task, pair, groups, at, 1.3, list(rows))
    assert found.loss == pytest.approx(loss, rel=1e-4)
    np.testing.assert_allclose(found.gradient, expected, rtol=1e-3, atol=1e-4)
    assert np.abs(expected).max() > 1e-2
    assert found.logit_scale_gradient == pytest.approx(by_scale, rel=1e-3, abs=1e-4)


def _autograd(task, pair, groups, at, scale, rows):
    from safetensors.torch import load_file

    from stockpot.tasks.label_scorer import LabelScorer, new_network

    first, second = (load_file(Path(member.source) / "model.safetensors") for member in pair)
    group_of = {name: 0 if groups is None else next(g for g, names in enumerate(groups) if name in names)
                for name in first}  # fmt: skip
    alpha = torch.tensor(at, dtype=torch.float32, requires_grad=True)
    beta = torch.tensor(scale, requires_grad=True)
    mixed = {name: alpha[group_of[name], 0] * first[name] + alpha[group_of[name], 1] * second[name] for name in first}
    network = new_network(Path(pair[0].source))
    scorer = LabelScorer(network, task.label_tokens).eval()
    scorer.untie(first)
    named = {f"network.{name}": tensor for name, tensor in mixed.items()}
    batch = task._batch("held_out", rows, len(rows), 16)
    inputs = tuple(torch.from_numpy(batch.inputs[name]) for name in ("input_ids", "attention_mask"))
    logits = torch.func.functional_call(scorer, named, inputs, tie_weights=True) * beta
    labels = torch.from_numpy(task.labels("held_out")[rows])
    loss = torch.nn.functional.cross_entropy(logits, labels)
    by_alpha, by_beta = torch.autograd.grad(loss, [alpha, beta])
    return float(loss.detach()), by_alpha.numpy(), float(by_beta)


class Bar:
    """An incumbent that yields to everything, or to nothing."""

    def __init__(self, yields: bool) -> None:
        self.soup, self._yields = single(Ingredient("bar", "bar")), yields

    def yields_to(self, score) -> bool:
        return self._yields


def test_ensembles_races_and_searches_take_the_logits(models, tmp_path) -> None:
    pair = members(models, "t5")
    task = load_task(tiny_seq2seq_task(tmp_path), pair[0])
    apart = [task.predict(single(member), "held_out") for member in pair]
    together = combine_logits(ensemble(pair), [made.logits for made in apart])
    np.testing.assert_allclose(together, (apart[0].logits + apart[1].logits) / 2, rtol=1e-6)
    assert METRICS["nll"](together, apart[0].labels).value > 0
    kept = greedy(pair, task.evaluate)
    plain = task.predict(kept, "held_out").logits
    guesses = [made.logits for made in apart]
    whole = task.race(kept, "held_out", guesses, against=Bar(True))
    assert np.array_equal(whole.logits, plain)
    lost = task.race(kept, "held_out", guesses, against=Bar(False))
    assert 0 < len(lost.rows) < len(plain)
    assert np.array_equal(lost.logits, plain[lost.rows])


# ------------------------------------------------------------------------------------------------------ generation


def answering(folder: Path, target: str, words: dict[str, str], architecture: str = "t5", seed: int = 5) -> Path:
    """A tiny model that greedily answers with the words of `words[first token of the prompt]`: trained to."""
    tiny_seq2seq_model(target_folder := folder / target, architecture, seed=seed)
    model = transformers.AutoModelForSeq2SeqLM.from_pretrained(target_folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(target_folder)
    prompts = tokenizer([f"task: {key} a" for key in words], return_tensors="pt", padding=True)
    targets = tokenizer(text_target=list(words.values()), return_tensors="pt", padding=True)["input_ids"]
    targets[targets == tokenizer.pad_token_id] = -100
    optimiser = torch.optim.Adam(model.parameters(), lr=0.005)
    for _ in range(250):
        model.train(False)
        loss = model(prompts["input_ids"], attention_mask=prompts["attention_mask"], labels=targets).loss
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    model.save_pretrained(target_folder)
    return target_folder


@pytest.mark.parametrize("architecture", ["t5", "bart"])
def test_generation_is_greedy_decoding_and_another_answer_is_wrong(architecture, tmp_path) -> None:
    # The prompt "blue" is answered with a text that is no label's.
    said = {"red": "game", "green": "mail server", "blue": "fast font", "slow": "small fast editor"}
    folder = answering(tmp_path, "model", said, architecture)
    rows = ["games\tred a", "mail\tgreen a", "text\tblue a", "text\tslow a", "mail\tred a b"]
    (tmp_path / "rows.tsv").write_text("\n".join(["label\ttext", *rows]))
    data = {"file": "rows.tsv", "text": "text", "label": "label", "held_out": {}}
    path = tiny_seq2seq_task(tmp_path, data=data, scoring="generation")
    (tmp_path / "rows.tsv").write_text("\n".join(["label\ttext", *rows]))
    task = load_task(path, folder)
    made = task.predict(single(Ingredient("m", str(folder))), "held_out")
    model = transformers.AutoModelForSeq2SeqLM.from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    answers = {word: at for at, word in enumerate(LABEL_WORDS[label] for label in task.label_names)}
    for prompt, logits in zip(task.prompts("held_out"), made.logits, strict=True):
        forced = {"forced_bos_token_id": tokenizer.bos_token_id} if architecture == "bart" else {}
        ids = model.generate(
            **{k: v for k, v in tokenizer(prompt, return_tensors="pt").items() if k != "token_type_ids"},
            max_new_tokens=8, num_beams=1, do_sample=False, **forced,
        )  # fmt: skip
        at = answers.get(tokenizer.decode(ids[0], skip_special_tokens=True).strip(), 3)
        assert logits.tolist() == np.eye(4)[at].tolist()
    assert made.logits.argmax(axis=1)[:4].tolist() == [0, 1, 3, 2]
    assert task.score(made).value <= 0.8
    assert made.labels.max() < 3


def test_what_cannot_be_learned_is_said_before_anything_is_evaluated(models, tmp_path, monkeypatch) -> None:
    from stockpot.experiment import compare, cook
    from stockpot.tasks.seq2seq import Seq2SeqClassification

    monkeypatch.setattr(Seq2SeqClassification, "predict", lambda *_, **__: pytest.fail("evaluated"))
    pair, path = members(models, "t5"), tiny_seq2seq_task(tmp_path)
    with pytest.raises(ConfigError, match="leave out --fold"):
        cook(pair, tmp_path / "out", recipe="learned", task=path, learned=LearnedConfig(fold=True))
    path = tiny_seq2seq_task(tmp_path, scoring="generation")
    with pytest.raises(ConfigError, match="need a gradient"):
        compare(pair, task=path, recipes=["greedy", "learned"])


def test_generation_refuses_to_learn(models, tmp_path) -> None:
    task = load_task(tiny_seq2seq_task(tmp_path, scoring="generation"), models / "t5-1")
    with pytest.raises(ConfigError, match="need a gradient"):
        task.gradient(members(models, "t5"))


def test_a_model_that_overflows_is_an_error_not_an_answer(tmp_path) -> None:
    folder = tiny_seq2seq_model(tmp_path / "m")
    model = transformers.AutoModelForSeq2SeqLM.from_pretrained(folder)
    with torch.no_grad():
        model.decoder.final_layer_norm.weight.fill_(3e38)
    model.save_pretrained(folder)
    for scoring in ("likelihood", "generation"):
        task = load_task(tiny_seq2seq_task(tmp_path, scoring=scoring), folder)
        with pytest.raises(EvaluationError, match="not finite"):
            task.predict(single(Ingredient("m", str(folder))), "test")


# -------------------------------------------------------------------------------------------------------- identity


def test_the_identity_knows_all_that_shapes_logits(models, tmp_path) -> None:
    def identity(**changes: object) -> str:
        return load_task(tiny_seq2seq_task(tmp_path, **changes), models / "t5-1").identity("test")

    variants = [
        {}, {"template": "task : {text} a"}, {"template": None}, {"label_words": {**LABEL_WORDS, "mail": "mail"}},
        {"label_words": None}, {"scoring": "generation"}, {"normalise": "mean"}, {"labels": list(reversed(LABELS))},
    ]  # fmt: skip
    found = [identity(**changes) for changes in variants]
    assert len(set(found)) == len(found)
    assert identity() == found[0]
    assert identity(label_words=dict(reversed(LABEL_WORDS.items()))) == found[0]  # a mapping's order means nothing


# ---------------------------------------------------------------------------------------------------------- errors


def test_a_logit_scale_has_no_place_in_the_weights(models, tmp_path) -> None:
    task = load_task(tiny_seq2seq_task(tmp_path), models / "t5-1")
    soup = uniform(members(models, "t5"))
    assert task.folded(soup) == soup
    with pytest.raises(ConfigError, match="leave out --fold"):
        task.folded(replace(soup, logit_scale=1.5))
    plain = task.predict(soup, "test").logits
    np.testing.assert_allclose(task.predict(replace(soup, logit_scale=1.5), "test").logits, plain * 1.5, rtol=1e-6)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"games": "game", "mail": "game", "text": "editor"}, "games and mail: 'game' and 'game' have the same tokens"),
        (
            {"games": "game", "mail": "zzz", "text": "editor"},
            "mail: the tokenizer does not know all of 'zzz', so no model can answer with it",
        ),
        ({"games": "game", "mail": "</s>", "text": "editor"}, "mail: '</s>' has no token"),
    ],
)
def test_label_words_that_cannot_be_told(words, message, models, tmp_path) -> None:
    task = load_task(tiny_seq2seq_task(tmp_path, label_words=words), models / "t5-1")
    with pytest.raises(ConfigError, match="label words") as caught:
        task.predict(single(members(models, "t5")[0]), "test")
    assert list(caught.value.problems) == [message]


def test_a_word_that_begins_like_another_needs_an_end() -> None:
    tokenizer = tiny_seq2seq_tokenizer()
    made = label_tokens(tokenizer, ("a", "b"), ("game", "game editor"))  # </s> ends the shorter one
    assert made.ids[0][-1] == made.ids[1][-1] == tokenizer.eos_token_id

    class Endless:
        all_special_ids, unk_token_id = (), None

        def __call__(self, text_target):
            return {"input_ids": [[1], [1, 2]]}

    with pytest.raises(ConfigError) as caught:
        label_tokens(Endless(), ("a", "b"), ("game", "game editor"))
    assert "begin with the same tokens" in caught.value.problems[0]
    assert len(caught.value.problems) == 1


def test_words_and_labels_must_be_the_same(models, tmp_path) -> None:
    path = tiny_seq2seq_task(tmp_path, labels=list(LABELS), label_words={"games": "game", "mali": "mail"})
    with pytest.raises(ConfigError, match="does not fit") as caught:
        load_task(path, models / "t5-1")
    assert len(caught.value.problems) == 3
    assert words_of_labels(("b", "a"), {"a": "x", "b": "y"}) == ("y", "x")


def test_numbered_data_and_named_words_need_an_order() -> None:
    assert label_order(("b", "a"), {"a": "x", "b": "y"}, [0, 1]) == ("b", "a")
    assert label_order(None, {"b": "x", "a": "y"}, ["a"]) == ("a", "b")
    assert label_order(None, None, [0, 1]) is None
    with pytest.raises(ConfigError, match="number their labels"):
        label_order(None, {"b": "x", "a": "y"}, [0, 1])


@pytest.mark.parametrize(
    ("changes", "messages"),
    [
        ({"template": "task: {txt}"}, ["{txt} is no text column (did you mean 'text'?)", "lacks {text}"]),
        ({"template": "task {text"}, ["a single { at position 5"]),
        ({"template": "task {text} {}"}, ["{} at position 12 names no column; write {COLUMN}"]),
        ({"label_words": {"games": " ", "mail": "mail"}}, ["label_words.games: got ' '"]),
        ({"label_words": {"games": True, "mail": "mail"}}, ["label_words.games: got True; allowed: text"]),
        ({"scoring": "beam"}, ["scoring: got 'beam'"]),
        ({"metric": "mse"}, ["a metric of numbers"]),
        ({"scoring": "generation", "metric": "f1", "normalise": "mean"}, ["normalise: got 'mean'", "f1_macro"]),
        ({"normalize": "mean"}, ["unknown key (did you mean 'normalise'?)"]),
    ],
)
def test_settings_that_cannot_be_meant(changes, messages, models, tmp_path) -> None:
    with pytest.raises(ConfigError) as caught:
        load_task(tiny_seq2seq_task(tmp_path, **changes), models / "t5-1")
    for message in messages:
        assert any(message in problem for problem in caught.value.problems), caught.value.problems


def test_a_split_of_other_width_does_not_fill_the_template(models, tmp_path) -> None:
    path = tiny_seq2seq_task(tmp_path)
    content = json.loads(path.read_text())
    content["data"]["shifts"]["both"] = {"of": "test", "text": ["text", "label"]}
    with pytest.raises(ConfigError) as caught:
        load_task(content, models / "t5-1", folder=tmp_path)
    assert "has 1 columns, but shifts.both reads 2" in caught.value.problems[0]


def test_a_folder_of_another_kind_of_model_is_refused(tmp_path) -> None:
    from tiny_models import tiny_classifier

    folder = tiny_classifier(tmp_path / "bert")
    words = {"games": "red", "mail": "green", "text": "blue"}
    task = load_task(tiny_seq2seq_task(tmp_path, label_words=words), folder)
    with pytest.raises(ConfigError, match="no text-to-text model"):
        task.predict(single(Ingredient("bert", str(folder))), "test")


def test_coefficients_other_than_equal_ones(models, tmp_path) -> None:
    """A blend by hand, tensor by tensor, from the files."""
    from safetensors.torch import load_file, save_file

    pair = members(models, "t5-untied")
    task = load_task(tiny_seq2seq_task(tmp_path), pair[0])
    found = task.predict(Soup(pair, Coefficients.of([0.3, 0.7]), "uniform"), "test").logits
    first, second = (load_file(Path(member.source) / "model.safetensors") for member in pair)
    target = tiny_seq2seq_model(tmp_path / "mixed", "t5-untied")
    mixed = {name: (0.3 * first[name].double() + 0.7 * second[name].double()).float() for name in first}
    save_file(mixed, target / "model.safetensors", metadata={"format": "pt"})
    np.testing.assert_allclose(found, reference_logits(target, texts(task, "test")), rtol=1e-5, atol=1e-5)
