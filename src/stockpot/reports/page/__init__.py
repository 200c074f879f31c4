"""One self-contained HTML page from a folder's records: no network, no framework, no torch."""

from __future__ import annotations

from stockpot.reports.page.document import page_document
from stockpot.reports.page.html import PAGE_NAME, page_html, write_page

__all__ = ["PAGE_NAME", "page_document", "page_html", "write_page"]
