"""Finding what is broken on a registry volume, and repairing what can be repaired. See docs/fsck.md."""

from regstore.fsck.catalogue import CheckFinding
from regstore.fsck.check import CheckResult, check_registry
from regstore.fsck.data import Coverage
from regstore.fsck.idle import be_idle
from regstore.fsck.options import Options
from regstore.fsck.plan import RepairOptions, RepairPlan, Step, Verb, plan_repair
from regstore.fsck.quarantined import QuarantineSource
from regstore.fsck.repair import RepairResult, repair_registry
from regstore.fsck.sources import open_source
from regstore.fsck.undo import UndoResult, undo_repair
from regstore.transfer.fetching import Source

__all__ = [
    "CheckFinding",
    "CheckResult",
    "Coverage",
    "Options",
    "QuarantineSource",
    "RepairOptions",
    "RepairPlan",
    "RepairResult",
    "Source",
    "Step",
    "UndoResult",
    "Verb",
    "be_idle",
    "check_registry",
    "open_source",
    "plan_repair",
    "repair_registry",
    "undo_repair",
]
