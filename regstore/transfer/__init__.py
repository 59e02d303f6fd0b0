"""The one copy engine: blobs from where they can be read to where they are kept, each hashed on the way."""

from regstore.transfer.copying import BlobOrigin, Failed, Item, copy_blobs
from regstore.transfer.journal import Journal, open_journal
from regstore.transfer.pace import Paced
from regstore.transfer.tree import Link, TreeTarget
from regstore.transfer.uploads import resuming_uploads
from regstore.transfer.volume import VolumeOrigin

__all__ = [
    "BlobOrigin",
    "Failed",
    "Item",
    "Journal",
    "Link",
    "Paced",
    "TreeTarget",
    "VolumeOrigin",
    "copy_blobs",
    "open_journal",
    "resuming_uploads",
]
