"""The driver for Amazon S3 and servers that speak its protocol (MinIO, Ceph, SeaweedFS and others)."""

from regstore_drivers.s3.driver import S3Driver, from_url
from regstore_drivers.s3.options import S3Options

__all__ = ["S3Driver", "S3Options", "from_url"]
