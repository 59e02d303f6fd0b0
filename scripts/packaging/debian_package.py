"""A package for Debian and Ubuntu: regstore and its dependencies below /usr/lib/regstore, run by the system's Python.

Debian 12 has a click that is too old. The libraries in C fit one minor version of Python, which is in the package's
dependencies.
"""

from __future__ import annotations

import gzip
import os
import shutil
import subprocess
import sys
import tempfile
import time
from email.utils import formatdate
from importlib.metadata import distributions
from pathlib import Path

from runtime import HERE, make_directory

_CHECKOUT = HERE.parents[1]
_SYSTEM_PYTHON = "/usr/bin/python3"
_MAINTAINER = "The maintainers of regstore <regstore@localhost.localdomain>"
_UNIT_HEADER = """\
# Of the package regstore. Where `regstore service install` finds your configuration, it writes units to
# /etc/systemd/system that go before these: with its time, and with the directories that it names.
"""
# Where registries, backups and metrics lie by custom; `-` in the unit lets those be absent.
_WRITABLE = (
    "/backup", "/mnt", "/srv", "/var/lib/docker-registry", "/var/lib/prometheus/node-exporter", "/var/lib/registry",
)  # fmt: skip
_COMPLETIONS = {
    "bash": "usr/share/bash-completion/completions/regstore",
    "zsh": "usr/share/zsh/vendor-completions/_regstore",
    "fish": "usr/share/fish/vendor_completions.d/regstore.fish",
}


def write_package(wheel: Path, man: Path, completions: Path, directory: Path, epoch: int) -> Path:
    """Write `regstore_VERSION_ARCHITECTURE.deb` into a directory and return its path.

    Args:
        wheel: of regstore.
        man: the directory with the pages.
        completions: the directory with one file a shell, by its name.
        directory: where the package goes.
        epoch: the time of its files, in seconds.
    """
    version = wheel.name.split("-")[1]
    architecture = _output("dpkg", "--print-architecture")
    python = _output(_SYSTEM_PYTHON, "-c", "import sys; print('%d.%d' % sys.version_info[:2])")
    with tempfile.TemporaryDirectory() as work:
        root = Path(work, "root")
        _fill(root, wheel, man, completions, python)
        _write_documents(root / "usr/share/doc/regstore", root / "usr/lib/regstore", version, epoch)
        _write_control(root, version, architecture, python)
        for path in [root, *root.rglob("*")]:
            if not path.is_symlink():
                is_program = path.is_dir() or (path.parent.name in ("bin", "DEBIAN") and path.name not in _DATA)
                path.chmod(0o755 if is_program else 0o644)
            os.utime(path, (epoch, epoch), follow_symlinks=False)
        file = directory / f"regstore_{version}_{architecture}.deb"
        command = ["dpkg-deb", "--root-owner-group", "-Zxz", "--build", str(root), str(file)]
        subprocess.run(command, check=True, env={**os.environ, "SOURCE_DATE_EPOCH": str(epoch)}, stdout=sys.stderr)
    return file


_DATA = ("control", "conffiles", "md5sums")


def _output(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def _fill(root: Path, wheel: Path, man: Path, completions: Path, python: str) -> None:
    library = root / "usr/lib/regstore"
    library.parent.mkdir(parents=True)
    make_directory(wheel, library, python)
    _copy(HERE / "deb" / "regstore", root / "usr/bin/regstore")
    for page in sorted(man.glob("*.1")):
        _write_compressed(root / "usr/share/man/man1" / f"{page.name}.gz", page.read_bytes())
    for shell, place in _COMPLETIONS.items():
        _copy(completions / shell, root / place)
    (root / "etc/regstore").mkdir(parents=True)
    for name, text in _units(library).items():
        path = root / "usr/lib/systemd/system" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def _units(library: Path) -> dict[str, str]:
    """Return the units that `regstore service install` would write, by their names."""
    sys.path.insert(0, str(library))
    from regstore.service import make_units

    units = make_units("/usr/bin/regstore", "/etc/regstore/config.toml", _WRITABLE, (2, 30))
    return {os.path.basename(unit.path): _UNIT_HEADER + unit.text.partition("\n")[2] for unit in units}


def _write_documents(documents: Path, library: Path, version: str, epoch: int) -> None:
    shutil.copytree(_CHECKOUT / "docs", documents / "docs")
    _copy(_CHECKOUT / "README.md", documents / "README.md")
    entry = f"regstore ({version}) stable; urgency=medium\n\n  * See docs/ and CHANGELOG.md of this version.\n\n"
    entry += f" -- {_maintainer()}  {formatdate(epoch)}\n"
    _write_compressed(documents / "changelog.gz", entry.encode())
    lines = ["regstore is under the Apache License 2.0: /usr/share/common-licenses/Apache-2.0", ""]
    lines += ["These are part of the package, below /usr/lib/regstore, each with its licence in NAME.dist-info:", ""]
    for found in sorted(distributions(path=[str(library)]), key=lambda found: found.name.lower()):
        said = found.metadata.get("License-Expression") or found.metadata.get("License") or "see its files"
        lines.append(f"  {found.name} {found.version}: {said.splitlines()[0]}")
    lines += ["", f"Copyright {time.gmtime(epoch).tm_year}, its authors", ""]
    (documents / "copyright").write_text("\n".join(lines))


def _write_control(root: Path, version: str, architecture: str, python: str) -> None:
    control = root / "DEBIAN"
    control.mkdir()
    files = [path for path in root.rglob("*") if path.is_file()]
    major, minor = python.split(".")
    text = (HERE / "deb" / "control").read_text()
    (control / "control").write_text(
        text.format(
            version=version,
            architecture=architecture,
            maintainer=_maintainer(),
            kibibytes=sum(path.stat().st_size for path in files) // 1024,
            python=python,
            next_python=f"{major}.{int(minor) + 1}",
        )
    )
    sums = [f"{_output('md5sum', str(path)).split()[0]}  {path.relative_to(root)}\n" for path in sorted(files)]
    (control / "md5sums").write_text("".join(sums))
    for name in ("postinst", "prerm", "postrm"):
        _copy(HERE / "deb" / name, control / name)


def _maintainer() -> str:
    """Return who Debian's own tools would name as the one who makes packages here."""
    if os.environ.get("DEBEMAIL"):
        return f"{os.environ.get('DEBFULLNAME', 'regstore')} <{os.environ['DEBEMAIL']}>"
    return _MAINTAINER


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


def _write_compressed(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(content, 9, mtime=0))
