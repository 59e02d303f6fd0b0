"""Uploads in parts of copies that died: gone on with, or aborted."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from regstore_drivers.base import HasMultipart, HasMultipartResume

if TYPE_CHECKING:
    from collections.abc import Iterator

    from regstore.transfer.journal import Journal
    from regstore_drivers.base import ReadDriver


@contextmanager
def resuming_uploads(driver: ReadDriver, prefix: str, journal: Journal | None = None) -> Iterator[None]:
    """In the block, writes go on with the newest uploads in parts that copies which died have begun.

    What had no use in the block is aborted after it, unless it fails: then the next run may have a use for it.

    Args:
        driver: the target.
        prefix: where uploads are looked for.
        journal: tells which of them are the copy's own, and is told of new ones, because a registry that writes there
            has uploads too; None: nobody else uploads there.
    """
    if not isinstance(driver, HasMultipart):
        yield
        return
    ours = []
    if journal is None or journal.uploads:
        ours = [upload for upload in driver.list_multipart(prefix) if journal is None or journal.has_begun(upload)]
    with ExitStack() as stack:
        if isinstance(driver, HasMultipartResume):
            for upload in sorted(ours, key=lambda upload: upload.initiated):
                driver.resume_multipart(upload)
            if journal is not None:
                driver.watch_multipart(journal.note_upload)
                stack.callback(driver.watch_multipart, None)
        yield
    for upload in ours:
        driver.abort_multipart(upload)
