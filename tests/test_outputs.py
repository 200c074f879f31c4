"""Output appears whole or not at all: laws that hold for every way a block can end, kill -9 included."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stockpot.errors import OutputError
from stockpot.outputs import (
    ExperimentFolder,
    FolderLock,
    check_target,
    claims,
    sweep_stale,
    translated_os_errors,
    whole_folder,
    write_json_atomically,
    write_text_atomically,
)
from stockpot.outputs import partial as partial_module


def write_then_raise(path: Path, error: BaseException) -> None:
    path.write_text("")
    raise error


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def dead_pid() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


@pytest.fixture
def leftover(dead_pid: int, monkeypatch: pytest.MonkeyPatch) -> Callable[[Path, str], Path]:
    """Makes the name that a killed process would have left beside a path."""

    def make(path: Path, role: Any) -> Path:
        with monkeypatch.context() as patch:
            patch.setattr(os, "getpid", lambda: dead_pid)
            return partial_module.sibling(path, role)

    return make


# --- files ---------------------------------------------------------------------------------------------------------


def test_text_replaces_and_leaves_nothing_else(tmp_path: Path) -> None:
    write_text_atomically(tmp_path / "new" / "a.txt", "one\n")
    write_text_atomically(tmp_path / "new" / "a.txt", "zwei ü\n")
    assert (tmp_path / "new" / "a.txt").read_bytes() == "zwei ü\n".encode()
    assert names(tmp_path / "new") == ["a.txt"]


def test_json_refuses_nan_and_keeps_the_old(tmp_path: Path) -> None:
    write_json_atomically(tmp_path / "a.json", {"b": 1, "a": "ü"})
    with pytest.raises(ValueError, match="JSON"):
        write_json_atomically(tmp_path / "a.json", {"b": float("nan")})
    assert (tmp_path / "a.json").read_text(encoding="utf-8") == '{\n  "b": 1,\n  "a": "ü"\n}\n'
    assert names(tmp_path) == ["a.json"]


def test_a_file_where_the_folder_should_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot write"):
        write_text_atomically(tmp_path / "file" / "a.txt", "")


@pytest.mark.parametrize(("number", "text"), [(errno.ENOSPC, "disk is full"), (errno.EDQUOT, "quota is used up")])
def test_a_full_disk_says_how_much_is_free(tmp_path: Path, number: int, text: str) -> None:
    with pytest.raises(OutputError, match=rf"{text} \([\d,]+ bytes free\)"), translated_os_errors(tmp_path / "a"):
        raise OSError(number, "no space")


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS])
def test_no_permission(tmp_path: Path, number: int) -> None:
    with pytest.raises(OutputError, match=r"cannot write .*a"), translated_os_errors(tmp_path / "a"):
        raise OSError(number, os.strerror(number), str(tmp_path / "a"))


# --- whole folders -------------------------------------------------------------------------------------------------


def test_nothing_is_there_until_the_end(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "soup"
    with whole_folder(target) as folder:
        (folder / "a").write_text("a")
        assert not target.exists()
        assert folder.parent == target.parent
    assert names(target) == ["a"]
    assert names(target.parent) == ["soup"]


def test_an_empty_folder_is_filled(tmp_path: Path) -> None:
    with whole_folder(tmp_path / "soup") as folder:
        (folder / "a").write_text("a")
    assert names(tmp_path / "soup") == ["a"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("force", [False, True])
def test_a_failure_leaves_everything_as_it_was(tmp_path: Path, error: type[BaseException], force: bool) -> None:
    target = tmp_path / "soup"
    target.mkdir()
    if force:
        (target / "soup.json").write_text("old")
    before = names(target)
    with pytest.raises(error), whole_folder(target, force=force) as folder:
        write_then_raise(folder / "new", error())
    assert names(target) == before
    assert names(tmp_path) == ["soup"]


def test_force_replaces_the_whole_folder(tmp_path: Path) -> None:
    (tmp_path / "soup").mkdir()
    (tmp_path / "soup" / "soup.json").write_text("old")
    with pytest.raises(OutputError, match=r"not empty.*soup\.json(.|\n)*--force"), whole_folder(tmp_path / "soup"):
        raise AssertionError
    with whole_folder(tmp_path / "soup", force=True) as folder:
        (folder / "new").write_text("new")
    assert names(tmp_path / "soup") == ["new"]
    assert names(tmp_path) == ["soup"]


def test_force_puts_the_old_back_when_the_last_rename_fails(tmp_path: Path) -> None:
    (tmp_path / "soup").mkdir()
    (tmp_path / "soup" / "soup.json").write_text("old")
    with pytest.raises(OutputError, match="cannot write"), whole_folder(tmp_path / "soup", force=True) as folder:
        folder.rmdir()
    assert names(tmp_path / "soup") == ["soup.json"]
    assert names(tmp_path) == ["soup"]


def test_force_refuses_to_delete_what_is_read(tmp_path: Path) -> None:
    (tmp_path / "out" / "run").mkdir(parents=True)
    with (
        pytest.raises(OutputError, match="would delete what is being read"),
        whole_folder(tmp_path / "out", force=True, inputs=[tmp_path / "out" / "run"]),
    ):
        raise AssertionError


@pytest.mark.parametrize(
    ("content", "reason"),
    [(["notes.txt"], "holds no soup.json"), (["soup.json", "experiment.json"], "holds an experiment")],
)
def test_force_spares_what_is_no_earlier_output(tmp_path: Path, content: list[str], reason: str) -> None:
    target = tmp_path / "out"
    target.mkdir()
    for name in content:
        (target / name).write_text("mine")
    with pytest.raises(OutputError, match=reason), whole_folder(target, force=True):
        raise AssertionError
    with pytest.raises(OutputError, match="not empty") as caught, whole_folder(target):
        raise AssertionError
    assert "--force" not in str(caught.value), "no advice that would be refused"
    assert names(target) == sorted(content)


def test_force_spares_a_folder_that_another_process_works_in(tmp_path: Path) -> None:
    target = tmp_path / "out"
    target.mkdir()
    (target / "soup.json").write_text("{}")
    lock = FolderLock(target)
    with pytest.raises(OutputError, match="in use by process"), whole_folder(target, force=True):
        raise AssertionError
    lock.release()
    with whole_folder(target, force=True) as folder:
        (folder / "soup.json").write_text("new")
    assert (target / "soup.json").read_text() == "new"


def test_outputs_that_are_no_folders_are_named(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for path, reason in (
        (tmp_path / "loop", "leads nowhere"),
        (Path("/"), "root of a file system"),
        ("", "empty name"),
    ):
        with pytest.raises(OutputError, match=reason), whole_folder(path):
            raise AssertionError
        with pytest.raises(OutputError, match=reason), ExperimentFolder.claim(path, {}):
            raise AssertionError


def test_a_librarys_own_error_about_a_full_disk_is_understood(tmp_path: Path) -> None:
    class SafetensorError(Exception):
        pass

    with pytest.raises(OutputError, match="the disk is full"), whole_folder(tmp_path / "soup"):
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")
    with pytest.raises(SafetensorError), whole_folder(tmp_path / "soup"):
        raise SafetensorError("something else")


def test_force_refuses_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    with pytest.raises(OutputError, match="home or working folder"), whole_folder(tmp_path, force=True):
        raise AssertionError


@pytest.mark.parametrize(
    ("name", "force", "inputs"),
    [("taken", False, []), ("taken", True, ["taken/input"]), ("file", True, [])],
    ids=["taken", "holds an input", "file"],
)
def test_what_would_be_refused_is_known_beforehand(tmp_path: Path, name: str, force: bool, inputs: list[str]) -> None:
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "input").touch()
    (tmp_path / "taken" / "soup.json").touch()
    (tmp_path / "file").touch()
    paths = [tmp_path / path for path in inputs]
    with pytest.raises(OutputError) as before:
        check_target(tmp_path / name, force=force, inputs=paths)
    with pytest.raises(OutputError) as caught, whole_folder(tmp_path / name, force=force, inputs=paths):
        pass
    assert str(before.value) == str(caught.value)
    check_target(tmp_path / "taken", force=True)
    check_target(tmp_path / "new", inputs=[tmp_path / "file"])
    assert names(tmp_path) == ["file", "taken"]


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "soup").write_text("")
    with pytest.raises(OutputError, match="is a file"), whole_folder(tmp_path / "soup", force=True):
        raise AssertionError


def test_filled_in_the_meantime_is_not_overwritten(tmp_path: Path) -> None:
    target = tmp_path / "soup"
    with pytest.raises(OutputError, match="cannot write"), whole_folder(target):
        write_text_atomically(target / "theirs", "")
    assert names(target) == ["theirs"]


def test_errors_of_sources_are_not_called_output_errors(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), whole_folder(tmp_path / "soup"):
        (tmp_path / "missing").read_text()


def test_errors_within_the_output_are(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"cannot write .*soup"), whole_folder(tmp_path / "soup") as folder:
        (folder / "missing" / "a").write_text("")


def test_only_leftovers_of_the_dead_are_swept(tmp_path: Path, leftover: Callable[[Path, str], Path]) -> None:
    target = tmp_path / "soup"
    dead, of_another = leftover(target, "partial"), leftover(tmp_path / "other", "partial")
    alive, users = partial_module.sibling(target, "partial"), tmp_path / ".soup.partial-mine"
    for folder in (dead, of_another, alive, users):
        folder.mkdir()
    with whole_folder(target):
        pass
    assert names(tmp_path) == sorted(["soup", of_another.name, alive.name, users.name])
    sweep_stale(tmp_path)
    assert names(tmp_path) == sorted(["soup", alive.name, users.name])


def test_a_kill_between_the_renames_is_undone(tmp_path: Path, leftover: Callable[[Path, str], Path]) -> None:
    target = tmp_path / "soup"
    replaced = leftover(target, "replaced")
    replaced.mkdir()
    (replaced / "old").write_text("old")
    with pytest.raises(OutputError, match="not empty"), whole_folder(target):
        raise AssertionError
    assert names(target) == ["old"]
    assert names(tmp_path) == ["soup"]


def test_a_killed_writer_leaves_nothing_for_the_next(tmp_path: Path) -> None:
    code = (
        "import os, sys, signal\n"
        "from stockpot.outputs import whole_folder\n"
        "with whole_folder(sys.argv[1]) as folder:\n"
        "    (folder / 'half').write_text('')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    assert subprocess.run([sys.executable, "-c", code, tmp_path / "soup"]).returncode == -signal.SIGKILL
    assert len(names(tmp_path)) == 1
    assert names(tmp_path)[0].startswith(".soup.partial-")
    with whole_folder(tmp_path / "soup"):
        pass
    assert names(tmp_path) == ["soup"]


# --- the lock ------------------------------------------------------------------------------------------------------

HOLDER = """
import sys, time
from stockpot.outputs import ExperimentFolder
with ExperimentFolder.claim(sys.argv[1], {"seed": 0}, fresh=len(sys.argv) > 2) as claimed:
    print("held", flush=True)
    time.sleep(60)
