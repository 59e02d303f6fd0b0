"""The first process of a sandbox: makes the file system and the servers, then runs the steps. Run by unshare(1)."""

from __future__ import annotations

import fcntl
import json
import os
import shlex
import shutil
import socket
import struct
import subprocess
import sys
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from support.pages import CHECKOUT
from support.seaweed import require_weed, running_seaweed

PROGRAMS = Path(__file__).parent / "programs"
SYSTEM = ("usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32", "opt")
SETTINGS = ("passwd", "group", "nsswitch.conf", "ld.so.cache", "containers", "ssl", "alternatives", "localtime")
# File systems of their own: for regstore these are disks.
DISKS = ("backup", "mnt/usb", "mnt/safe", "mnt/new", "srv", "dev")
DIRECTORIES = (
    *("etc", "home/backup", "proc", "root", "run", "sys", "tmp"),
    *("var/lib/registry", "var/lib/prometheus/node-exporter", "var/log"),
)

AGE = timedelta(days=9)
DISK_BYTES = 512 << 20
DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
SIOCSIFFLAGS, IFF_UP_RUNNING = 0x8914, 0x41  # netdevice(7)


def mount(*words: object) -> None:
    subprocess.run(["mount", *map(str, words)], check=True)


def make_root(root: Path) -> None:
    """Mount a system whose programs are the host's, read-only, and whose data are new."""
    mount("-t", "tmpfs", "-o", "mode=755", "sandbox", root)
    for name in SYSTEM:
        source = Path("/", name)
        if source.is_symlink():
            (root / name).symlink_to(os.readlink(source))
        elif source.is_dir():
            bind(source, root)
    # What lies in another of them is there with it, so the shorter ones come first.
    for needed in sorted((Path(sys.prefix), Path(sys.base_prefix), CHECKOUT), key=lambda path: len(path.parts)):
        if not (root / needed.relative_to("/")).exists():
            bind(needed, root)
    for name in (*DIRECTORIES, *DISKS):
        (root / name).mkdir(parents=True, exist_ok=True)
    for name in DISKS:
        mount("-t", "tmpfs", "-o", "mode=755", f"disk-{name.replace('/', '-')}", root / name)
    (root / "tmp").chmod(0o1777)
    mount("-t", "proc", "proc", root / "proc")
    mount("--bind", "-o", "ro", "/sys", root / "sys")
    make_devices(root / "dev")
    for name in SETTINGS:
        source = Path("/etc", name)
        if source.is_dir():
            shutil.copytree(source, root / "etc" / name, symlinks=True)
        elif source.exists():
            shutil.copy(source, root / "etc" / name)
    (root / "etc/hosts").write_text("127.0.0.1 localhost\n")


def bind(source: Path, root: Path) -> None:
    target = root / source.relative_to("/")
    target.mkdir(parents=True, exist_ok=True)
    mount("--bind", "-o", "ro", source, target)


def make_devices(dev: Path) -> None:
    # The loop devices are the kernel's, and the same for all: a mount takes a free one.
    for name in (*DEVICES, *(path.name for path in Path("/dev").glob("loop*"))):
        (dev / name).touch()
        mount("--bind", f"/dev/{name}", dev / name)
    (dev / "pts").mkdir()
    mount("-t", "devpts", "-o", "newinstance,ptmxmode=0666", "devpts", dev / "pts")
    (dev / "ptmx").symlink_to("pts/ptmx")
    (dev / "fd").symlink_to("/proc/self/fd")
    (dev / "shm").mkdir()


def start_loopback() -> None:
    with socket.socket() as any_socket:
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sh", b"lo", IFF_UP_RUNNING))


