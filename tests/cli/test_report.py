"""`stockpot report`: one file, or a clear refusal."""

from __future__ import annotations


def test_a_soup_has_a_page(stockpot, checkpoints, tmp_path) -> None:
    assert stockpot("mix", *checkpoints, "-o", tmp_path / "soup").code == 0
    done = stockpot("report", tmp_path / "soup")
    assert done.code == 0
    page = (tmp_path / "soup/report.html").read_text()
    assert "stockpot rebuild soup -o again" in page
    assert "no results.json yet" in page


def test_nothing_to_show(refused, tmp_path) -> None:
    assert "holds no record of stockpot" in refused("report", tmp_path)


def test_a_folder_that_does_not_exist_is_not_served(refused, tmp_path) -> None:
    assert "typo: no such folder" in refused("report", tmp_path / "typo", "--serve", "--port", 0)
