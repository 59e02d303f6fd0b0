"""The beginning of regstore.pyz: unpacks regstore once, into a directory that nobody else can write to, and runs it.

Libraries in C and botocore's data cannot be read from within an archive. Nothing but Python's own library is used here,
and no more of the language than Python 3.6 knows, so that an old one is told what is wrong.
"""

import atexit
import errno
import json
import os
import platform
import shutil
import stat
import sys
import tempfile
import zipfile

_VARIABLE = "REGSTORE_PYZ_DIR"


class _UnusableError(Exception):
    """A directory that nothing can be unpacked into; the text says why."""


def main():
    archive = os.path.abspath(sys.argv[0])
    with zipfile.ZipFile(archive) as zipped:
        facts = json.loads(zipped.read("facts.json").decode("utf-8"))
        directory = _unpacked(zipped, facts)
    # Whoever starts regstore again from here (a service, a night's steps) finds the archive.
    sys.argv[0] = archive
    sys.path[0] = directory
    from regstore.cli.main import main as run

    run()


def _unpacked(zipped, facts):
    version = "%d.%d" % sys.version_info[:2]
    if version not in facts["pythons"] or platform.machine() != facts["machine"]:
        sys.exit(
            "regstore: this archive is for Python %s on %s, and this is Python %s on %s\n"
            "  -> run it by another python3, or make one here with scripts/release"
            % (" or ".join(facts["pythons"]), facts["machine"], version, platform.machine())
        )
    name = "regstore-%s-%s-py%s" % (facts["version"], facts["digest"], version)
    reasons = []
    for base in _bases():
        try:
            return _unpack_into(zipped, os.path.join(base, name), version)
        except (OSError, _UnusableError) as error:
            reasons.append("%s: %s" % (base, getattr(error, "strerror", None) or error))
    for base in _temporary_bases():
        try:
            _check_can_run(base)
            private = tempfile.mkdtemp(prefix="regstore-", dir=base)
        except (OSError, _UnusableError) as error:
            reasons.append("%s: %s" % (base, getattr(error, "strerror", None) or error))
            continue
        atexit.register(_remove, private, os.getpid())
        try:
            return _unpack_into(zipped, os.path.join(private, name), version)
        except OSError as error:
            shutil.rmtree(private, ignore_errors=True)
            reasons.append("%s: %s" % (base, error.strerror))
    sys.exit(
        "regstore: there is no place to unpack into: %d MB, only yours to write, and not mounted noexec\n"
        "  %s\n  -> name one with %s=DIRECTORY" % (facts["megabytes"], "\n  ".join(reasons), _VARIABLE)
    )


def _bases():
    """Directories that are kept. Never below the home of another user: sudo may have left HOME as it was."""
    if os.environ.get(_VARIABLE):
        return [os.path.abspath(os.environ[_VARIABLE])]
    if os.geteuid() == 0:
        return ["/var/cache/regstore"]
    home = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return [os.path.join(home, "regstore")] if os.path.isabs(home) else []


def _temporary_bases():
    """Directories for this run alone: memory, when no disk takes anything."""
    if os.environ.get(_VARIABLE):
        return []
    return [base for base in (os.environ.get("TMPDIR"), "/tmp", "/var/tmp", "/dev/shm", "/run") if base]


def _unpack_into(zipped, directory, version):
    base = os.path.dirname(directory)
    os.makedirs(base, mode=0o700, exist_ok=True)
    _check_private(base)
    _check_can_run(base)
    if os.path.lexists(directory):
        _check_private(directory)
        return directory
    partial = tempfile.mkdtemp(prefix=".partial-", dir=base)
    try:
        for member in zipped.infolist():
            for prefix in ("all/", "py%s/" % version):
                if member.filename.startswith(prefix) and not member.filename.endswith("/"):
                    _write(zipped, member, os.path.join(partial, *member.filename[len(prefix) :].split("/")))
        try:
            os.rename(partial, directory)
        except OSError as error:
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                raise
            _check_private(directory)  # another run was faster
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return directory


def _write(zipped, member, path):
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    with zipped.open(member) as source, open(path, "xb") as target:
        shutil.copyfileobj(source, target, 1024 * 1024)


def _check_private(directory):
    """What lies there is run: nobody but this user, or root, may have put it there."""
    found = os.lstat(directory)
    if not stat.S_ISDIR(found.st_mode):
        raise _UnusableError("it is no directory")
    if found.st_uid not in (0, os.geteuid()) or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise _UnusableError("others can write there")


def _check_can_run(directory):
    if os.statvfs(directory).f_flag & os.ST_NOEXEC:
        raise _UnusableError("it is mounted noexec")


def _remove(directory, process):
    if os.getpid() == process:  # not at the end of a child
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    main()
