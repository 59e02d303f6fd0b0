"""Make everything that is released; see scripts/release."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bill_of_materials import write_bill
from debian_package import write_package
from runtime import HERE, make_directory
from zipapp_file import write_zipapp

CHECKOUT = HERE.parents[1]
PARTS = ("wheel", "sdist", "man", "completions", "deb", "zipapp", "sbom", "sums")
_SHELLS = ("bash", "zsh", "fish")


def make_release(out: Path, parts: list[str]) -> None:
    """Make some parts below a directory; those that need others make them too."""
    epoch = _epoch()
    out.mkdir(parents=True, exist_ok=True)
    wheel = _build(out, "wheel")
    if "sdist" in parts:
        _build(out, "sdist")
    if {"man", "completions", "deb"} & set(parts):
        _describe(wheel, out, epoch)
    if "deb" in parts:
        _say(f"made {write_package(wheel, out / 'man', out / 'completions', out, epoch)}")
    if "zipapp" in parts:
        write_zipapp(wheel, out / "regstore.pyz", epoch)
        _say(f"made {out / 'regstore.pyz'}")
    if "sbom" in parts:
        file = out / f"regstore-{wheel.name.split('-')[1]}.cdx.json"
        write_bill(wheel, file)
        _say(f"made {file}")
    if "sums" in parts:
        _write_sums(out)


def _say(text: str) -> None:
    print(text, file=sys.stderr)


def _epoch() -> int:
    """Return the time that is written into files: of the environment, or of the last commit, or now."""
    given = os.environ.get("SOURCE_DATE_EPOCH")
    if given:
        return int(given)
    done = subprocess.run(
        ["git", "log", "-1", "--format=%ct"], cwd=CHECKOUT, check=False, capture_output=True, text=True
    )
    return int(done.stdout) if done.returncode == 0 and done.stdout.strip() else int(time.time())


def _build(out: Path, kind: str) -> Path:
    pattern = "regstore-*.whl" if kind == "wheel" else "regstore-*.tar.gz"
    for former in out.glob(pattern):
        former.unlink()
    command = [sys.executable, "-m", "build", f"--{kind}", "--no-isolation", "--outdir", str(out), str(CHECKOUT)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    (built,) = out.glob(pattern)
    _say(f"made {built}")
    return built


def _describe(wheel: Path, out: Path, epoch: int) -> None:
    """Write manual pages and completions, told by the wheel itself."""
    with tempfile.TemporaryDirectory() as work:
        program = Path(work, "regstore")
        make_directory(wheel, program, f"{sys.version_info[0]}.{sys.version_info[1]}")
        date = time.strftime("%Y-%m-%d", time.gmtime(epoch))
        command = [sys.executable, str(HERE / "man_pages.py"), str(out / "man"), date]
        subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": str(program)})
        (out / "completions").mkdir(exist_ok=True)
        for shell in _SHELLS:
            with (out / "completions" / shell).open("wb") as file:
                subprocess.run([sys.executable, "-I", str(program), "completion", shell], check=True, stdout=file)
    _say(f"made {out / 'man'} and {out / 'completions'}")


def _write_sums(out: Path) -> None:
    lines = [
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(out)}\n"
        for path in sorted(out.rglob("*"))
        if path.is_file() and path.name != "SHA256SUMS"
    ]
    (out / "SHA256SUMS").write_text("".join(lines))
    _say(f"made {out / 'SHA256SUMS'}")


if __name__ == "__main__":
    make_release(Path(sys.argv[1]).resolve(), sys.argv[2:] or list(PARTS))
