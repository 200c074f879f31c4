"""One obvious state dict is taken and said; several need a key. Floats stand for tensors."""

from __future__ import annotations

import pytest

from stockpot.checkpoints.unwrapping import strip_common_prefixes, unwrap
from stockpot.errors import CheckpointError

WEIGHTS = {"w": 1.0, "b": 2.0}
OPTIMISER = {"state": {0: {"exp_avg": 1.0}}, "param_groups": [{"lr": 0.1}]}
SHARED = dict(WEIGHTS)


def is_float(value):
    return isinstance(value, float)


def unwrapped(loaded, key=None):
    return unwrap(loaded, is_float, source="a.pt", key=key)


@pytest.mark.parametrize(
    ("loaded", "note"),
    [
        (WEIGHTS, None),
        ({"state_dict": WEIGHTS}, "took the state dict 'state_dict'"),
        ({"model": WEIGHTS, "optimizer": OPTIMISER, "epoch": 3}, "took the state dict 'model'"),
        ({"anything": WEIGHTS, "optim_g": {"momentum": 1.0}}, "took the state dict 'anything'"),
        ({"a": {"b": {"c": WEIGHTS}}}, "took the state dict 'a.b.c'"),
        ({"model": WEIGHTS, "odd_name": OPTIMISER}, "took the state dict 'model'"),
        ({"model": WEIGHTS, "optimizer": {"state": {"w": {"exp_avg": 1.0}}}}, "took the state dict 'model'"),
        ({"model": WEIGHTS, "rng_state": 1.0}, "took the state dict 'model'"),
        ({"model": SHARED, "state_dict": SHARED}, "took the state dict 'model'"),
        ({"state_dict": WEIGHTS, "hyper_parameters": {"class_weights": 1.0}}, "took the state dict 'state_dict'"),
        ({**WEIGHTS, "epoch": 3, "args": {}}, "passed over entries that are no tensors: epoch, args"),
    ],
)
def test_one_obvious_state_dict_is_taken_and_said(loaded, note):
    found = unwrapped(loaded)
    assert found.tensors == WEIGHTS
    assert found.notes == ((note,) if note else ())


@pytest.mark.parametrize(
    ("loaded", "keys"),
    [
        ({"model": WEIGHTS, "ema": {"w": 3.0, "b": 4.0}}, ["model", "ema"]),
        ({"nets": {"g": WEIGHTS, "d": {"w": 3.0}}}, ["nets.g", "nets.d"]),
        ({"w": 1.0, "extra": {"b": 2.0}}, [".", "extra"]),
    ],
)
def test_several_state_dicts_need_a_key(loaded, keys):
    with pytest.raises(CheckpointError, match="holds 2 state dicts") as caught:
        unwrapped(loaded)
    assert caught.value.fix == " or ".join(f"--key {key}" for key in keys)
    for key in keys:
        assert unwrapped(loaded, key).tensors


@pytest.mark.parametrize("key", ["ema", "a.b", "dotted.name", "x.y.z", "."])
def test_a_key_selects(key):
    loaded = {"ema": WEIGHTS, "a": {"b": WEIGHTS}, "dotted.name": WEIGHTS, "x.y": {"z": WEIGHTS}, **WEIGHTS}
    loaded["model"] = {"w": 9.0}
    assert unwrapped(loaded, key).tensors == WEIGHTS


@pytest.mark.parametrize(("key", "what"), [("emma", "is not there"), ("epoch", "is a int"), ("ema.w", "is a float")])
def test_a_wrong_key_names_the_right_ones(key, what):
    with pytest.raises(CheckpointError, match=what) as caught:
        unwrapped({"ema": WEIGHTS, "model": WEIGHTS, "epoch": 3}, key)
    assert "--key ema" in caught.value.fix or "--key model" in caught.value.fix
    assert caught.value.problems[0] == "there is ema"


@pytest.mark.parametrize("loaded", [{}, {"epoch": 3}, {1: 1.0}, 1.0, [WEIGHTS], None, {"model": {}}])
def test_what_holds_no_state_dict_is_refused(loaded):
    with pytest.raises(CheckpointError, match=r"a\.pt: holds"):
        unwrapped(loaded)


def test_a_loop_ends():
    loop = {"model": WEIGHTS}
    loop["again"] = loop
    assert unwrapped(loop).tensors == WEIGHTS


@pytest.mark.parametrize(
    "prefix", ["module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module.", "module.module."]
)
def test_prefixes_that_all_names_have_are_removed(prefix):
    found = strip_common_prefixes({f"{prefix}{name}": value for name, value in WEIGHTS.items()})
    assert found.tensors == WEIGHTS
    assert len(found.notes) == prefix.count(".")


@pytest.mark.parametrize("names", [["module.w", "n_averaged"], ["module.", "module.w"], ["modulew"], []])
def test_other_names_stay(names):
    tensors = dict.fromkeys(names, 1.0)
    assert strip_common_prefixes(tensors) == (tensors, ())
