"""The page as a document, and as a browser shows it."""

from __future__ import annotations

import json
import re
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from pages import HOSTILE, experiment

from stockpot.errors import RecordError
from stockpot.records import read_results
from stockpot.reports.page import page_document, page_html, write_page
from stockpot.reports.page.serving import page_server


class TestDocument:
    def test_it_holds_what_the_records_hold(self, tmp_path: Path) -> None:
        document = page_document(experiment(tmp_path))
        results = read_results(tmp_path)
        assert document["sentence"] == results.sentence
        assert [row["method"] for row in document["table"]["rows"]] == [row.method for row in results.rows]
        cell = document["table"]["rows"][0]["cells"][1]
        assert cell["value"] == results.rows[0].scores["test"].value
        ids = [figure["id"] for figure in document["figures"]]
        settings = ["setting-epochs", "setting-learning_rate"]
        assert ids == ["figure1", "shift-s0", "shift-s1", "calibration", *settings, "acceptance"]
        runs = document["figures"][0]["data"][0]
        assert runs["x"] == [one.scores["test"].value for one in results.individuals or ()]
        assert runs["customdata"][1] == HOSTILE
        assert document["missing"] == [
            "no analysis.json: stockpot analyse RUNS --task TASK --initialisation START -o THIS_FOLDER"
        ]

    def test_labels_are_text_to_plotly(self, tmp_path: Path) -> None:
        document = page_document(experiment(tmp_path))
        shown = json.dumps([trace.get("text") for figure in document["figures"] for trace in figure["data"]])
        assert "<script>" not in shown
        assert "&lt;script&gt;" in shown

    def test_nothing_to_show(self, tmp_path: Path) -> None:
        with pytest.raises(RecordError, match="holds no record"):
            page_document(tmp_path)

    def test_runs_that_have_landed_before_there_is_a_table(self, tmp_path: Path) -> None:
        land(tmp_path, "run-00")
        (tmp_path / "ingredients/plan.json").write_text('[{"name": "run-00"}, {"name": "run-01"}]')
        document = page_document(tmp_path)
        assert document["sentence"] == "Under way: 1 of 2 runs have landed."
        assert [run["name"] for run in document["runs"]] == ["run-00"]

    def test_data_cannot_leave_their_place_and_scripts_are_known_by_digest(self, tmp_path: Path) -> None:
        page = page_html(page_document(experiment(tmp_path)))
        assert page.count("</script>") == 3
        policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)
        assert policy is not None
        assert len(re.findall(r"'sha256-[^']+'", policy.group(1))) == 2
        assert "default-src 'none'" in policy.group(1)
        assert "unsafe-eval" not in policy.group(1)
        assert "connect-src 'none'" in policy.group(1)

    def test_equal_records_make_equal_pages(self, tmp_path: Path) -> None:
        folder = experiment(tmp_path / "a")
        assert write_page(folder).read_bytes() == write_page(folder).read_bytes()


def test_the_chart_library_is_that_of_the_python_package() -> None:
    offline = pytest.importorskip("plotly.offline")
    import stockpot.reports.page.html as page

    start = (Path(page.__file__).parent / "plotly-cartesian.min.js").read_text(encoding="utf-8")[:200]
    assert f"v{offline.get_plotlyjs_version()}" in start
    assert "MIT" in (Path(page.__file__).parent / "plotly-LICENSE.txt").read_text(encoding="utf-8")


def land(folder: Path, name: str) -> None:
    (folder / "ingredients" / name).mkdir(parents=True)
    (folder / "ingredients" / name / "run.json").write_text(json.dumps({"name": name, "settings": {"epochs": 1}}))


class Watched:
    """A page with all that it says to the console or asks of the network."""

    def __init__(self, browser: Any, **options: Any) -> None:
        self.page = browser.new_page(**options)
        self.said: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))

    def open(self, address: str) -> Any:
        self.page.goto(address)
        self.page.wait_for_selector("html[data-ready=yes]")
        return self.page


@pytest.fixture
def opened(browser: Any, tmp_path: Path) -> Any:
    watched = Watched(browser, viewport={"width": 1200, "height": 900})
    watched.open(write_page(experiment(tmp_path)).as_uri())
    yield watched
    watched.page.close()


def draw_all(page: Any) -> None:
    page.evaluate("document.querySelectorAll('.plot').forEach((plot) => plot.scrollIntoView())")
    for plot in page.query_selector_all(".plot"):
        plot.scroll_into_view_if_needed()
        page.wait_for_function("(node) => node.classList.contains('js-plotly-plot')", arg=plot)


