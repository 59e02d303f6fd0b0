"""Where a bucket is and how its objects are written: the S3 location, parsed and printed."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

DEFAULT_JOBS = 16

_TRUE, _FALSE = ("true", "1"), ("false", "0")
_FLAGS = ("path_style", "secure", "skip_verify", "encrypt")
_TEXTS = ("endpoint", "region", "storage_class", "key_id", "acl")
_CREDENTIALS = ("access_key", "accesskey", "secret_key", "secretkey", "session_token", "sessiontoken", "password")


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Options:
    """One bucket, a key prefix in it, and the attributes that new objects get.

    Attributes:
        bucket: its name.
        prefix: what stands before every key; slashes at either end are dropped.
        endpoint: URL of the server; None for Amazon's (or what AWS_ENDPOINT_URL says).
        region: None for what the environment says, else us-east-1 when there is an endpoint.
        path_style: the bucket stands in the path and not in the host name; None means: if there is an endpoint.
        secure: https for an endpoint without a scheme and for Amazon's own.
        verify: check the server's certificate.
        storage_class: of new objects; None for the bucket's default.
        encrypt: encrypt new objects on the server.
        key_id: KMS key of the encryption.
        acl: canned ACL of new objects, copies included.
        jobs: how many requests may run at the same time.
        access_key, secret_key, session_token: credentials; without them boto3 looks for some.
    """

    bucket: str
    prefix: str = ""
    endpoint: str | None = None
    region: str | None = None
    path_style: bool | None = None
    secure: bool = True
    verify: bool = True
    storage_class: str | None = None
    encrypt: bool = False
    key_id: str | None = None
    acl: str | None = None
    jobs: int = DEFAULT_JOBS
    access_key: str | None = field(default=None, repr=False)
    secret_key: str | None = field(default=None, repr=False)
    session_token: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if not self.bucket or set(self.bucket) & set("/:@?#"):
            raise ValueError(f"not the name of a bucket: {self.bucket!r}")
        if (self.access_key is None) != (self.secret_key is None):
            raise ValueError("an S3 access key and its secret key are given together or not at all")
        if self.key_id is not None and not self.encrypt:
            raise ValueError("key_id without encrypt=true has no effect")
        if self.jobs < 1:
            raise ValueError(f"jobs must be 1 or more, not {self.jobs}")
        prefix = self.prefix.strip("/")
        if prefix and not set(prefix.split("/")).isdisjoint(("", ".", "..")):
            raise ValueError(f"a prefix must not have empty, '.' or '..' components: {self.prefix!r}")
        object.__setattr__(self, "prefix", prefix)
        if self.endpoint is not None:
            object.__setattr__(self, "endpoint", _normal_endpoint(self.endpoint, self.secure))

    @property
    def has_path_style(self) -> bool:
        """Whether requests name the bucket in the path."""
        return self.endpoint is not None if self.path_style is None else self.path_style

    @property
    def location(self) -> str:
        """These options as a URL that `parse_url` understands, without credentials."""
        query: dict[str, str] = {}
        for name in ("endpoint", "region", "path_style", "storage_class", "encrypt", "key_id", "acl"):
            value = getattr(self, name)
            if isinstance(value, bool):
                if value or name == "path_style":
                    query[name] = str(value).lower()
            elif value is not None:
                query[name] = value
        if not self.secure and self.endpoint is None:
            query["secure"] = "false"
        if not self.verify:
            query["skip_verify"] = "true"
        path = f"/{quote(self.prefix)}" if self.prefix else ""
        return f"s3://{self.bucket}{path}" + (f"?{urlencode(query, safe=':/', quote_via=quote)}" if query else "")


def parse_url(
    url: str,
    *,
    access_key: str | None = None,
    secret_key: str | None = None,
    session_token: str | None = None,
    jobs: int = DEFAULT_JOBS,
) -> S3Options:
    """Read `s3://bucket/prefix?endpoint=...&region=...`.

    The prefix and the values may be percent-encoded. Credentials are refused in any part of the URL, and the
    message does not repeat them.

    Raises:
        ValueError: it is not such a URL; an unknown parameter is named together with the known ones.
    """
    parts = urlsplit(url)
    if parts.scheme != "s3":
        raise ValueError("an S3 location starts with s3://")
    if "@" in parts.netloc:
        raise ValueError("credentials do not belong in an S3 location: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
    if ":" in parts.netloc:
        raise ValueError(
            f"s3://{parts.netloc} names a host and not a bucket: write s3://BUCKET/PREFIX?endpoint=http://HOST:PORT"
        )
    if parts.fragment:
        raise ValueError("an S3 location has no #fragment: write %23 for a # in the prefix")
    texts, flags = _parse_query(parts.query)
    return S3Options(
        bucket=parts.netloc,
        prefix=unquote(parts.path),
        endpoint=texts.get("endpoint"),
        region=texts.get("region"),
        path_style=flags.get("path_style"),
        secure=flags.get("secure", True),
        verify=not flags.get("skip_verify", False),
        storage_class=texts.get("storage_class"),
        encrypt=flags.get("encrypt", False),
        key_id=texts.get("key_id"),
        acl=texts.get("acl"),
        jobs=jobs,
        access_key=access_key,
        secret_key=secret_key,
        session_token=session_token,
    )


def _parse_query(query: str) -> tuple[dict[str, str], dict[str, bool]]:
    texts: dict[str, str] = {}
    flags: dict[str, bool] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name.lower() in _CREDENTIALS:
            raise ValueError(
                f"{name} does not belong in an S3 location: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
            )
        if name not in _FLAGS + _TEXTS:
            raise ValueError(
                f"unknown parameter {name!r} in the S3 location; known: {', '.join(sorted(_FLAGS + _TEXTS))}"
            )
        if name in texts or name in flags:
            raise ValueError(f"{name} stands twice in the S3 location")
        if name in _FLAGS:
            if value.lower() not in _TRUE + _FALSE:
                raise ValueError(f"{name} in the S3 location is true or false, not {value!r}")
            flags[name] = value.lower() in _TRUE
        elif not value:
            raise ValueError(f"{name} in the S3 location has no value")
        else:
            texts[name] = value
    return texts, flags


def _normal_endpoint(endpoint: str, secure: bool) -> str:
    url = endpoint if "://" in endpoint else f"{'https' if secure else 'http'}://{endpoint}"
    parts = urlsplit(url)
    if "@" in parts.netloc:
        raise ValueError("credentials do not belong in an S3 endpoint")
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise ValueError(f"not the URL of an S3 endpoint: {endpoint!r}")
    return url.rstrip("/")
