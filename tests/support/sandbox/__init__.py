"""A host of a page's own: a private file system, network and processes, with a registry and an S3 server.

What an operator types is run as it stands in the page: `/var/lib/registry`, `/backup`, port 5000 and `/dev/sdb` are
there, and nothing of the real host can be changed. It is made of namespaces; see unshare(1).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from support.pages import CHECKOUT
from support.programs import require_program, require_root

PROGRAMS = {
    "docker-registry": "docker-registry",
    "mkfs.ext4": "e2fsprogs",
    "debugfs": "e2fsprogs",
    "script": "bsdutils",
    "skopeo": "skopeo",
    "borg": "borgbackup",
    "cryptsetup": "cryptsetup-bin",
    "zstd": "zstd",
}


def run_in_sandbox(steps: Sequence[dict[str, Any]], directory: Path, *, s3: bool, timeout: float = 400) -> str:
    """Run the steps of a page; return nothing, or what went wrong and the whole output.

    Args:
        steps: `support.pages.Step` as JSON.
        directory: where the root of the private file system is mounted.
        s3: whether an S3 server is started, with a bucket called `bucket`.
        timeout: seconds for all of it.
    """
    require_root("make a private file system")
    unshare = require_program("unshare", "util-linux")
    for program, package in PROGRAMS.items():
        require_program(program, package)
    place = directory / "root"
    place.mkdir()
    plan = directory / "plan.json"
    plan.write_text(json.dumps({"root": str(place), "s3": s3, "steps": list(steps)}))
    command = [unshare, "--mount", "--net", "--pid", "--ipc", "--fork", "--kill-child=KILL", "--propagation=private"]
    done = subprocess.run(
        [*command, sys.executable, "-m", "support.sandbox.host", str(plan)],
        cwd=CHECKOUT,
        # Nothing of the caller's: not its credentials, and not the coverage that it measures.
        env={
            "PATH": f"{Path(sys.executable).parent}:/usr/sbin:/usr/bin:/sbin:/bin",
            "PYTHONPATH": os.pathsep.join(str(CHECKOUT / name) for name in ("", "drivers", "tests")),
            "PYTHONDONTWRITEBYTECODE": "1",
            "LANG": "C.UTF-8",
        },
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout,
        check=False,
    )
    return "" if done.returncode == 0 else f"{done.stdout}\n(ended with {done.returncode})"
