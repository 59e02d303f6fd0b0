"""The one copy engine: blobs from where they can be read to where they are kept, each hashed on the way."""

from regstore.transfer.attributes import attributes_of, overlay
from regstore.transfer.catalogue import SOURCE_CATALOGUE, ImageFinding, source_finding
from regstore.transfer.contents import (
    Contents,
    Tag,
    iter_data,
    link_count,
)
from regstore.transfer.copying import BlobOrigin, Failed, Item, copy_blobs
from regstore.transfer.journal import Journal, open_journal
from regstore.transfer.pace import Paced
from regstore.transfer.selecting import reduce_contents
from regstore.transfer.server_copying import COPIED_MIN_BYTES, ServerCopying
from regstore.transfer.source import Damage, Source
from regstore.transfer.tree import TreeTarget
from regstore.transfer.uploads import resuming_uploads
from regstore.transfer.volume import VolumeOrigin

__all__ = [
    "COPIED_MIN_BYTES",
    "SOURCE_CATALOGUE",
    "BlobOrigin",
    "Contents",
    "Damage",
    "Failed",
    "ImageFinding",
    "Item",
    "Journal",
    "Paced",
    "ServerCopying",
    "Source",
    "Tag",
    "TreeTarget",
    "VolumeOrigin",
    "attributes_of",
    "copy_blobs",
    "iter_data",
    "link_count",
    "open_journal",
    "overlay",
    "reduce_contents",
    "resuming_uploads",
    "source_finding",
]
