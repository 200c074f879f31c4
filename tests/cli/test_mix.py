"""`stockpot mix`: the result, and every bad input that needs no task."""

from __future__ import annotations

import json
import os
import pickle
import resource
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import reference
from stockpot.cli.entry import exit_code


def weights(folder: Path) -> dict[str, np.ndarray]:
    tensors: dict[str, np.ndarray] = {}
    for file in sorted(folder.glob("*.safetensors")):
        tensors |= load_file(file)
    return tensors


def header_file(path: Path, header: object, data: bytes) -> Path:
    raw = json.dumps(header).encode()
    path.write_bytes(len(raw).to_bytes(8, "little") + raw + data)
    return path


@pytest.mark.parametrize("coefficients", [None, "0.5,0.3,0.2", "1,0,0", "-0.5,1,0.5"])
def test_matches_the_reference(stockpot, checkpoints, tmp_path, coefficients) -> None:
    options = [] if coefficients is None else [f"--coefficients={coefficients}"]
    done = stockpot("mix", tmp_path / "*.safetensors", "-o", tmp_path / "soup", *options)
    assert done.code == 0, done
    assert "mixed 3 checkpoints" in done.out
    values = [float(v) for v in coefficients.split(",")] if coefficients else [1 / 3] * 3
    raw = [load_file(file)["head.weight"].tobytes() for file in checkpoints]
    expected = reference.reference_blend(raw, "F32", values)
    got = weights(tmp_path / "soup")
    assert got["head.weight"].tobytes() == expected
    assert (got["steps"] == np.arange(3)).all()
    record = json.loads((tmp_path / "soup" / "soup.json").read_text())
    assert [entry["source"] for entry in record["ingredients"]] == [f"../{name}.safetensors" for name in "abc"]
    assert str(tmp_path) not in json.dumps(record)


def test_options(stockpot, checkpoints, tmp_path) -> None:
    out = tmp_path / "soup"
    assert stockpot("mix", *checkpoints, "-o", out, "--max-shard-size", "50", "--digests", "--dtype", "bf16").code == 0
    index = json.loads((out / "model.safetensors.index.json").read_text())
    assert set(index["weight_map"]) == {"head.weight", "steps"}
    record = json.loads((out / "soup.json").read_text())
    assert all(len(entry["digest"]) == 64 for entry in record["ingredients"])
    assert record["output"]["dtype"] == "BF16"
    again = stockpot("mix", *checkpoints, "-o", out, "--only", "steps")
    assert again.code == 2
    assert "--force" in again.err
    assert stockpot("mix", *checkpoints, "-o", out, "--only", "steps", "--force").code == 0
    first = load_file(checkpoints[0])
    assert all((weights(out)[name] == first[name]).all() for name in first)


def test_a_soup_is_an_ingredient(stockpot, checkpoints, tmp_path) -> None:
    assert stockpot("mix", *checkpoints, "-o", tmp_path / "soup").code == 0
    assert stockpot("mix", tmp_path / "soup", tmp_path / "soup", "-o", tmp_path / "again").code == 0
    assert (weights(tmp_path / "again")["head.weight"] == weights(tmp_path / "soup")["head.weight"]).all()


def test_one_ingredient_and_the_same_twice_are_allowed_and_said(stockpot, checkpoints, tmp_path) -> None:
    one = stockpot("mix", checkpoints[0], "-o", tmp_path / "one")
    assert one.code == 0
    assert "one ingredient only" in one.err
    twice = stockpot("mix", checkpoints[0], checkpoints[0], "-o", tmp_path / "twice")
    assert twice.code == 0
    assert "2 times" in twice.err
    for name in ("one", "twice"):
        assert (weights(tmp_path / name)["head.weight"] == load_file(checkpoints[0])["head.weight"]).all()


