"""The JSON document of every command, as scripts read it: these keys at its top, and no others.

A new key is added here, on purpose; one that is renamed or goes away breaks somebody's script, and needs a new
`schema_version`.
"""

from __future__ import annotations

import json
import tempfile
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from support.images import layers
from support.luks_headers import make_luks1
from support.packaging import Program, command_paths
from support.volume import VolumeWriter

EVERYWHERE = {
    "schema_version": int,
    "tool_version": str,
    "command": str,
    "location": str,
    "started_at": str,
    "duration_seconds": float,
    "exit_code": int,
    "findings": list,
}
FINDING = {"id", "severity", "subject", "detail", "repair"}

COLLECTED = "condemned_count freed_bytes purged_bytes removed restored_count run_id skipped_count summary"

# Words, exit code, and the keys beside those of every document; in an order in which each has something to do.
RUNS: list[tuple[str, int, str]] = [
    ("config show", 0, "values"),
    ("config check", 1, ""),
    ("backup init nas", 0, "store_id"),
    ("backup create main nas", 0, "snapshot store"),
    ("backup list nas", 0, "snapshots"),
    ("backup show nas", 0, "damage repositories snapshot"),
    (
        "backup diff nas latest latest",
        0,
        "added added_blobs added_bytes deleted deleted_blobs deleted_bytes moved new old",
    ),
    ("backup verify nas", 0, "blobs bytes hashed_bytes hashed_files snapshots"),
    ("backup test-restore nas", 0, "tried"),
    (
        "backup prune nas",
        0,
        "condemned_bytes condemned_files deleted_bytes deleted_files is_dry_run kept removed",
    ),
    ("backup unlock nas", 0, "holder removed"),
    (
        "drill nas",
        0,
        "first_pull_seconds full_restore_seconds images recovery_seconds registry_program restore_seconds "
        "restored_blobs restored_bytes scratch snapshot",
    ),
    ("backup export --plain nas latest {base}/export", 0, "snapshot tags written_bytes"),
    (
        "restore nas {base}/restored",
        0,
        "blobs bytes is_dry_run kept_blobs lost repositories snapshot tags written_blobs written_bytes",
    ),
    (
        "gc plan --offline --grace 0s --out {base}/plan main",
        0,
        "condemned_count freed_bytes refusals removed summary",
    ),
    ("gc apply {base}/plan", 0, COLLECTED),
    ("gc run --offline main", 0, COLLECTED),
    ("gc status main", 0, "condemned_count locked_by quarantined_bytes runs"),
    ("gc undo main", 0, "kept_count lost_count restored_bytes restored_count run_id"),
    ("gc purge main", 0, "deleted_count freed_bytes restored_count runs"),
    ("fsck main", 0, "repair summary"),
    ("fsck --repair --yes main", 0, "repair summary"),
    ("fsck undo main", 0, "kept_count restored_count run_id withdrawn_count"),
    ("report capacity main", 0, "forecast namespaces repositories strays totals volume"),
    ("report dedup main", 0, "layers level pairs totals"),
    (
        "migrate plan main {base}/moved",
        0,
        "blobs bytes estimate features gone_tags links moved_tags new_tags repositories tags target target_kind "
        "to_be_hashed",
    ),
    (
        "migrate run main {base}/moved",
        0,
        "copied_blobs copied_bytes gone_tags moved_tags removed_tags repositories server_copied_blobs "
        "server_copied_bytes tags target target_kind written_links written_tags",
    ),
    ("migrate verify main {base}/moved", 0, "hashed_blobs hashed_bytes is_equal items target"),
    ("luks check {base}/luks.img", 1, "device luks_version target uuid"),
    ("luks backup-header {base}/luks.img {other}/luks.hdr", 0, "file manifest"),
    ("run nightly main", 0, "steps"),
    ("run test-notifications main", 4, "channels"),
    ("status", 0, "registries timers"),
]


@pytest.fixture(scope="module")
def ended(environment: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[int, str]]:
    """The exit code and the output of every run, by its words: all on one host."""
    base = tmp_path_factory.mktemp("host")
    writer = VolumeWriter(base / "volume")
    writer.push_image("team/app", "v1", layers(1, "app"))
    writer.blob(b"lost")
    make_luks1(base / "luks.img")
    (base / "config.toml").write_text(
        f'[registry.main]\nlocation = "{base}/volume"\n[store.nas]\nlocation = "{base}/store"\nkeep_daily = 3\n'
        '[nightly.main]\nstore = "nas"\nwebhook_url = "http://127.0.0.1:9/"\n'
    )
    program = Program(
        [str(environment / "bin" / "regstore"), "--config", str(base / "config.toml")],
        base,
        variables={"XDG_STATE_HOME": str(base)},
    )
    with tempfile.TemporaryDirectory(dir="/dev/shm") as other:  # luks backup-header wants another disk
        found = {}
        for words, _, _ in RUNS:
            done = program.run(*words.format(base=base, other=other).split(), "--json")
            found[words] = (done.returncode, done.stdout or done.stderr)
    return found


@pytest.mark.parametrize(("words", "code", "keys"), RUNS, ids=[words for words, _, _ in RUNS])
def test_document(ended: dict[str, tuple[int, str]], words: str, code: int, keys: str) -> None:
    found, text = ended[words]
    assert found == code, text
    document: dict[str, Any] = json.loads(text)

    assert set(document) - EVERYWHERE.keys() == set(keys.split())
    for key, kind in EVERYWHERE.items():
        assert type(document[key]) is kind, key
    assert document["schema_version"] == 1
    assert words.startswith(document["command"])
    assert document["exit_code"] == code
    started = datetime.fromisoformat(document["started_at"])
    assert started.utcoffset() is not None
    assert all(set(finding) >= FINDING for finding in document["findings"])


def test_every_command_with_json_is_here(environment: Path, tmp_path: Path) -> None:
    commands = {path.removeprefix("regstore ") for path in command_paths(environment, tmp_path, "--json")}

    assert len(commands) > 20
    assert {name for name in commands if not any(words.startswith(name) for words, _, _ in RUNS)} == set()
