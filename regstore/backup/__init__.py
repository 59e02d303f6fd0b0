"""Backups of registries that may be live: stores of snapshots, what is in them, and the way back."""

from regstore.backup.borg.passphrase import PassphraseOptions
from regstore.backup.catalogue import BackupFinding
from regstore.backup.choose import Selection
from regstore.backup.compare import Difference, compare_snapshots
from regstore.backup.create import CreateOptions, CreateResult, create_backup
from regstore.backup.engine import SnapshotStore
from regstore.backup.locations import AnyStore, is_borg, open_any_store, open_repository
from regstore.backup.opening import init_store, open_store
from regstore.backup.origin import StoreSource
from regstore.backup.prune import PruneOptions, PrunePlan, PruneResult, plan_prune, prune_store
from regstore.backup.restore import Restore, RestoreOptions, RestorePlan, RestoreResult
from regstore.backup.retention import Rules
from regstore.backup.select import LATEST, find_snapshot, iter_snapshots, parse_time
from regstore.backup.snapshot import Head, Snapshot
from regstore.backup.store import Store
from regstore.backup.trial import TrialResult, Tried, try_restore
from regstore.backup.verify import VerifyOptions, VerifyResult, parse_subset, verify_store
from regstore.transfer import Contents, iter_data

__all__ = [
    "LATEST",
    "AnyStore",
    "BackupFinding",
    "Contents",
    "CreateOptions",
    "CreateResult",
    "Difference",
    "Head",
    "PassphraseOptions",
    "PruneOptions",
    "PrunePlan",
    "PruneResult",
    "Restore",
    "RestoreOptions",
    "RestorePlan",
    "RestoreResult",
    "Rules",
    "Selection",
    "Snapshot",
    "SnapshotStore",
    "Store",
    "StoreSource",
    "TrialResult",
    "Tried",
    "VerifyOptions",
    "VerifyResult",
    "compare_snapshots",
    "create_backup",
    "find_snapshot",
    "init_store",
    "is_borg",
    "iter_data",
    "iter_snapshots",
    "open_any_store",
    "open_repository",
    "open_store",
    "parse_subset",
    "parse_time",
    "plan_prune",
    "prune_store",
    "try_restore",
    "verify_store",
]
