"""The finished parts of an upload that a writer which died has begun."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError  # noqa: TID251

from regstore_drivers.s3.errors import answer_of, is_upload_gone

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mypy_boto3_s3.type_defs import PartTypeDef

    from regstore_drivers.s3.connection import Connection


_NOT_SHOWN_STATUS = (401, 403, 405, 501)


def finished_parts(
    connection: Connection, where: Mapping[str, str], upload_id: str, attributes: Mapping[str, Any]
) -> dict[int, PartTypeDef]:
    """Return the finished parts of an upload by their numbers; none when it is gone, or may not be seen or used.

    Args:
        connection: where it is.
        where: the parameters that name its object.
        upload_id: which.
        attributes: those of the new object. What an upload was begun with cannot be seen, but for its storage class.

    Raises:
        BotoCoreError, ClientError: they could not be listed.
    """
    if "ServerSideEncryption" in attributes:
        return {}
    wanted = attributes.get("StorageClass", "STANDARD")
    finished: dict[int, PartTypeDef] = {}
    client: Any = connection.client
    try:
        for page in client.get_paginator("list_parts").paginate(**where, UploadId=upload_id):
            if page.get("StorageClass", wanted) != wanted:
                return {}
            finished.update((part["PartNumber"], part) for part in page.get("Parts", ()))
    except ClientError as error:
        if not is_upload_gone(error) and answer_of(error).status not in _NOT_SHOWN_STATUS:
            raise
        return {}
    return finished
