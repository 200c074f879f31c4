"""One tiny experiment for all tests of this room, and engines that need no second import of torch."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest

from in_process import InProcess
from planted import train
from stockpot.engines import Job, LocalEngine, Result
from stockpot.experiment import run, running
from tiny_models import tiny_classifier, tiny_experiment, tiny_task

pytest.importorskip("sklearn")
torch = pytest.importorskip("torch")


class Deadly:
    """Real workers, of which the one that has run-01 is killed in the middle of it, the first time."""

    attempts: ClassVar[dict[str, int]] = {}

    def __init__(self, workers: int | None = None, gpus: Sequence[str] = ()) -> None:
        self.workers = workers

    def run(self, function: str, jobs: Sequence[Job], **more: Any) -> list[Result]:
        assert function == "stockpot.sweeps.fine_tuning:make_ingredient"
        results = LocalEngine(self.workers).run("sweep_jobs:make_ingredient_after_death", jobs, **more)
        Deadly.attempts.update({result.name: result.attempts for result in results})
        return results


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> Iterator[None]:
    """As in a worker."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def _engine(in_process: None) -> None:
    """No test of this room starts workers unless it says so."""


@pytest.fixture(scope="session")
def experiment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """experiment.yaml of three runs, with a linear probe."""
    return tiny_experiment(tmp_path_factory.mktemp("experiment"), runs=3, head="linear-probe")


@pytest.fixture(scope="session")
def finished(experiment: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output folder of an undisturbed run; not to be changed."""
    folder = tmp_path_factory.mktemp("finished") / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(running, "LocalEngine", InProcess)
        run(experiment, folder)
    return folder


@pytest.fixture
def copied(finished: Path, tmp_path: Path) -> Path:
    """A copy of that folder to break things in."""
    return Path(shutil.copytree(finished, tmp_path / "out"))


@pytest.fixture
def deadly(monkeypatch: pytest.MonkeyPatch) -> type[Deadly]:
    monkeypatch.setattr(running, "LocalEngine", Deadly)
    return Deadly


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base that knows the tiny task, and four fine-tunes of it."""
    home = tmp_path_factory.mktemp("trained")
    base = tiny_classifier(home / "base")
    tiny_task(home, n=300, shifts=False)
    train(base, base, home, seed=9, learning_rate=2e-3, epochs=8)
    for number in range(4):
        train(base, home / f"run-{number}", home, seed=number, learning_rate=5e-4, epochs=3)
    return home


@pytest.fixture
def home(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(trained, tmp_path / "home")
    monkeypatch.chdir(tmp_path / "home")
    return tmp_path / "home"