class TestInABrowser:
    def test_no_error_no_request_no_script_of_a_name(self, opened: Watched) -> None:
        draw_all(opened.page)
        assert opened.said == []
        assert [url for url in opened.asked if not url.startswith(("file:", "data:", "blob:"))] == []
        assert opened.page.evaluate("window.hacked") is None
        assert opened.page.query_selector("main img") is None
        assert HOSTILE in opened.page.inner_text("#runs")
        assert HOSTILE in opened.page.inner_text("#diagnosis")

    def test_tables_sort(self, opened: Watched) -> None:
        page = opened.page

        def column() -> list[float]:
            cells = page.query_selector_all("#table tbody td:nth-child(3)")
            return [float(cell.get_attribute("data-value")) for cell in cells]

        page.click("#table thead th:nth-child(3) button")
        assert column() == sorted(column(), reverse=True)
        page.click("#table thead th:nth-child(3) button")
        assert column() == sorted(column())
        assert page.get_attribute("#table thead th:nth-child(3)", "aria-sort") == "ascending"

    def test_hover_names_the_run_and_a_click_marks_it_everywhere(self, opened: Watched) -> None:
        page = opened.page
        draw_all(page)
        first = page.query_selector("[data-figure=figure1] .plot")
        first.scroll_into_view_if_needed()
        box = page.query_selector("[data-figure=figure1] .scatterlayer .trace:first-child path.point").bounding_box()
        page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        page.wait_for_selector("[data-figure=figure1] .hoverlayer text")
        assert "learning_rate" in page.inner_html("[data-figure=figure1] .hoverlayer")
        page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        page.wait_for_function("document.documentElement.dataset.marked !== ''")
        marked = page.evaluate("document.documentElement.dataset.marked")
        assert page.get_attribute("tr.marked", "data-run") == marked
        sizes = page.evaluate(
            "[...document.querySelectorAll('.plot')].map((plot) => plot.data.filter("
            "(trace) => Array.isArray(trace.marker?.size)).some((trace) => trace.marker.size.includes(15)))"
        )
        assert sum(sizes) >= 4  # Figure 1, both shifts, a setting

    def test_the_keyboard_marks_too(self, opened: Watched) -> None:
        page = opened.page
        page.focus("tr[data-run='run-002']")
        page.keyboard.press("Enter")
        assert page.get_attribute("tr.marked", "data-run") == "run-002"
        page.keyboard.press("Enter")
        assert page.query_selector("tr.marked") is None

    def test_dark_and_light(self, browser: Any, tmp_path: Path) -> None:
        uri = write_page(experiment(tmp_path)).as_uri()
        watched = Watched(browser, color_scheme="dark")
        page = watched.open(uri)
        background = "getComputedStyle(document.body).backgroundColor"
        assert page.evaluate(background) == "rgb(20, 23, 26)"
        draw_all(page)
        page.click("#theme")
        assert page.evaluate(background) == "rgb(255, 255, 255)"
        assert watched.said == []
        page.close()

    def test_a_phone_scrolls_no_page_sideways(self, browser: Any, tmp_path: Path) -> None:
        watched = Watched(browser, viewport={"width": 390, "height": 844})
        page = watched.open(write_page(experiment(tmp_path)).as_uri())
        draw_all(page)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        page.close()

    def test_large_experiments_stay_small_and_quick(self, browser: Any, tmp_path: Path) -> None:
        path = write_page(experiment(tmp_path, runs=200, shifts=8))
        assert path.stat().st_size < 8_000_000
        watched = Watched(browser)
        watched.open(path.as_uri())
        assert len(watched.page.query_selector_all("tr[data-run]")) == 200
        assert watched.said == []
        watched.page.close()

    def test_a_served_page_picks_up_a_new_run(self, browser: Any, tmp_path: Path) -> None:
        land(tmp_path, "run-00")
        with page_server(tmp_path) as server:
            thread = threading.Thread(target=server.serve_forever, daemon=True)
            thread.start()
            watched = Watched(browser)
            page = watched.open(f"http://127.0.0.1:{server.server_address[1]}/")
            assert [row.get_attribute("data-run") for row in page.query_selector_all("tr[data-run]")] == ["run-00"]
            land(tmp_path, "run-01")
            page.wait_for_selector("tr[data-run='run-01']", state="attached", timeout=30_000)
            told = {"stage": "select", "line": f"greedy: + {HOSTILE} 0.74 kept", "done": 0, "total": 0}
            (tmp_path / "progress.jsonl").write_text(json.dumps(told) + '\n{"half')
            page.wait_for_selector("#progress li", timeout=30_000)
            assert page.inner_text("#progress li") == told["line"]
            assert page.evaluate("window.hacked") is None
            assert [text for text in watched.said if "favicon" not in text and "404" not in text] == []
            page.close()
            server.shutdown()
