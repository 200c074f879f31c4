"""The shared start: its head is what scikit-learn fits to features from a plain loop."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from stockpot.errors import ConfigError, DataError
from stockpot.sweeps.head import prepare_initialisation
from stockpot.tasks import load_task
from tiny_models import LABELS, tiny_classifier, tiny_data, tiny_task

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
linear_model = pytest.importorskip("sklearn.linear_model")
safetensors_numpy = pytest.importorskip("safetensors.numpy")


def tensors(folder):
    return safetensors_numpy.load_file(folder / "model.safetensors")


def task_on(folder: Path, model: Path, **changes):
    return load_task(tiny_task(folder, **changes), model)


def prepared(folder: Path, task, model: Path, *, head: str, seed: int = 0, name: str = "start") -> Path:
    prepare_initialisation(task, model, folder / name, head=head, seed=seed)
    return folder / name


def plain_loop(folder: Path, texts, features_of):
    """One text at a time: features and logits."""
    model = transformers.AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    features, logits = [], []
    with torch.inference_mode():
        for (text,) in texts:
            inputs = tokenizer(text, return_tensors="pt", truncation=True, max_length=16)
            features.append(features_of(model, inputs)[0].numpy())
            logits.append(model(**inputs).logits[0].numpy())
    return np.stack(features), np.stack(logits)


def bert_features(model, inputs):
    return model.bert(**inputs).pooler_output


def decoder_features(model, inputs):
    return model.transformer(**inputs).last_hidden_state[:, -1]


def small_decoder(folder: Path) -> Path:
    """A GPT-2 whose head runs over every token, with the tokenizer of the tiny BERT."""
    torch.manual_seed(0)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tiny_classifier(folder / "bert"))
    config = transformers.GPT2Config(
        vocab_size=64, n_embd=16, n_layer=1, n_head=2, n_positions=32, pad_token_id=0, num_labels=3
    )
    model = transformers.GPT2ForSequenceClassification(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(4)
    model.save_pretrained(folder / "gpt")
    tokenizer.save_pretrained(folder / "gpt")
    return folder / "gpt"


@pytest.mark.parametrize("architecture", ["bert", "gpt2"])
def test_linear_probe_is_the_regression_on_features_from_a_plain_loop(tmp_path, architecture):
    base = tiny_classifier(tmp_path / "base") if architecture == "bert" else small_decoder(tmp_path)
    features_of = bert_features if architecture == "bert" else decoder_features
    task = task_on(tmp_path, base)
    start = prepared(tmp_path, task, base, head="linear-probe")
    features, _ = plain_loop(base, task.texts("train"), features_of)
    # A decoder's head has no bias, so the regression has no intercept.
    probe = linear_model.LogisticRegression(max_iter=1000, fit_intercept=architecture == "bert")
    probe.fit(features, task.labels("train"))
    held_out, logits = plain_loop(start, task.texts("held_out"), features_of)
    np.testing.assert_allclose(logits, probe.decision_function(held_out), atol=0.02)
    assert (logits.argmax(axis=1) == probe.predict(held_out)).all()


def test_linear_probe_of_two_classes_gives_the_regressions_probabilities(tmp_path):
    labels = LABELS[:2]
    base = tiny_classifier(tmp_path / "base", labels=labels)
    path = tiny_task(tmp_path)
    tiny_data(tmp_path / "rows.tsv", labels=labels)
    task = load_task(path, base)
    start = prepared(tmp_path, task, base, head="linear-probe")
    features, _ = plain_loop(base, task.texts("train"), bert_features)
    probe = linear_model.LogisticRegression(max_iter=1000).fit(features, task.labels("train"))
    held_out, logits = plain_loop(start, task.texts("held_out"), bert_features)
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(probabilities, probe.predict_proba(held_out), atol=0.005)
    assert (logits.argmax(axis=1) == probe.predict(held_out)).all()


def test_only_the_head_changes(tmp_path):
    base = tiny_classifier(tmp_path / "base")
    task = task_on(tmp_path, base)
    before = tensors(base)
    for head in ("linear-probe", "own"):
        after = tensors(prepared(tmp_path, task, base, head=head, name=head))
        changed = {name for name in before if before[name].tobytes() != after[name].tobytes()}
        assert changed == ({"classifier.weight", "classifier.bias"} if head == "linear-probe" else set())


def test_random_head_depends_on_the_seed_alone(tmp_path):
    base = tiny_classifier(tmp_path / "base", labels=("LABEL_0", "LABEL_1"))  # another head, which is dropped
    task = task_on(tmp_path, base)
    made = [
        tensors(prepared(tmp_path, task, base, head="random", seed=seed, name=f"start-{number}"))
        for number, seed in enumerate((0, 0, 1))
    ]
    heads = [start["classifier.weight"].tobytes() for start in made]
    assert made[0]["classifier.weight"].shape == (3, 16)
    assert heads[0] == heads[1] != heads[2]


def test_labels_are_written_into_the_start(tmp_path):
    base = tiny_classifier(tmp_path / "base", labels=("LABEL_0", "LABEL_1"))
    start = prepared(tmp_path, task_on(tmp_path, base), base, head="linear-probe")
    assert transformers.AutoConfig.from_pretrained(start).id2label == dict(enumerate(LABELS))


def test_own_head_for_another_number_of_labels_is_refused(tmp_path):
    base = tiny_classifier(tmp_path / "base", labels=("LABEL_0", "LABEL_1"))
    with pytest.raises(ConfigError, match="a head for 2 labels, the data have 3"):
        prepared(tmp_path, task_on(tmp_path, base), base, head="own")
    assert not (tmp_path / "start").exists()


def test_own_head_in_another_order_of_labels_is_refused(tmp_path):
    base = tiny_classifier(tmp_path / "base")
    with pytest.raises(DataError, match="the model's outputs are, in order, games, mail, text"):
        task_on(tmp_path, base, labels=list(reversed(LABELS)))
    task = load_task(tiny_task(tmp_path, labels=list(reversed(LABELS))), base, own_labels=False)
    with pytest.raises(ConfigError, match="games, mail, text in this order, the task text, mail, games"):
        prepared(tmp_path, task, base, head="own")


def test_a_label_without_a_training_example_cannot_be_probed(tmp_path):
    base = tiny_classifier(tmp_path / "base", labels=(*LABELS, "x11"))
    with pytest.raises((ConfigError, DataError), match="no example of x11"):
        prepared(tmp_path, task_on(tmp_path, base), base, head="linear-probe")


def test_weights_of_another_network_are_no_start(tmp_path):
    base = tiny_classifier(tmp_path / "base")
    task = task_on(tmp_path, base)
    own = tensors(base)
    for name, weights, said in (
        ("other", {f"gpt.{key}": value for key, value in own.items()}, r"lack \d+ of \d+ tensors"),
        (
            "shape",
            {key: value[..., :8] if "key.weight" in key else value for key, value in own.items()},
            "another shape",
        ),
    ):
        folder = tmp_path / name
        shutil.copytree(base, folder)
        kept = {key: np.ascontiguousarray(value) for key, value in weights.items()}
        safetensors_numpy.save_file(kept, folder / "model.safetensors", {"format": "pt"})
        with pytest.raises(ConfigError, match=said):
            prepared(tmp_path, task, folder, head="linear-probe", name=f"start-{name}")
