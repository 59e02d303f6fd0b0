"""What a server is told of each new object."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from regstore_drivers.s3.options import S3Options


def attributes_of_new(options: S3Options) -> dict[str, Any]:
    """Return the parameters that give a new object its storage class, encryption and ACL."""
    attributes: dict[str, Any] = attributes_of_copy(options)
    if options.storage_class is not None:
        attributes["StorageClass"] = options.storage_class
    return attributes


def attributes_of_copy(options: S3Options) -> dict[str, Any]:
    """Return the parameters for what a server does not copy by itself: encryption and ACL."""
    attributes: dict[str, Any] = {}
    if options.encrypt:
        attributes["ServerSideEncryption"] = "aws:kms" if options.key_id else "AES256"
    if options.key_id is not None:
        attributes["SSEKMSKeyId"] = options.key_id
    if options.acl is not None:
        attributes["ACL"] = options.acl
    return attributes
