"""What a check looks at."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Options:
    """The options of a check. Ages and times are in seconds, sizes in bytes.

    Attributes:
        data: hash the data of blobs.
        layers: decompress layers and compare them with the configurations of their images.
        subset: with `data`, only part N of M: (N, M).
        sample: with `data`, only that share of the blobs, at random: 0.0 to 1.0.
        older_than: with `data`, only blobs whose last successful verification is at least that old.
        time_budget: with `data`, begin no blob after that time.
        bandwidth: with `data`, read no more bytes a second.
        trust_stored_checksums: take an object store's own SHA-256 of a whole object for its verification.
        upload_age: uploads at least that old are called abandoned.
        grace: temporary files at least that old are left over.
        jobs: how many reads at once; 0 stands for what suits the storage.
    """

    data: bool = False
    layers: bool = False
    subset: tuple[int, int] | None = None
    sample: float | None = None
    older_than: float | None = None
    time_budget: float | None = None
    bandwidth: int | None = None
    trust_stored_checksums: bool = False
    upload_age: float = 7 * 86400.0
    grace: float = 86400.0
    jobs: int = 0

    @property
    def structure_only(self) -> Options:
        """The same without reading data and layers."""
        return replace(self, data=False, layers=False)
