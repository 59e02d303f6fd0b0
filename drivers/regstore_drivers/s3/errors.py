"""What boto3 raises, in the words of `regstore_drivers.errors`."""

from __future__ import annotations

from contextlib import contextmanager
from email.utils import parsedate_to_datetime
from time import time
from typing import TYPE_CHECKING, Any, NamedTuple

from botocore.exceptions import (  # noqa: TID251
    BotoCoreError,
    ChecksumError,
    ClientError,
    ConnectionError,  # noqa: A004 - the name it has there
    ConnectTimeoutError,
    CredentialRetrievalError,
    EndpointConnectionError,
    FlexibleChecksumError,
    HTTPClientError,
    IncompleteReadError,
    NoCredentialsError,
    ParamValidationError,
    PartialCredentialsError,
    ProxyConnectionError,
    SSLError,
    TokenRetrievalError,
)
from botocore.parsers import ResponseParserError  # noqa: TID251

from regstore_drivers.errors import DriverError, NotFound, PermissionDenied, Unavailable, Unreachable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

NO_CREDENTIALS = (
    "no credentials found: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (or AWS_PROFILE), "
    "or name the registry's config.yml as the location"
)

BOTO_ERRORS = (BotoCoreError, ClientError, ResponseParserError)

_DENIED = frozenset({
    "AccessDenied", "AccountProblem", "AllAccessDisabled", "ExpiredToken", "InvalidAccessKeyId", "InvalidSecurity",
    "InvalidToken", "NotSignedUp", "RequestTimeTooSkewed", "SignatureDoesNotMatch", "TokenRefreshRequired",
})  # fmt: skip
_BUSY = frozenset({
    "BadDigest", "BandwidthLimitExceeded", "ConditionalRequestConflict", "IncompleteBody", "InternalError",
    "OperationAborted", "PriorRequestNotComplete", "RequestLimitExceeded", "RequestTimeout", "ServiceUnavailable",
    "SlowDown", "Throttling", "ThrottlingException", "TooManyRequests", "XAmzContentChecksumMismatch",
    "XAmzContentSHA256Mismatch",
})  # fmt: skip
_BUSY_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504})
_UPLOAD_GONE = "NoSuchUpload"


class Answer(NamedTuple):
    """What an error answer of the server says."""

    status: int
    code: str
    message: str
    retry_after: float | None


def answer_of(error: ClientError) -> Answer:
    """Take an error answer apart; parts that are missing are empty."""
    details = error.response.get("Error", {})
    metadata = error.response.get("ResponseMetadata", {})
    status = int(metadata.get("HTTPStatusCode", 0))
    headers = metadata.get("HTTPHeaders", {})
    return Answer(
        status,
        str(details.get("Code", "")),
        str(details.get("Message", "")),
        _seconds_to_wait(headers.get("retry-after")),
    )


def is_refusal(error: ClientError) -> bool:
    """Tell whether the server may have refused a part of the request that it does not know, such as a header."""
    status, code, _, _ = answer_of(error)
    return status == 501 or (status == 400 and code not in _DENIED | _BUSY)


def is_upload_gone(error: Exception) -> bool:
    """Tell whether a multipart upload does not exist, or no longer."""
    return isinstance(error, ClientError) and answer_of(error).code == _UPLOAD_GONE


def required(answer: Mapping[str, Any], name: str) -> Any:
    """Return a part of an answer that is never missing.

    Raises:
        ResponseParserError: it is missing, as when something else than an S3 server answered.
    """
    if name not in answer:
        raise ResponseParserError(f"it has no {name}")
    return answer[name]


@contextmanager
def translated(operation: str, key: str, location: str) -> Iterator[None]:
    """Raise what boto3 raises inside the block as a DriverError."""
    try:
        yield
    except BOTO_ERRORS as error:
        raise driver_error(error, operation=operation, key=key, location=location) from error


def driver_error(error: Exception, *, operation: str, key: str, location: str) -> DriverError:
    """Return the DriverError that says what `error`, which boto3 raised, means."""
    retry_after = None
    if isinstance(error, ClientError):
        answer = answer_of(error)
        kind, reason = _classify_answer(answer)
        retry_after = answer.retry_after
    else:
        kind, reason = _classify_failure(error)
    return kind(reason, operation=operation, key=key, location=location, retry_after=retry_after)


def _classify_answer(answer: Answer) -> tuple[type[DriverError], str]:
    status, code, message, _ = answer
    said = f"{message.rstrip('. ') or 'the storage refused'} ({code or 'no code'}, HTTP {status})"
    if code == "NoSuchBucket":
        return Unreachable, f"there is no such bucket; check its name, the endpoint and the region: {said}"
    if code == _UPLOAD_GONE:
        return Unavailable, f"the multipart upload was aborted by someone else: {said}"
    if status == 404:
        return NotFound, "there is no such object"
    if code == "InvalidObjectState":
        return DriverError, f"the object is archived and must be restored in the storage first: {said}"
    if code == "RequestTimeTooSkewed":
        return PermissionDenied, f"the clock of this host is wrong: {said}"
    if code in _DENIED or status in (401, 403):
        return PermissionDenied, f"access denied; check the credentials and their rights on the bucket: {said}"
    if code in _BUSY or status in _BUSY_STATUS:
        return Unavailable, f"the storage failed for the moment: {said}"
    if status in (301, 302, 307, 308) or code == "AuthorizationHeaderMalformed":
        return DriverError, f"the bucket is served by another endpoint or region; set region= or endpoint=: {said}"
    return DriverError, said


def _classify_failure(error: Exception) -> tuple[type[DriverError], str]:
    if isinstance(error, NoCredentialsError):
        return PermissionDenied, NO_CREDENTIALS
    if isinstance(error, (PartialCredentialsError, CredentialRetrievalError, TokenRetrievalError)):
        return PermissionDenied, f"{error}; {NO_CREDENTIALS}"
    if isinstance(error, (EndpointConnectionError, ConnectTimeoutError, ProxyConnectionError)):
        return Unreachable, f"{error}{_cause(error)}"
    if isinstance(error, SSLError):
        return Unreachable, f"no secure connection; check the endpoint's certificate and AWS_CA_BUNDLE: {error}"
    if isinstance(error, (ChecksumError, FlexibleChecksumError)):
        return Unavailable, f"the answer arrived damaged: {error}"
    if isinstance(error, ResponseParserError):
        return Unavailable, f"the answer is not what an S3 server says: {str(error).splitlines()[0]}"
    if isinstance(error, (ConnectionError, HTTPClientError, IncompleteReadError)):
        return Unavailable, f"the connection failed: {error}"
    if isinstance(error, ParamValidationError):
        return DriverError, f"the request is not possible: {error}"
    return DriverError, str(error)


def _cause(error: BotoCoreError) -> str:
    """Name the reason below a failed connection, such as `Connection refused`; boto3's own text leaves it out."""
    cause = str(error.kwargs.get("error", ""))
    return f" ({cause.rpartition(': ')[2]})" if cause and cause not in str(error) else ""


def _seconds_to_wait(header: str | None) -> float | None:
    """Read a Retry-After: a number of seconds or a date."""
    if header is None:
        return None
    try:
        return max(0.0, float(header))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(header).timestamp() - time())
    except ValueError:
        return None