"""


@contextmanager
def held_by_another(target: Path, *options: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen([sys.executable, "-c", HOLDER, target, *options], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def claim_once(target: Path, seed: int = 0, *, fresh: bool = False, write: str | None = None) -> ExperimentFolder:
    with ExperimentFolder.claim(target, {"seed": seed}, fresh=fresh) as claimed:
        if write is not None:
            (claimed.folder / write).write_text(write)
    return claimed


def test_the_other_process_is_named_and_its_lock_dies_with_it(tmp_path: Path) -> None:
    with held_by_another(tmp_path / "out") as other:
        with pytest.raises(OutputError, match=f"in use by process {other.pid} "):
            claim_once(tmp_path / "out")
        other.kill()
        other.wait()
        assert not claim_once(tmp_path / "out").is_new


def test_staging_is_locked_too(tmp_path: Path) -> None:
    claim_once(tmp_path / "out")
    with held_by_another(tmp_path / "out", "fresh"):
        for fresh in (False, True):
            with pytest.raises(OutputError, match="in use by process"):
                claim_once(tmp_path / "out", fresh=fresh)


def test_one_process_cannot_claim_twice(tmp_path: Path) -> None:
    with ExperimentFolder.claim(tmp_path / "out", {}), pytest.raises(OutputError, match=f"process {os.getpid()}"):
        claim_once(tmp_path / "out")


def test_a_lock_moves_with_its_folder(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    lock = FolderLock(tmp_path / "a")
    (tmp_path / "a").rename(tmp_path / "b")
    (tmp_path / "a").mkdir()
    assert lock.is_at(tmp_path / "b")
    assert not lock.is_at(tmp_path / "a")
    with pytest.raises(OutputError):
        FolderLock(tmp_path / "b")
    lock.release()
    lock.release()
    FolderLock(tmp_path / "b").release()
    assert (tmp_path / "b" / ".lock").read_bytes() == b""


# --- claims --------------------------------------------------------------------------------------------------------


def test_the_same_experiment_continues(tmp_path: Path) -> None:
    first = claim_once(tmp_path / "deep" / "out", write="kept")
    again = claim_once(tmp_path / "deep" / "out")
    assert (first.is_new, again.is_new) == (True, False)
    assert again.folder == again.target == tmp_path / "deep" / "out"
    assert names(again.folder) == [".lock", "experiment.json", "kept"]


def test_every_changed_key_is_listed_with_both_sides(tmp_path: Path) -> None:
    with ExperimentFolder.claim(
        tmp_path, {"sweep": {"seed": 0, "runs": 8, "space": {}}, "metric": "accuracy", "x": (1,)}
    ):
        pass
    with (
        pytest.raises(OutputError) as caught,
        ExperimentFolder.claim(tmp_path, {"sweep": {"seed": 1, "runs": 8, "space": {}}, "data": None, "x": [1]}),
    ):
        raise AssertionError
    assert caught.value.problems == (
        "sweep.seed: 0 there, 1 now",
        "data: absent there, null now",
        'metric: "accuracy" there, absent now',
    )
    assert "--fresh" in str(caught.value)


def test_foreign_folders_and_files_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    for fresh in (False, True):
        with pytest.raises(OutputError, match=r"no experiment of stockpot.*thesis\.tex"):
            claim_once(tmp_path, fresh=fresh)
    with pytest.raises(OutputError, match="is a file"):
        claim_once(tmp_path / "thesis.tex")
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


def test_a_damaged_record_is_named(tmp_path: Path) -> None:
    (tmp_path / "experiment.json").write_text("{")
    with pytest.raises(OutputError, match=r"experiment\.json is damaged"):
        claim_once(tmp_path)


def test_killed_before_the_record_was_written(tmp_path: Path, leftover: Callable[[Path, str], Path]) -> None:
    (tmp_path / ".lock").write_text("1 stockpot")
    leftover(tmp_path / "experiment.json", "partial").write_text('{"se')
    assert claim_once(tmp_path).is_new
    assert names(tmp_path) == [".lock", "experiment.json"]


def test_fresh_keeps_the_old_until_the_new_is_whole(tmp_path: Path) -> None:
    out = tmp_path / "out"
    claim_once(out, write="old")
    with pytest.raises(KeyboardInterrupt), ExperimentFolder.claim(out, {"seed": 1}, fresh=True) as claimed:
        write_then_raise(claimed.folder / "half", KeyboardInterrupt())
    assert "old" in names(out)
    assert not claim_once(out, 0).is_new  # the old one still continues
    with ExperimentFolder.claim(out, {"seed": 1}, fresh=True) as claimed:
        assert not claimed.is_new  # ... and so does the killed --fresh
        assert "half" in names(claimed.folder)
        assert "old" in names(out)
    assert names(out) == [".lock", "experiment.json", "half"]
    assert names(tmp_path) == ["out"]
    assert json.loads((out / "experiment.json").read_text()) == {"seed": 1}


def test_fresh_of_another_experiment_discards_the_staging(tmp_path: Path) -> None:
    out = tmp_path / "out"
    claim_once(out, write="old")
    with pytest.raises(ValueError, match="stop"), ExperimentFolder.claim(out, {"seed": 1}, fresh=True) as claimed:
        write_then_raise(claimed.folder / "half", ValueError("stop"))
    assert claim_once(out, 2, fresh=True, write="new").is_new
    assert names(out) == [".lock", "experiment.json", "new"]
    assert names(tmp_path) == ["out"]


def test_fresh_on_nothing_works_in_place(tmp_path: Path) -> None:
    claimed = claim_once(tmp_path / "out", fresh=True)
    assert claimed.folder == claimed.target


class Killed(BaseException):
    """Stands for kill -9: nothing that handles exceptions on the way may mend what it cut off."""


@contextmanager
def killed_before_operation(number: int, patch: pytest.MonkeyPatch) -> Iterator[None]:
    """Raises at the `number`-th change of the file system made by claims.py after the block has ended."""
    done: list[str] = []

    def counted(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def wrapper(*arguments: Any, **options: Any) -> Any:
            if len(done) == number:
                raise Killed
            done.append(name)
            return function(*arguments, **options)

        return wrapper

    with patch.context() as inner:
        inner.setattr(Path, "touch", counted("touch", Path.touch))
        inner.setattr(Path, "rename", counted("rename", Path.rename))
        inner.setattr(Path, "unlink", counted("unlink", Path.unlink))
        inner.setattr(claims, "remove", counted("remove", claims.remove))
        yield


@pytest.mark.parametrize("retry_fresh", [False, True])
@pytest.mark.parametrize("number", range(6))
def test_a_kill_at_any_point_of_the_replacement_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, retry_fresh: bool
) -> None:
    out, operations = tmp_path / "out", 5
    claim_once(out, 1, write="old")
    ending = pytest.raises(Killed) if number < operations else nullcontext()
    with ending, ExitStack() as crash, ExperimentFolder.claim(out, {"seed": 1}, fresh=True) as claimed:
        (claimed.folder / "new").write_text("new")
        crash.enter_context(killed_before_operation(number, monkeypatch))
    marked = number > 0
    again = claim_once(out, 1, fresh=retry_fresh and number < operations)
    assert not again.is_new
    assert ("new" in names(out)) == (marked or retry_fresh)
    assert ("old" in names(out)) == (not marked and not retry_fresh)
    assert names(tmp_path) == ([".out.fresh", "out"] if not marked and not retry_fresh else ["out"])
    assert ".complete" not in names(out)


def test_a_new_one_deleted_by_hand_brings_the_old_back(tmp_path: Path) -> None:
    claim_once(tmp_path / "out", write="old")
    (tmp_path / "out").rename(tmp_path / ".out.old")
    assert not claim_once(tmp_path / "out").is_new
    assert names(tmp_path) == ["out"]


def test_something_else_named_old_is_not_deleted(tmp_path: Path) -> None:
    claim_once(tmp_path / "out")
    (tmp_path / ".out.old").mkdir()
    (tmp_path / ".out.old" / "mine").write_text("")
    with pytest.raises(OutputError, match="in the way"):
        claim_once(tmp_path / "out", fresh=True)
    assert (tmp_path / ".out.old" / "mine").exists()


values = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.text(max_size=3),
    lambda inner: st.dictionaries(st.text("abc", min_size=1, max_size=2), inner, max_size=3),
    max_leaves=6,
)


@given(st.dictionaries(st.sampled_from("ab"), values), st.dictionaries(st.sampled_from("ab"), values))
@settings(deadline=None, derandomize=True, max_examples=60)
def test_a_difference_is_found_exactly_where_there_is_one(there: dict[str, Any], now: dict[str, Any]) -> None:
    claims._check_same(Path("out"), now, now)
    with pytest.raises(OutputError) if there != now else nullcontext():
        claims._check_same(Path("out"), there, now)
