"""Reports: what fills a registry's volume, what is shared on it, and what a collection or a deletion would free."""

from __future__ import annotations

from regstore.report.capacity import Capacity, RepositoryRow, TagRow, measure_capacity
from regstore.report.options import Options
from regstore.report.sharing import Sharing, measure_sharing
from regstore.report.whatif import Rule, parse_rule

__all__ = [
    "Capacity",
    "Options",
    "RepositoryRow",
    "Rule",
    "Sharing",
    "TagRow",
    "measure_capacity",
    "measure_sharing",
    "parse_rule",
]
