"""Objects in a bucket, through the S3 API: Cloudflare R2, AWS and whatever is compatible.

R2 sets the rules: region ``auto``, no checksums that it does not know, conditional writes, parts of equal
size. botocore retries with jitter; after that the job waits and tries again.
"""

from __future__ import annotations

import base64
import hashlib
import os
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import boto3
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    HTTPClientError,
    IncompleteReadError,
    NoCredentialsError,
    PartialCredentialsError,
)

from backup.errors import ObjectExists, ObjectMissing, ObjectStoreError, StoreRefused, StoreUnavailable
from backup.stores import StoredObject
from mailstore.durable import storage_errors

MAX_PARTS = 10_000
_MEBIBYTE = 1024 * 1024
_SYSTEMD_CREDENTIAL = "sealbox-s3"
_MISSING = frozenset({"NoSuchKey", "404", "NotFound"})
_TAKEN = frozenset({"PreconditionFailed", "412"})
_AGAIN = frozenset(
    {
        "SlowDown",
        "RequestTimeout",
        "InternalError",
        "ServiceUnavailable",
        "TooManyRequests",
        "BadDigest",
        # The upload was completed but the answer was lost: the next attempt finds the object.
        "NoSuchUpload",
    }
)
_CONFLICT = 409
_TOO_MANY = 429
_SERVER_ERROR = 500


@dataclass(frozen=True, slots=True)
class S3Credentials:
    """What signs requests; never printed."""

    access_key_id: str = field(repr=False)
    secret_access_key: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class S3Place:
    """A bucket, and how it is reached. Times in seconds."""

    bucket: str
    prefix: str = ""
    endpoint: str | None = None
    region: str = "auto"
    connect_timeout_s: float = 10.0
    read_timeout_s: float = 60.0
    attempts: int = 5
    connections: int = 10
    part_bytes: int = 16 * _MEBIBYTE


def find_credentials(path: Path | None, environment: Mapping[str, str] = os.environ) -> S3Credentials | None:
    """Credentials from the file, the systemd credential ``sealbox-s3`` or the environment, in this order.

    The file is TOML with ``access_key_id`` and ``secret_access_key``; in the environment they are
    AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY. None when there are none.

    Raises:
        StoreRefused: a file that does not hold them. StorageFailed: it cannot be read.
    """
    folder = environment.get("CREDENTIALS_DIRECTORY")
    if path is None and folder:
        with storage_errors():
            credential = Path(folder) / _SYSTEMD_CREDENTIAL
            path = credential if credential.exists() else None
    if path is not None:
        with storage_errors():
            text = path.read_bytes()
        try:
            tree = tomllib.loads(text.decode("utf-8"))
            return S3Credentials(str(tree["access_key_id"]), str(tree["secret_access_key"]))
        except (KeyError, UnicodeDecodeError, tomllib.TOMLDecodeError):
            raise StoreRefused("the file with credentials lacks access_key_id or secret_access_key") from None
    names = "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"
    if all(environment.get(name) for name in names):
        return S3Credentials(environment[names[0]], environment[names[1]])
    return None


