"""What is in the layers of a registry's images, and how often: file by file, or chunk by chunk.

Each layer is read once, in processes beside each other, and what is in it is remembered in a file of the state
directory: a layer is immutable, so its digest is the key. The sums are then made from these files, through partitions
on the disk, so that neither the count of files nor that of layers has to fit into memory.
"""

from __future__ import annotations

from regstore.report.contents.measure import read_contents
from regstore.report.contents.outcome import ContentsReport

__all__ = ["ContentsReport", "read_contents"]
