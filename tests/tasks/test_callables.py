"""A user's own function, named on the command line."""

from __future__ import annotations

import sys

import pytest

from stockpot.errors import ConfigError, DataError
from stockpot.tasks import load_callable


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Writes a module into the working directory, and forgets it afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    before = set(sys.modules)

    def write(name: str, text: str) -> None:
        (tmp_path / f"{name}.py").write_text(text)

    yield write
    for name in set(sys.modules) - before:
        if name.startswith("my_own_"):
            del sys.modules[name]


def test_a_function_and_an_object_that_is_called(module) -> None:
    module(
        "my_own_a", "def score(soup): return 1.0\nclass Judge:\n  def __call__(self, soup): return 2.0\njudge = Judge()"
    )
    assert load_callable("my_own_a:score")(None) == 1.0
    assert load_callable("my_own_a:judge")(None) == 2.0


def test_a_near_name_is_suggested_and_what_there_is_is_listed(module) -> None:
    module("my_own_b", "limit = 3\ndef accuracy(soup): return 1.0\n")
    with pytest.raises(ConfigError, match="did you mean my_own_b:accuracy") as caught:
        load_callable("my_own_b:acuracy")
    assert "it has accuracy" in str(caught.value)
    with pytest.raises(ConfigError, match="no callable 'limit'"):
        load_callable("my_own_b:limit")


@pytest.mark.parametrize("text", ["def f(:", "1 / 0", "import no_such_package_at_all"])
def test_a_module_that_does_not_import(module, text) -> None:
    module("my_own_c", text)
    with pytest.raises(ConfigError, match="does not import") as caught:
        load_callable("my_own_c:f")
    assert caught.value.__cause__ is not None


def test_a_stockpot_error_of_the_module_stays_itself(module) -> None:
    module("my_own_d", "from stockpot.errors import DataError\nraise DataError('no rows')")
    with pytest.raises(DataError, match="no rows"):
        load_callable("my_own_d:f")


@pytest.mark.parametrize("reference", ["my_own_a", ":f", "my_own_a:", "", "."])
def test_not_of_the_form(reference) -> None:
    with pytest.raises(ConfigError, match="not module:function"):
        load_callable(reference)


def test_a_file_name_is_explained() -> None:
    with pytest.raises(ConfigError, match=r"sub\.mine:f"):
        load_callable("./sub/mine.py:f")
