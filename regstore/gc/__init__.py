"""Garbage collection that never loses a live image. See docs/what-is-live.md and docs/online-safety.md."""

from regstore.gc.actions import Action, Kind, Plan, Refusal, RepositorySummary, Summary, Verb
from regstore.gc.apply import Result, apply_plan, collect
from regstore.gc.options import Options
from regstore.gc.plan import plan_collection
from regstore.gc.planfile import read_plan, write_plan
from regstore.gc.purge import PurgeResult, purge
from regstore.gc.status import RunStatus, Status, read_status
from regstore.gc.undo import UndoResult, undo

__all__ = [
    "Action",
    "Kind",
    "Options",
    "Plan",
    "PurgeResult",
    "Refusal",
    "RepositorySummary",
    "Result",
    "RunStatus",
    "Status",
    "Summary",
    "UndoResult",
    "Verb",
    "apply_plan",
    "collect",
    "plan_collection",
    "purge",
    "read_plan",
    "read_status",
    "undo",
    "write_plan",
]