def test_the_same_source_in_other_words_is_said_too(stockpot, checkpoints, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run 1 é").mkdir()
    checkpoints[0].rename(tmp_path / "run 1 é" / "model.safetensors")
    done = stockpot("mix", "run 1 é", tmp_path / "run 1 é/", "-o", "soup/")
    assert done.code == 0
    assert "run 1 é is given 2 times and counts 2 times" in done.err


def test_a_soup_among_the_matches_is_said(stockpot, checkpoints, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert stockpot("mix", *checkpoints, "-o", "runs/soup").code == 0
    for file in checkpoints:
        (tmp_path / "runs" / file.stem).mkdir()
        file.rename(tmp_path / "runs" / file.stem / "model.safetensors")
    done = stockpot("mix", "runs/*", "-o", "again")
    assert "mixed 4 checkpoints" in done.out
    assert "note: runs/soup is a soup itself" in done.err


def test_missing_file_and_empty_glob_are_both_named(refused, checkpoints, tmp_path) -> None:
    message = refused("mix", tmp_path / "a.safetensor", tmp_path / "zz*", checkpoints[0], "-o", tmp_path / "soup")
    assert "a.safetensor" in message
    assert "zz*" in message
    assert "fix:" in message


def test_a_source_that_is_no_name(refused, checkpoints, tmp_path) -> None:
    assert "empty name" in refused("mix", "", checkpoints[0], "-o", tmp_path / "soup")
    odd = Path(os.fsdecode(os.fsencode(tmp_path) + b"/odd\xff.safetensors"))
    try:
        checkpoints[1].rename(odd)
    except OSError:
        pytest.skip("this file system takes Unicode names only")
    message = refused("mix", odd, checkpoints[0], "-o", tmp_path / "soup")
    assert "odd" in message
    assert "not valid Unicode" in message


def test_folder_of_checkpoints_is_answered_with_words_to_paste(refused, checkpoints, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "lr 1").mkdir(parents=True)
    checkpoints[0].rename(tmp_path / "runs" / "lr 1" / "model.safetensors")
    assert "give them: 'runs/lr 1'" in refused("mix", "runs", "-o", "soup")


def test_names_cannot_steer_the_terminal(refused, tmp_path) -> None:
    save_file({"w\x1b[2J": np.zeros(2, np.float32)}, tmp_path / "a.safetensors")
    save_file({"w\x1b[2J": np.zeros(3, np.float32)}, tmp_path / "b.safetensors")
    message = refused("mix", tmp_path / "a.safetensors", tmp_path / "b.safetensors", "-o", tmp_path / "soup")
    assert "\x1b" not in message
    assert "x1b[2J" in message


def test_very_many_mismatches_are_counted_and_debug_lists_them(refused, tmp_path, capsys) -> None:
    for name, size in (("a", 2), ("b", 3)):
        save_file({f"t{i:02d}": np.zeros(size, np.float32) for i in range(50)}, tmp_path / f"{name}.safetensors")
    command = ["mix", str(tmp_path / "a.safetensors"), str(tmp_path / "b.safetensors"), "-o", str(tmp_path / "soup")]
    message = refused(*command)
    assert "t19" in message
    assert "... and 30 more (--debug lists all)" in message
    assert exit_code([*command, "--debug"]) == 2
    shown = capsys.readouterr().err
    assert "Traceback" in shown
    assert all(f"t{i:02d}: [2] F32 in 'a' but [3] F32 in 'b'" in shown for i in range(50))


def test_every_mismatch_is_listed(refused, checkpoints, tmp_path) -> None:
    save_file(
        {"head.weight": np.zeros((1, 6), np.float32), "steps": np.arange(3).astype(np.int32), "more": np.zeros(2)},
        tmp_path / "other.safetensors",
    )
    message = refused("mix", checkpoints[0], tmp_path / "other.safetensors", "-o", tmp_path / "soup")
    assert "head.weight: [4, 6] F32 in 'a' but [1, 6] F32 in 'other'" in message
    assert "steps: [3] I64 in 'a' but [3] I32 in 'other'" in message
    assert "more" in message


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "empty"),
        (b"hello, this is no checkpoint at all", "safetensors"),
        ((1 << 40).to_bytes(8, "little") + b"{}", "header"),
        ("truncated", "bytes"),
    ],
)
def test_damaged_files(refused, checkpoints, tmp_path, content, says) -> None:
    bad = tmp_path / "bad.safetensors"
    bad.write_bytes(checkpoints[0].read_bytes()[:-5] if content == "truncated" else content)
    message = refused("mix", checkpoints[0], bad, "-o", tmp_path / "soup")
    assert "bad.safetensors" in message
    assert says in message


