"""The guide's first page runs as it stands; links between documents lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")])


def test_first_page_runs_as_it_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    text = (ROOT / "docs" / "guide" / "first-page.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    assert len(blocks) == 2
    library = [line for line in blocks[1].splitlines() if line.strip()]
    assert len(library) <= 15
    exec(compile("\n".join(blocks), "first-page.md", "exec"), {})
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 6
    assert lines[0].endswith("kept")
    assert (tmp_path / "soup" / "model.safetensors").exists()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text())
    missing = [t for t in targets if "://" not in t and not (page.parent / t).exists()]
    assert not missing


def test_the_tasks_and_experiments_of_the_text_guide_are_valid(tmp_path: Path) -> None:
    import yaml

    from stockpot.config import load_experiment_config, load_task_config

    blocks = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs" / "guide" / "text.md").read_text(), flags=re.DOTALL)
    assert len(blocks) == 5
    for block in blocks:
        is_task = "family" in yaml.safe_load(block)
        file = tmp_path / ("task.yaml" if is_task else "experiment.yaml")
        file.write_text(block)
        (load_task_config if is_task else load_experiment_config)(file)


@pytest.mark.parametrize("page", ["clip", "images"])
def test_the_tasks_and_experiments_of_the_image_guides_are_valid(page: str, tmp_path: Path) -> None:
    import yaml

    from stockpot.config import load_experiment_config, load_task_config

    blocks = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs" / "guide" / f"{page}.md").read_text(), flags=re.DOTALL)
    assert blocks
    tasks = [block for block in blocks if "family" in yaml.safe_load(block)]
    assert tasks
    for block in [*tasks, *(block for block in blocks if "sweep" in yaml.safe_load(block))]:
        is_task = block in tasks
        file = tmp_path / ("task.yaml" if is_task else "experiment.yaml")
        if is_task and "train:" not in block:
            content = yaml.safe_load(block)
            content["data"]["train"] = {"path": "train"}  # an experiment with `task: task.yaml` may follow
            load_task_config(_written(file, block))
            block = yaml.safe_dump(content)
        (load_task_config if is_task else load_experiment_config)(_written(file, block))


def _written(file: Path, text: str) -> Path:
    file.write_text(text)
    return file