def make_old_disk(content: Path, place: Path) -> None:
    """Mount an ext4 on which all of a directory was written long ago: no call of the kernel changes a ctime so."""
    old = datetime.now(UTC) - AGE
    os.utime(content, (old.timestamp(), old.timestamp()))
    names = ["/"]
    for path in content.rglob("*"):
        os.utime(path, (old.timestamp(), old.timestamp()))
        names.append(f"/{path.relative_to(content)}")
    image = Path("/tmp/disk.img")
    with image.open("wb") as file:
        file.truncate(DISK_BYTES)
    subprocess.run(["mkfs.ext4", "-q", "-d", str(content), str(image)], check=True)
    commands = "".join(f'set_inode_field "{name}" ctime {old:%Y%m%d%H%M%S}\n' for name in names)
    subprocess.run(["debugfs", "-w", "-f", "-", str(image)], input=commands.encode(), capture_output=True, check=True)
    shutil.rmtree(content)
    mount("-o", "loop", image, place)


def start_registry(environment: dict[str, str]) -> None:
    """Serve the sample volume on port 5000, configured as Debian's package does, with deletion.

    All was pushed nine days ago, but for one tag that was moved just now.
    """
    subprocess.run([sys.executable, str(CHECKOUT / "scripts/sample-volume"), "/tmp/sample"], check=True)
    make_old_disk(Path("/tmp/sample"), Path("/var/lib/registry"))
    Path("/var/lib/registry/docker/registry/v2/repositories/shop/web/_manifests/tags/latest/current/link").touch()
    config = Path("/etc/docker/registry/config.yml")
    config.parent.mkdir(parents=True)
    config.write_text(
        "version: 0.1\n"
        "storage:\n"
        "  cache: {blobdescriptor: inmemory}\n"
        "  filesystem: {rootdirectory: /var/lib/registry}\n"
        "  delete: {enabled: true}\n"
        "http: {addr: '127.0.0.1:5000', secret: loopback}\n"
    )
    subprocess.run(["systemctl", "start", "docker-registry"], env=environment, check=True)


def script_of(steps: list[dict[str, Any]]) -> str:
    """Return a script that runs the steps in one shell, so that what they export and where they go stays."""
    lines = []
    for step in steps:
        command, wanted = step["command"], step["exit_code"]
        lines.append(f"printf '%s\\n' {shlex.quote('+ ' + step['where'] + ': ' + command)}")
        if step["file"]:
            place = shlex.quote(step["file"])
            lines.append(
                f"mkdir -p $(dirname {place}); printf %s {shlex.quote(command)} >{place}; code=$?; :>/tmp/output"
            )
        elif step["answer"]:
            asked = f"script --quiet --return --command {shlex.quote(command)} /dev/null"
            lines.append(f"(sleep 3; echo {step['answer']}; sleep 1) | {asked} >/tmp/output 2>&1; code=$?")
        else:
            lines.append(f"{{ eval {shlex.quote(command)}\n}} >/tmp/output 2>&1 </dev/null; code=$?")
        lines.append("cat /tmp/output; echo")
        says = shlex.quote(f"{step['where']}: this must end with {wanted}: {command}")
        lines.append(f'[ $code = {wanted} ] || {{ printf "%s\\nit ended with %s\\n" {says} $code; exit 1; }}')
        if step["is_silent"]:
            says = shlex.quote(f"{step['where']}: cron would send mail")
            lines.append(f"[ ! -s /tmp/output ] || {{ echo {says}; exit 1; }}")
    return "\n".join(lines)


def main(plan_file: str) -> int:
    """Run a plan and return 0 when every step ended as it must."""
    plan = json.loads(Path(plan_file).read_text())
    make_root(Path(plan["root"]))
    os.chroot(plan["root"])
    os.chdir("/root")
    start_loopback()
    environment = {**os.environ, "PATH": f"{PROGRAMS}:{os.environ['PATH']}", "HOME": "/root"}
    with ExitStack() as servers:
        if plan["s3"]:
            server = servers.enter_context(running_seaweed(require_weed()))
            server.create_bucket("bucket")
            environment |= {
                "AWS_ENDPOINT_URL": server.endpoint,
                "AWS_ACCESS_KEY_ID": server.access_key,
                "AWS_SECRET_ACCESS_KEY": server.secret_key,
                "AWS_DEFAULT_REGION": "us-east-1",
            }
        start_registry(environment)
        return subprocess.run(["sh", "-c", script_of(plan["steps"])], env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
