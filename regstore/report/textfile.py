"""Bringing the jobs in a Prometheus text file up to date, where the numbers of the volume stay as they were.

The metrics of a night are taken before it ends, and not at all when that step fails or is left out: the file must show
that too.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from regstore.outfile import write_lines
from regstore.report.exposition import METRICS_OF_JOBS, describe, job_samples, sample_line

if TYPE_CHECKING:
    from collections.abc import Mapping

    from regstore.jobs import JobNote

_FINDINGS = "regstore_findings"
_NAME = re.compile(r"(?:# (?:HELP|TYPE) )?([a-zA-Z_:][a-zA-Z0-9_:]*)")
_OF_REPORT = re.compile(r'[{,]job="report"')


def update_jobs(path: str, location: str, notes: Mapping[str, JobNote]) -> None:
    """Write when and how jobs ended, and what they found, into a text file; one that is not there is made.

    Args:
        path: the file; a device or pipe is left alone.
        location: of the registry, as `regstore metrics` names it.
        notes: of every job, by name.

    Raises:
        UsageError: it cannot be written there.
        OSError: it cannot be read.
    """
    if os.path.exists(path) and not os.path.isfile(path):
        return
    text = ""
    if os.path.exists(path):
        with open(path, encoding="utf-8", errors="replace") as file:
            text = file.read()
    write_lines(path, [merge_jobs(text, location, notes)], "metrics")


def merge_jobs(text: str, location: str, notes: Mapping[str, JobNote]) -> str:
    """Return the text with the samples of jobs replaced; the lines of one metric stay together, as the format wants."""
    groups: dict[str, list[str]] = {}
    for line in text.splitlines():
        match = _NAME.match(line)
        name = match[1] if match else ""
        is_old = name in METRICS_OF_JOBS or (
            name == _FINDINGS and not line.startswith("#") and not _OF_REPORT.search(line)
        )
        if line and not is_old:
            groups.setdefault(name, []).append(line)
    for sample in job_samples(location, notes):
        groups.setdefault(sample[0], describe(sample[0])).append(sample_line(sample))
    # HELP and TYPE of findings that are all gone would stay alone.
    groups = {name: lines for name, lines in groups.items() if not name or not all(x.startswith("#") for x in lines)}
    return "".join(f"{line}\n" for lines in groups.values() for line in lines)