class S3Store:
    """See ``backup.stores.ObjectStore``."""

    def __init__(self, place: S3Place, credentials: S3Credentials) -> None:
        self._place = place
        self._prefix = f"{place.prefix}/" if place.prefix else ""
        self._client: Any = boto3.client(
            "s3",
            endpoint_url=place.endpoint,
            region_name=place.region,
            aws_access_key_id=credentials.access_key_id,
            aws_secret_access_key=credentials.secret_access_key,
            config=Config(
                signature_version="s3v4",
                s3={"addressing_style": "path"},
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
                retries={"mode": "standard", "total_max_attempts": place.attempts},
                connect_timeout=place.connect_timeout_s,
                read_timeout=place.read_timeout_s,
                max_pool_connections=place.connections,
            ),
        )
        # R2 does not document this header, and some servers wait with it for ever.
        for operation in ("PutObject", "UploadPart"):
            self._client.meta.events.register_last(f"before-call.s3.{operation}", _without_expect)

    @property
    def description(self) -> str:
        """See ``ObjectStore``."""
        return f"s3://{self._place.bucket}/{self._prefix.rstrip('/')}".rstrip("/")

    def place(self) -> str:
        """See ``ObjectStore``: a bucket cannot be exchanged while this process runs."""
        return self.description

    def put(self, name: str, path: Path, sha256: bytes) -> None:
        """See ``ObjectStore``; Content-MD5, which R2 supports everywhere, reveals damage in transit."""
        size = path.stat().st_size
        with path.open("rb") as file, _reported(name):
            if size > self._place.part_bytes:
                self._put_parts(name, file, size, sha256)
                return
            data = file.read()
            if hashlib.sha256(data).digest() != sha256:
                raise StoreUnavailable("the file to be stored is damaged")
            self._client.put_object(
                Bucket=self._place.bucket,
                Key=self._prefix + name,
                Body=data,
                ContentType="application/octet-stream",
                ContentMD5=_md5(data),
                IfNoneMatch="*",
            )

    def _put_parts(self, name: str, file: BinaryIO, size: int, sha256: bytes) -> None:
        # Not every server honours the condition when an upload is completed, so ask first as well.
        if any(found.name == name for found in self.list(name)):
            raise ObjectExists(name)
        where = {"Bucket": self._place.bucket, "Key": self._prefix + name}
        part_bytes = part_size(size, self._place.part_bytes)
        upload = self._client.create_multipart_upload(**where, ContentType="application/octet-stream")
        where["UploadId"] = upload["UploadId"]
        try:
            parts, digest = [], hashlib.sha256()
            for number in range(1, -(-size // part_bytes) + 1):
                data = file.read(part_bytes)
                digest.update(data)
                answer = self._client.upload_part(
                    **where, PartNumber=number, Body=data, ContentMD5=_md5(data)
                )
                parts.append({"PartNumber": number, "ETag": answer["ETag"]})
            if digest.digest() != sha256:
                raise StoreUnavailable("the file to be stored is damaged")
            self._client.complete_multipart_upload(**where, MultipartUpload={"Parts": parts}, IfNoneMatch="*")
        except BaseException:
            self._give_up(where)
            raise

    def _give_up(self, where: dict[str, str]) -> None:
        try:
            self._client.abort_multipart_upload(**where)
        except (ClientError, BotoCoreError):
            return  # the bucket's own rule for incomplete uploads removes it

    def get(self, name: str, offset: int, size: int) -> bytes:
        """See ``ObjectStore``."""
        if size <= 0:
            return b""  # a range of nothing cannot be written, and a wrong one means everything
        attempts = self._place.attempts
        with _reported(name):
            while True:
                attempts -= 1
                answer = self._range(name, offset, size)
                try:
                    data = _body(answer, size) if answer else b""
                except (IncompleteReadError, HTTPClientError):
                    # Cut off in the middle: botocore retries only until a response has begun.
                    if attempts <= 0:
                        raise
                else:
                    return data

    def _range(self, name: str, offset: int, size: int) -> dict[str, Any] | None:
        """The response with the range; None when it begins beyond the object's end."""
        try:
            answer: dict[str, Any] = self._client.get_object(
                Bucket=self._place.bucket,
                Key=self._prefix + name,
                Range=f"bytes={offset}-{offset + size - 1}",
            )
        except ClientError as error:
            if _code(error) == "InvalidRange":
                return None
            raise
        return answer

    def list(self, prefix: str = "") -> Iterator[StoredObject]:
        """See ``ObjectStore``."""
        pages = self._client.get_paginator("list_objects_v2").paginate(
            Bucket=self._place.bucket, Prefix=self._prefix + prefix
        )
        with _reported(prefix):
            for page in pages:
                for one in page.get("Contents", ()):
                    name = one["Key"].removeprefix(self._prefix)
                    yield StoredObject(name, one["Size"], one["LastModified"].timestamp())

    def delete(self, names: Sequence[str]) -> None:
        """See ``ObjectStore``; one by one, because DeleteObjects carries a checksum that R2 may refuse."""
        for name in names:
            with _reported(name):
                try:
                    self._client.delete_object(Bucket=self._place.bucket, Key=self._prefix + name)
                except ClientError as error:
                    if _code(error) not in _MISSING:
                        raise


def part_size(size_bytes: int, wanted_bytes: int) -> int:
    """The size of all parts but the last: as configured, or larger where there would be too many parts."""
    least = -(-size_bytes // MAX_PARTS)
    return max(wanted_bytes, -(-least // _MEBIBYTE) * _MEBIBYTE)


def _body(answer: dict[str, Any], size: int) -> bytes:
    """What was asked for. A service that sends the whole object instead is cut off."""
    body, found = answer["Body"], bytearray()
    while piece := body.read(size + 1 - len(found)):
        found += piece
        if len(found) > size:
            body.close()
            raise StoreUnavailable("the object store sent more than it was asked for")
    return bytes(found)


def _md5(data: bytes) -> str:
    return base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode("ascii")


def _without_expect(params: dict[str, Any], **_rest: object) -> None:
    params["headers"].pop("Expect", None)


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


@contextmanager
def _reported(name: str) -> Iterator[None]:
    try:
        yield
    except ClientError as error:
        raise _translated(name, error) from None
    except (NoCredentialsError, PartialCredentialsError):
        raise StoreRefused("there are no credentials for the object store") from None
    except BotoCoreError as error:
        # Its text may contain the whole request; the class says enough.
        raise StoreUnavailable(f"the object store did not answer ({type(error).__name__})") from None


def _translated(name: str, error: ClientError) -> ObjectStoreError:
    code = _code(error)
    status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    if code in _TAKEN:
        return ObjectExists(name)
    if code in _MISSING:
        return ObjectMissing(name)
    # Without a body the status is all that is known.
    said = f"{status} {code}".strip() if code != str(status) else code
    if code in _AGAIN or status in (_CONFLICT, _TOO_MANY) or status >= _SERVER_ERROR:
        return StoreUnavailable(f"the object store said {said}")
    return StoreRefused(f"the object store said {said}")
