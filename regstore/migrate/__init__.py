"""Migration of a registry between file systems and buckets, while it serves."""

from regstore.migrate.cutover import CutOver, cut_over
from regstore.migrate.handover import describe_handover
from regstore.migrate.migration import Migration, MigrationResult
from regstore.migrate.options import MigrateOptions, Selection
from regstore.migrate.plan import MigrationPlan, write_plan
from regstore.migrate.probe import Estimate
from regstore.migrate.verify import Compared, Verification, Verifier

__all__ = [
    "Compared",
    "CutOver",
    "Estimate",
    "MigrateOptions",
    "Migration",
    "MigrationPlan",
    "MigrationResult",
    "Selection",
    "Verification",
    "Verifier",
    "cut_over",
    "describe_handover",
    "write_plan",
]
