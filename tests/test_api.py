"""The public names are a list; importing them costs what they need and no more."""

from __future__ import annotations

import inspect
import subprocess
import sys

import pytest

import stockpot

PUBLIC = [
    "BlendError", "CheckpointError", "Coefficients", "ConfigError", "DataError", "EvaluationError",
    "IncompatibleError", "Ingredient", "MissingExtraError", "OutputError", "RecordError", "RunError", "Score", "Soup",
    "Step", "StockpotError", "__version__", "best", "blend", "greedy", "ingredients", "learned", "load_task",
    "materialize",
    "open_checkpoint", "read_soup", "run", "uniform", "write",
]  # fmt: skip
HEAVY = {"torch", "transformers", "datasets", "sklearn", "accelerate", "pyarrow"}


def modules_after(code: str) -> set[str]:
    """Top-level modules that a fresh interpreter has loaded after some code."""
    command = f"import sys\n{code}\nsys.stderr.write(' '.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True)
    return {name.partition(".")[0] for name in done.stderr.split()}


def test_the_public_names_are_this_list() -> None:
    assert sorted(stockpot.__all__) == PUBLIC
    assert dir(stockpot) == PUBLIC
    assert len(PUBLIC) <= 30


@pytest.mark.parametrize("name", PUBLIC)
def test_every_name_can_be_imported_and_says_what_it_is(name: str) -> None:
    value = getattr(stockpot, name)
    assert inspect.ismodule(value) is False  # no room carries a public function's name
    assert name == "__version__" or inspect.getdoc(value)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no_such"):
        stockpot.no_such  # noqa: B018


def test_a_function_stays_a_function_after_its_room_was_imported() -> None:
    for name in ("run", "blend", "greedy", "uniform", "best", "ingredients"):
        assert callable(getattr(stockpot, name))


def test_every_error_is_a_stockpot_error() -> None:
    errors = [getattr(stockpot, name) for name in PUBLIC if name.endswith("Error")]
    assert all(issubclass(error, stockpot.StockpotError) for error in errors)
    assert {error.exit_code for error in errors} == {2}


def test_import_stockpot_loads_nothing_heavy() -> None:
    loaded = modules_after("import stockpot")
    assert not loaded & {*HEAVY, "numpy", "pydantic", "yaml", "typer", "rich"}


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["mix", "--help"], ["run", "--help"]])
def test_help_loads_nothing_heavy(arguments: list[str]) -> None:
    loaded = modules_after(f"from stockpot.cli.entry import exit_code\nassert exit_code({arguments!r}) == 0")
    own: set[str] = (
        set() if "run" in arguments or "mix" in arguments else {"pydantic"}
    )  # typer reads a command's options with it
    assert not loaded & {*HEAVY, "numpy", *own}


def test_the_core_loads_no_framework() -> None:
    names = sorted(set(PUBLIC) - {"__version__"})
    loaded = modules_after(f"import stockpot\nfor name in {names!r}:\n    getattr(stockpot, name)")
    assert "numpy" in loaded
    assert not loaded & HEAVY
