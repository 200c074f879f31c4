"""How soon the page of a large experiment stands in a browser, and how large it is.

    python benchmarks/report.py [--quick] [--out benchmarks]

Random records (200 runs, held-out, test and 8 shifts) become report.html; headless Chromium opens it from disk, each
time in a context of its own. Timed from the navigation to the moment the page says that it is ready (table, runs and
the figures in view are drawn), and to the moment every figure has been scrolled to and drawn. Ratios are to an empty
page in the same rounds.

Needs the extra `dev` and Chromium. Writes report.md and report.json.
"""

from __future__ import annotations

import argparse
import json
import platform
import shutil
import statistics
import sys
import tempfile
import time
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY / "tests" / "reports" / "page"))

from pages import experiment  # noqa: E402

from stockpot.reports.page import write_page  # noqa: E402

_ARGUMENTS = ["--no-sandbox", "--disable-dev-shm-usage"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one round: does the script work?")
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parent)
    arguments = parser.parse_args()
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        print("no Chromium here: nothing measured")
        return
    with tempfile.TemporaryDirectory() as scratch:
        empty = Path(scratch) / "empty.html"
        empty.write_text("<!doctype html><html data-ready='yes'><title>empty</title>", encoding="utf-8")
        pages = {"empty": empty}
        for runs in (6, 200):
            pages[f"{runs} runs x 10 splits"] = write_page(
                experiment(Path(scratch) / f"{runs}", runs=runs, shifts=8, hostile=False)
            )
        found = measured(browser, pages, 1 if arguments.quick else 7)
    content = {"machine": machine(), "date": f"{date.today()}", "found": found}
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "report.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    text = "\n".join([*table(content), ""])
    (arguments.out / "report.md").write_text(text, encoding="utf-8")
    print(text)


def measured(browser: str, pages: dict[str, Path], n_rounds: int) -> dict[str, Any]:
    """Seconds to ready and to all drawn of every page, round after round; the first round warms up."""
    from playwright.sync_api import sync_playwright

    found: dict[str, Any] = {
        name: {"mb": path.stat().st_size / 1e6, "ready_s": [], "drawn_s": []} for name, path in pages.items()
    }
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=browser, args=_ARGUMENTS)
        for number in range(1 + n_rounds):
            for name, path in pages.items():
                ready, drawn = opened(chromium, path.as_uri())
                if number:
                    found[name]["ready_s"].append(ready)
                    found[name]["drawn_s"].append(drawn)
        chromium.close()
    return found


def opened(chromium: Any, address: str) -> tuple[float, float]:
    """Seconds until the page is ready, and until every figure of it is drawn."""
    context = chromium.new_context(viewport={"width": 1200, "height": 900})
    page = context.new_page()
    begun = time.perf_counter()
    page.goto(address)
    page.wait_for_selector("html[data-ready=yes]")
    ready = time.perf_counter() - begun
    for plot in page.query_selector_all(".plot"):
        plot.scroll_into_view_if_needed()
        page.wait_for_function("(node) => node.classList.contains('js-plotly-plot')", arg=plot)
    drawn = time.perf_counter() - begun
    context.close()
    return ready, drawn


def machine() -> str:
    here = f"{platform.machine()}, {platform.system()}, Python {platform.python_version()}"
    return f"{here}, playwright {version('playwright')}"


def table(content: dict[str, Any]) -> list[str]:
    """The page in Markdown."""
    lines = [
        "# Opening the report page",
        "",
        "Headless Chromium, from disk, a context of its own each time; medians of "
        f"{len(content['found']['empty']['ready_s'])} rounds (range). Made by `benchmarks/report.py`, "
        f"{content['date']}; {content['machine']}.",
        "",
        "| page | MB | ready, s | every figure drawn, s |",
        "| :-- | --: | --: | --: |",
    ]
    for name, one in content["found"].items():
        shown = [
            f"{statistics.median(one[key]):.2f} ({min(one[key]):.2f} to {max(one[key]):.2f})"
            for key in ("ready_s", "drawn_s")
        ]
        lines.append(f"| {name} | {one['mb']:.2f} | {shown[0]} | {shown[1]} |")
    return lines


if __name__ == "__main__":
    main()
