"""The files of the operating system that checks look at, which may be those of another system."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

TEXT_MAX_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Sysroot:
    """Where `proc`, `sys`, `etc`, `run` and `dev` lie: `/`, or a recorded tree or a broken system in a rescue.

    Attributes:
        directory: what stands for `/`.
    """

    directory: Path = Path("/")

    @property
    def is_other(self) -> bool:
        """Tell whether it is not this system's own."""
        return self.directory != Path("/")

    def path(self, name: str) -> Path:
        """Return where an absolute path such as `/proc/self/mountinfo` lies."""
        return self.directory / name.lstrip("/")

    def text(self, name: str) -> str | None:
        """Return what a small file holds without the white space around it; None when it is not there.

        Raises:
            OSError: it is there and cannot be read.
        """
        try:
            with self.path(name).open("rb") as stream:
                return stream.read(TEXT_MAX_BYTES).decode("utf-8", "replace").strip()
        except (FileNotFoundError, NotADirectoryError):
            return None

    def number(self, name: str) -> int | None:
        """Return the whole number that a small file holds; None when there is none."""
        try:
            return int(self.text(name) or "")
        except ValueError:
            return None

    def names(self, name: str) -> list[str]:
        """Return the names in a directory, sorted; none when it is not there.

        Raises:
            OSError: it is there and cannot be listed.
        """
        try:
            return sorted(entry.name for entry in self.path(name).iterdir())
        except (FileNotFoundError, NotADirectoryError):
            return []