def test_header_that_lies(refused, tmp_path) -> None:
    entry = {"dtype": "U8", "shape": [4], "data_offsets": [0, 4]}
    overlap = header_file(tmp_path / "overlap.safetensors", {"x": entry, "y": entry}, b"1234")
    assert "overlap" in refused("mix", overlap, "-o", tmp_path / "soup")
    long = header_file(tmp_path / "long.safetensors", {"x": {**entry, "shape": [40]}}, b"1234")
    message = refused("mix", long, "-o", tmp_path / "soup")
    assert "long.safetensors" in message
    assert "40" in message


def test_shard_index(refused, checkpoints, tmp_path) -> None:
    folder = tmp_path / "sharded"
    folder.mkdir()
    shards = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    for name in shards:
        save_file({name[6:11]: np.zeros(2, np.float32)}, folder / name)

    def index(**weight_map: str) -> None:
        (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))

    index(**{"00001": shards[0], "00002": "model-00003-of-00002.safetensors"})
    message = refused("mix", folder, "-o", tmp_path / "soup")
    assert "model-00003-of-00002.safetensors" in message
    index(**{"00001": shards[0]})
    assert shards[1] in refused("mix", folder, "-o", tmp_path / "soup")
    index(**{"00001": shards[0], "00002": "../a.safetensors"})
    assert "../a.safetensors" in refused("mix", folder, "-o", tmp_path / "soup")


@pytest.mark.parametrize(
    ("given", "says"),
    [("0.5,0.5", "2 coefficients for 3 sources"), ("a,1,2", "'a'"), ("nan,1,1", "'nan'"), (",,", "''")],
)
def test_coefficients(refused, checkpoints, tmp_path, given, says) -> None:
    message = refused("mix", *checkpoints, "-o", tmp_path / "soup", "--coefficients", given)
    assert says in message
    assert "fix:" in message


def test_unknown_dtype_size_and_pattern(refused, checkpoints, tmp_path) -> None:
    assert "bf17" in refused("mix", *checkpoints, "-o", tmp_path / "soup", "--dtype", "bf17")
    assert "5 parsecs" in refused("mix", *checkpoints, "-o", tmp_path / "soup", "--max-shard-size", "5 parsecs")
    assert "nothing*" in refused("mix", *checkpoints, "-o", tmp_path / "soup", "--only", "nothing*")


class Payload:
    def __reduce__(self):
        return os.system, ("touch hacked",)


def test_malicious_pickle_is_refused_and_not_run(refused, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "evil.pt").write_bytes(pickle.dumps({"w": Payload()}))
    message = refused("mix", tmp_path / "evil.pt", "-o", tmp_path / "soup")
    assert "evil.pt" in message
    assert not (tmp_path / "hacked").exists()


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("coefficients", ["0.5,0.5", "1,0"])
def test_non_finite_tensor_names_ingredient_and_tensor(refused, checkpoints, tmp_path, value, coefficients) -> None:
    tensors = load_file(checkpoints[1])
    tensors["head.weight"][2, 3] = value
    save_file(tensors, tmp_path / "sick.safetensors")
    message = refused(
        "mix", checkpoints[0], tmp_path / "sick.safetensors", "-o", tmp_path / "soup", "--coefficients", coefficients
    )
    assert "sick" in message
    assert "head.weight" in message


def test_overflow_of_the_output_dtype(refused, tmp_path) -> None:
    save_file({"w": np.full(3, 1e6, np.float32)}, tmp_path / "big.safetensors")
    message = refused("mix", tmp_path / "big.safetensors", "-o", tmp_path / "soup", "--dtype", "fp16")
    assert "w" in message
    assert "F16" in message


def test_output_exists_and_output_is_an_input(refused, checkpoints, tmp_path) -> None:
    folder = tmp_path / "taken"
    folder.mkdir()
    save_file(load_file(checkpoints[0]), folder / "model.safetensors")
    assert "not empty" in refused("mix", *checkpoints, "-o", folder)
    message = refused("mix", folder, checkpoints[1], "-o", folder, "--force")
    assert "taken" in message
    assert "taken" in refused("mix", folder, checkpoints[1], "-o", folder / "model.safetensors")


