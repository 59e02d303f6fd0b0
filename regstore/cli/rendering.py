"""Forms of a report beside the table: CSV, and where the text goes."""

from __future__ import annotations

import csv
import io
import sys
from typing import TYPE_CHECKING, Any

from regstore.outfile import write_lines
from regstore.wording import plain

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

FORMATS = ("table", "json", "csv", "prom", "html")


def csv_lines(columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return rows as CSV: the JSON field names as header, raw bytes, ISO times, lists with blanks between."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([[_cell(row[name]) for name in columns] for row in rows])
    return [buffer.getvalue()]


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, list):
        return " ".join(plain(str(item)) for item in value)
    return plain(str(value))


def emit(lines: Sequence[str], path: str | None) -> None:
    """Write to a file, whole or not at all, or to stdout."""
    if path:
        write_lines(path, lines, "report")
        return
    sys.stdout.writelines(lines)
    sys.stdout.flush()  # here, where a closed pipe is an error that is handled
