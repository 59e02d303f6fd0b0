"""What `scripts/release` makes, used as its users would: on hosts that have nothing but their own Python."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import distributions
from pathlib import Path

import pytest

from regstore._version import __version__
from support.images import layers
from support.packaging import CHECKOUT, Program, command_paths, run
from support.programs import require_program, require_root
from support.volume import VolumeWriter, tag_link_key

pytestmark = pytest.mark.slow

SYSTEM_PYTHON = "/usr/bin/python3"
MAKER = [sys.executable, str(CHECKOUT / "scripts" / "packaging" / "release.py")]


def make(out: Path, *parts: str) -> Path:
    for module in ("build", "hatchling", "cyclonedx_py"):
        pytest.importorskip(module)
    for program, package in (("dpkg-deb", "dpkg"), ("strip", "binutils")):
        require_program(program, package)
    environment = {**os.environ, "SOURCE_DATE_EPOCH": "1760000000", "DEBEMAIL": "someone@debian.org"}
    done = subprocess.run([*MAKER, str(out), *parts], env=environment, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return out


@pytest.fixture(scope="session")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory with everything that is released."""
    return make(tmp_path_factory.mktemp("release") / "out")


@pytest.fixture(scope="session")
def deb_root(release: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root directory that the package was unpacked into."""
    root = tmp_path_factory.mktemp("deb") / "root"
    run(["dpkg-deb", "--extract", *release.glob("*.deb"), root], release)
    return root


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    writer = VolumeWriter(tmp_path / "volume")
    writer.push_image("team/app", "v1", layers(2, "app"))
    writer.blob(b"lost")
    return tmp_path / "volume"


def field(release: Path, name: str) -> str:
    (deb,) = release.glob("*.deb")
    return run(["dpkg-deb", "--field", deb, name], release).stdout.strip()


def test_the_same_version_everywhere(release: Path) -> None:
    versions = {
        "wheel": next(release.glob("*.whl")).name.split("-")[1],
        "sdist": next(release.glob("*.tar.gz")).name.removesuffix(".tar.gz").split("-")[1],
        "deb": field(release, "Version"),
        "man": re.findall(r'^\.TH .* "regstore (.*?)" ', (release / "man/regstore.1").read_text())[0],
        "sbom": json.loads(next(release.glob("*.cdx.json")).read_text())["metadata"]["component"]["version"],
        "zipapp": run([SYSTEM_PYTHON, "-I", release / "regstore.pyz", "--version"], release).stdout.split()[-1],
    }

    assert versions == dict.fromkeys(versions, __version__)


def test_sums(release: Path) -> None:
    checked = run(["sha256sum", "--check", "SHA256SUMS"], release).stdout

    assert checked.count(": OK") == len([path for path in release.rglob("*") if path.is_file()]) - 1


def test_the_same_sources_make_the_same_files(release: Path, tmp_path: Path) -> None:
    again = make(tmp_path / "again", "man", "deb", "zipapp", "sbom")

    for path in again.iterdir():
        if path.is_file():
            assert (
                hashlib.sha256(path.read_bytes()).digest()
                == hashlib.sha256((release / path.name).read_bytes()).digest()
            )


class TestManualPages:
    def test_every_command_has_one(self, release: Path, environment: Path, tmp_path: Path) -> None:
        expected = {f"{path.replace(' ', '-')}.1" for path in command_paths(environment, tmp_path)}
        assert {path.name for path in (release / "man").iterdir()} == expected

    def test_sections(self, release: Path) -> None:
        for page in (release / "man").iterdir():
            sections = re.findall(r"^\.SH (.*)$", page.read_text(), re.MULTILINE)
            for section in ("NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "EXAMPLES", "EXIT STATUS", "SEE ALSO"):
                assert sections.count(section) == 1, (page.name, section)
            assert "\b" not in page.read_text()

    def test_mandoc_has_nothing_to_say(self, release: Path) -> None:
        program = require_program("mandoc", "mandoc")
        pages = sorted((release / "man").iterdir())
        assert run([program, "-Tlint", "-Wwarning", *pages], release).stdout == ""

    def test_as_it_is_read(self, release: Path) -> None:
        program = require_program("mandoc", "mandoc")
        text = run([program, "-Tascii", release / "man/regstore-gc-run.1"], release).stdout
        shown = re.sub(r".\x08", "", text)
        assert re.search(r"^EXIT STATUS\n +0 +done and clean$", shown, re.MULTILINE)
        assert re.search(r"^ +regstore gc run --offline ", shown, re.MULTILINE)
        assert re.search(r"^ +-q, --quiet$", shown, re.MULTILINE)


class TestDebianPackage:
    def program(self, deb_root: Path, home: Path) -> Program:
        """The package's program, run by the system's Python from the scratch root."""
        command = (deb_root / "usr/bin/regstore").read_text().splitlines()[-1]
        assert command == 'exec /usr/bin/python3 -I /usr/lib/regstore "$@"'
        return Program(
            [SYSTEM_PYTHON, "-I", f"{deb_root}/usr/lib/regstore"], home, variables={"XDG_STATE_HOME": str(home)}
        )

    def test_dependencies(self, release: Path) -> None:
        version = run([SYSTEM_PYTHON, "-c", "import sys; print(*sys.version_info[:2])"], release).stdout.split()
        major, minor = map(int, version)
        assert f"python3 (>= {major}.{minor}), python3 (<< {major}.{minor + 1})" in field(release, "Depends")
        assert field(release, "Architecture") == run(["dpkg", "--print-architecture"], release).stdout.strip()

    def test_it_works(self, deb_root: Path, volume: Path, tmp_path: Path) -> None:
        program = self.program(deb_root, tmp_path)
        document = json.loads(
            program.run("gc", "plan", "--offline", "--grace", "0s", "--json", volume, expect=0).stdout
        )
        assert {item["kind"]: item["count"] for item in document["removed"]}["blob"] == 1
        program.run("fsck", "--data", "--layers", volume, expect=0)

    def test_install_and_purge(self, release: Path, tmp_path: Path) -> None:
        """With dpkg's own steps and the scripts of the package, in a root directory that has nothing else."""
        require_root("install a package")
        root = tmp_path / "root"
        (root / "var/lib/dpkg/info").mkdir(parents=True)
        (root / "var/lib/dpkg/updates").mkdir()
        (root / "var/lib/dpkg/status").touch()
        dpkg = ["dpkg", f"--root={root}", "--force-depends", "--force-script-chrootless"]

        run([*dpkg, "--install", *release.glob("*.deb")], tmp_path)
        library = root / "usr/lib/regstore"
        assert list((library / "regstore/__pycache__").glob("nightly.*.pyc"))
        assert __version__ in run([SYSTEM_PYTHON, "-I", library, "--version"], tmp_path).stdout
        run([*dpkg, "--purge", "regstore"], tmp_path)

        assert [path for path in root.rglob("*") if path.is_file() and "var/lib/dpkg" not in str(path)] == []

    def test_a_night(self, deb_root: Path, volume: Path, tmp_path: Path) -> None:
        """Its steps are processes of their own: they must find what is in no site-packages."""
        (tmp_path / "config.toml").write_text(f'[registry.main]\nlocation = "{volume}"\n[nightly.main]\n')
        program = self.program(deb_root, tmp_path)
        done = program.run("--config", tmp_path / "config.toml", "run", "nightly", "--json", "main", expect=0)
        assert [step["outcome"] for step in json.loads(done.stdout)["steps"]] == ["ok", "ok", "ok"]

    def test_s3_without_the_other_services(self, deb_root: Path, tmp_path: Path) -> None:
        program = "; ".join(
            [
                f"import sys; sys.path.insert(0, '{deb_root}/usr/lib/regstore')",
                "import boto3",
                "[boto3.client(name, region_name='eu-west-1') for name in ('s3', 'sts', 'sso', 'sso-oidc')]",
            ]
        )
        run([SYSTEM_PYTHON, "-I", "-c", program], tmp_path)

    def test_files(self, deb_root: Path) -> None:
        for name in (
            "usr/share/bash-completion/completions/regstore",
            "usr/share/zsh/vendor-completions/_regstore",
            "usr/share/fish/vendor_completions.d/regstore.fish",
        ):
            assert "_REGSTORE_COMPLETE" in (deb_root / name).read_text()
        page = gzip.decompress((deb_root / "usr/share/man/man1/regstore-gc-plan.1.gz").read_bytes())
        assert page.startswith(b".TH REGSTORE")
        assert list((deb_root / "etc/regstore").iterdir()) == []
        assert (deb_root / "usr/share/doc/regstore/docs/operations.md").is_file()

    def test_completion_in_bash(self, deb_root: Path, tmp_path: Path) -> None:
        completion = deb_root / "usr/share/bash-completion/completions/regstore"
        run(["bash", "-n", completion], tmp_path)

    def test_units(self, deb_root: Path, tmp_path: Path) -> None:
        program = require_program("systemd-analyze", "systemd")
        units = deb_root / "usr/lib/systemd/system"
        service = (units / "regstore-nightly@.service").read_text()
        assert "ExecStart=/usr/bin/regstore --config /etc/regstore/config.toml run nightly -q %i" in service
        assert "ReadWritePaths=-/var/lib/registry\n" in service
        for unit in units.iterdir():
            text = unit.read_text().replace("/usr/bin/regstore", "/bin/true")
            (tmp_path / unit.name.replace("@", "@main")).write_text(text)
        names = sorted(map(str, tmp_path.glob("regstore-nightly@main.*")))
        assert run([program, "verify", "--man=no", *names], tmp_path).stderr == ""

    def test_lintian_finds_no_error(self, release: Path) -> None:
        program = require_program("lintian", "lintian")
        command = [program, "--allow-root", "--fail-on", "error", "--tag-display-limit", "0", *release.glob("*.deb")]
        run(command, release)


class TestZipapp:
    """One file, on a host where nothing is installed and little can be written."""

    def program(self, release: Path, home: Path, **variables: str) -> Program:
        command = [SYSTEM_PYTHON, "-I", str(release / "regstore.pyz")]
        variables = {"XDG_STATE_HOME": str(home / "state"), "HOME": "/nonexistent", **variables}
        return Program(command, home, variables=variables)

    def test_a_rescue(self, release: Path, volume: Path, tmp_path: Path) -> None:
        program = self.program(release, tmp_path, REGSTORE_PYZ_DIR=str(tmp_path / "unpacked"))
        document = json.loads(
            program.run("gc", "plan", "--json", "--offline", "--grace", "0s", volume, expect=0).stdout
        )
        assert {item["kind"]: item["count"] for item in document["removed"]}["blob"] == 1
        program.run("fsck", "--data", "--layers", volume, expect=0)
        program.run("backup", "init", tmp_path / "store", expect=0)
        program.run("backup", "create", volume, tmp_path / "store", expect=0)
        program.run("restore", tmp_path / "store", tmp_path / "restored", expect=0)
        key = tag_link_key("team/app", "v1")
        assert (tmp_path / "restored" / key).read_bytes() == (volume / key).read_bytes()
        (unpacked,) = (tmp_path / "unpacked").iterdir()
        assert unpacked.stat().st_mode & 0o777 == 0o700

    def test_a_night(self, release: Path, volume: Path, tmp_path: Path) -> None:
        (tmp_path / "config.toml").write_text(f'[registry.main]\nlocation = "{volume}"\n[nightly.main]\n')
        program = self.program(release, tmp_path, REGSTORE_PYZ_DIR=str(tmp_path / "unpacked"))
        done = program.run("--config", tmp_path / "config.toml", "run", "nightly", "--json", "main", expect=0)
        assert [step["outcome"] for step in json.loads(done.stdout)["steps"]] == ["ok", "ok", "ok"]
        done = program.run("--config", tmp_path / "config.toml", "service", "install", "--dry-run", expect=0)
        assert f"ExecStart={release}/regstore.pyz --config" in done.stdout

    def test_layers_in_processes_of_their_own(self, release: Path, volume: Path, tmp_path: Path) -> None:
        program = self.program(release, tmp_path, REGSTORE_PYZ_DIR=str(tmp_path / "unpacked"))
        program.run("report", "dedup", "--level", "file", volume, expect=0)

    def test_a_home_that_is_not_there(self, release: Path, volume: Path, tmp_path: Path) -> None:
        """It is unpacked for this run alone, and nothing is left."""
        require_root("become another user")
        command = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", SYSTEM_PYTHON, "-I"]
        place = Path("/var/tmp") / f"regstore-test-{os.getpid()}"
        place.mkdir(mode=0o777)
        place.chmod(0o777)
        shutil.copy(release / "regstore.pyz", place / "regstore.pyz")
        temporary = place / "tmp"
        temporary.mkdir()
        temporary.chmod(0o1777)
        try:
            variables = {"HOME": "/nonexistent", "TMPDIR": str(temporary)}
            program = Program([*command, str(place / "regstore.pyz")], place, variables=variables)
            assert __version__ in program.run("--version", expect=0).stdout
            assert list(temporary.iterdir()) == []
        finally:
            shutil.rmtree(place)

    @pytest.mark.parametrize("mode", [0o777, 0o775])
    def test_nothing_is_run_from_where_others_can_write(self, release: Path, tmp_path: Path, mode: int) -> None:
        (tmp_path / "unpacked").mkdir()
        (tmp_path / "unpacked").chmod(mode)
        done = self.program(release, tmp_path, REGSTORE_PYZ_DIR=str(tmp_path / "unpacked")).run("--version", expect=1)
        assert "others can write there" in done.stderr
        assert "REGSTORE_PYZ_DIR=DIRECTORY" in done.stderr
        assert list((tmp_path / "unpacked").iterdir()) == []

    def test_what_another_user_has_put_there_is_not_run(self, release: Path, tmp_path: Path) -> None:
        require_root("give a directory away")
        program = self.program(release, tmp_path, REGSTORE_PYZ_DIR=str(tmp_path / "unpacked"))
        program.run("--version", expect=0)
        (unpacked,) = (tmp_path / "unpacked").iterdir()
        os.chown(unpacked, 65534, 65534)
        assert "others can write there" in program.run("--version", expect=1).stderr
        shutil.move(unpacked, tmp_path / "elsewhere")
        unpacked.symlink_to(tmp_path / "elsewhere")
        assert "no directory" in program.run("--version", expect=1).stderr

    @contextmanager
    def memory_disk(self, place: Path, options: str) -> Iterator[Path]:
        require_root("mount")
        place.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"mode=0700,{options}", "regstore-test", str(place)], check=True)
        try:
            yield place
        finally:
            subprocess.run(["umount", "-l", str(place)], check=True)

    def test_a_disk_that_is_full(self, release: Path, tmp_path: Path) -> None:
        with self.memory_disk(tmp_path / "disk", "size=1m") as disk:
            done = self.program(release, tmp_path, REGSTORE_PYZ_DIR=str(disk)).run("--version", expect=1)
            assert "No space left on device" in done.stderr
            assert list(disk.iterdir()) == []

    def test_a_disk_that_runs_nothing(self, release: Path, tmp_path: Path) -> None:
        with self.memory_disk(tmp_path / "disk", "noexec") as disk:
            done = self.program(release, tmp_path, REGSTORE_PYZ_DIR=str(disk)).run("--version", expect=1)
            assert "noexec" in done.stderr

    def test_another_python(self, release: Path, tmp_path: Path) -> None:
        """What an archive does that was not made for this Python."""
        work = tmp_path / "work"
        run([SYSTEM_PYTHON, "-m", "zipfile", "-e", release / "regstore.pyz", work], tmp_path)
        facts = json.loads((work / "facts.json").read_text())
        (work / "facts.json").write_text(json.dumps({**facts, "pythons": ["2.0"]}))
        run([SYSTEM_PYTHON, "-m", "zipapp", work, "-o", tmp_path / "old.pyz"], tmp_path)
        done = Program([SYSTEM_PYTHON, "-I", str(tmp_path / "old.pyz")], tmp_path).run("--version", expect=1)
        assert "is for Python 2.0" in done.stderr
        assert "-> run it by another python3" in done.stderr


def test_bill_of_materials(release: Path, environment: Path) -> None:
    """It has what the wheel's own environment has, and no tool that built or tested it."""
    document = json.loads(next(release.glob("*.cdx.json")).read_text())
    (packages,) = (environment / "lib").glob("python*/site-packages")
    installed = {found.name: found.version for found in distributions(path=[str(packages)]) if found.name != "regstore"}

    assert (document["bomFormat"], document["metadata"]["component"]["name"]) == ("CycloneDX", "regstore")
    components = document["components"]
    assert {component["name"]: component["version"] for component in components} == installed
    assert {"boto3", "click", "psutil", "PyYAML", "tqdm", "xxhash", "zstandard"} <= installed.keys()
    assert not {"pip", "pytest", "mypy", "build", "hatchling"} & installed.keys()
    for component in components:
        assert component["purl"].lower().startswith(f"pkg:pypi/{component['name'].lower()}@{component['version']}")
        assert component["licenses"], component["name"]