def test_output_where_it_cannot_be(refused, stockpot, checkpoints, tmp_path) -> None:
    (tmp_path / "file").write_text("")
    assert "is a file" in refused("mix", *checkpoints, "-o", tmp_path / "file")
    assert f"{tmp_path / 'file'} is a file, not a folder" in refused("mix", *checkpoints, "-o", tmp_path / "file" / "x")
    (tmp_path / "folder").mkdir()
    checkpoints[0].rename(tmp_path / "folder" / "model.safetensors")
    inside = tmp_path / "folder" / "soup"  # beside the source, which stays as it is
    assert stockpot("mix", tmp_path / "folder", checkpoints[1], "-o", inside).code == 0
    assert (inside / "soup.json").exists()


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() != 0, reason="takes root to become somebody else")
def test_no_permission(stockpot, checkpoints, tmp_path) -> None:
    assert stockpot("mix", *checkpoints, "-o", tmp_path / "first").code == 0  # everything is imported
    with TemporaryDirectory() as folder:  # tmp_path is not to be looked into by others
        place = Path(folder)
        place.chmod(0o755)
        for file in checkpoints:
            shutil.copyfile(file, place / file.name)
        (place / "b.safetensors").chmod(0)
        os.seteuid(65534)
        try:
            unwritable = stockpot("mix", place / "a.safetensors", "-o", place / "soup")
            unreadable = stockpot("mix", place / "b.safetensors", "-o", place / "soup")
        finally:
            os.seteuid(0)
        assert not (place / "soup").exists()
    assert unwritable.code == unreadable.code == 2
    assert "soup: Permission denied" in unwritable.err
    assert "b.safetensors: cannot be read: Permission denied" in unreadable.err


def test_ctrl_c_leaves_nothing(stockpot, checkpoints, tmp_path, monkeypatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("stockpot.assembly.written.write_soup", interrupted)  # the last step
    done = stockpot("mix", *checkpoints, "-o", tmp_path / "soup")
    assert done.code == 130
    assert "nothing was written" in done.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.safetensors", "b.safetensors", "c.safetensors"]


def test_full_disk(checkpoints, tmp_path) -> None:
    """A real limit of the operating system on the size of files, below the size of the soup."""
    generator = np.random.default_rng(1)
    for name in "ab":
        save_file({"w": generator.standard_normal((512, 512))}, tmp_path / f"{name}.safetensors")
    done = subprocess.run(
        [sys.executable, "-m", "stockpot", "mix", "a.safetensors", "b.safetensors", "-o", str(tmp_path / "soup")],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=_limit_file_size,
    )
    assert done.returncode == 2, done
    assert "Traceback" not in done.stderr
    assert str(tmp_path / "soup") in done.stderr
    assert not (tmp_path / "soup").exists()
    assert not [path for path in tmp_path.iterdir() if "partial" in path.name]


def _limit_file_size() -> None:
    import signal

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))


def test_without_torch(checkpoints, tmp_path) -> None:
    """An interpreter in which torch cannot be imported mixes safetensors, and names the extra for a .pt file."""
    blocker = (
        "import sys\n"
        "class Block:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] in ('torch', 'transformers'):\n"
        "            raise ModuleNotFoundError(f'No module named {name!r}', name=name)\n"
        "sys.meta_path.insert(0, Block())\n"
        "from stockpot.cli import main\n"
        "main()\n"
    )

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", blocker, *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    assert run("mix", *checkpoints, "-o", tmp_path / "soup").returncode == 0
    (tmp_path / "d.pt").write_bytes(b"PK\x03\x04")
    done = run("mix", tmp_path / "d.pt", "-o", tmp_path / "other")
    assert done.returncode == 2
    assert "stockpot[torch]" in done.stderr


def test_help_version_and_usage(stockpot) -> None:
    assert stockpot("--version").out.startswith("stockpot 0.")
    for command in ("mix", "soup", "compare", "run", "sweep", "rebuild", "verify"):
        assert f"Example: stockpot {command}" in stockpot(command, "--help").out
    assert stockpot("mix", "--nonsense").code == 2
    assert stockpot("mux").code == 2
