"""The HTML page of a report: the JSON document as one file that needs nothing else, neither network nor script."""

from __future__ import annotations

from regstore.report.page.capacity import render_capacity_page
from regstore.report.page.dedup import render_dedup_page

__all__ = ["render_capacity_page", "render_dedup_page"]
