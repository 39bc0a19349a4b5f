"""The only module that talks to the S3 store: presigned uploads and downloads, and what we do with objects ourselves."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from lms_core.sdk import Context, Unavailable
from lms_files.settings import FilesSettings
from lms_files.storage_clients import (
    ANSWER_SECONDS,
    Clients,
    ObjectMissing,
    PartsRefused,
    asking_the_store,
    store_away,
)
from lms_files.workplaces import remove_left_over

UPLOAD_SECONDS = 15 * 60
DOWNLOAD_SECONDS = 5 * 60
# The store says nothing while it copies.
COPY_SECONDS = 60.0
# The client's own patience begins only once the bytes are sent, and they wait for a store that says it takes them.
PUT_SECONDS = 30.0
CHUNK_BYTES = 1024 * 1024
# What S3 itself allows: so many parts of at most 5 GiB each; all but the last have at least 5 MiB.
MAX_PARTS = 10_000
# As few parts as we can: each costs an address in an answer, and each large one costs much when it has to be sent again.
PART_BYTES = 16 * 1024 * 1024
USUAL_PARTS = 100
LARGE_PART_BYTES = 512 * 1024 * 1024
# More than that is copied in parts: a store that hangs is found out in a minute (S3 itself copies 5 GiB in one go).
SINGLE_COPY_BYTES = LARGE_PART_BYTES
COPIES_AT_ONCE = 4
LISTED_AT_ONCE = 1000
LEFT_OVER_DAYS = 7
# No object expires by itself: what was uploaded to a course that is deleted waits for it, however long that takes.
LIFECYCLE_RULE: dict[str, Any] = {
    "ID": "lms-left-over",
    "Status": "Enabled",
    "Filter": {"Prefix": ""},
    "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": LEFT_OVER_DAYS},
}


@dataclass(frozen=True)
class StoredObject:
    """What a HEAD says."""

    size: int
    etag: str


@dataclass(frozen=True)
class LeftOver:
    """Something in the incoming bucket, and since when; with an `upload_id`, an upload in parts under way."""

    key: str
    since: datetime
    upload_id: str | None = None


@dataclass(frozen=True)
class StoredPart:
    """A part of an unfinished upload that is there; its size in bytes."""

    number: int
    etag: str
    size: int


@dataclass(frozen=True)
class ListedObject:
    """An object of the clean bucket, its size in bytes, and since when it is there."""

    key: str
    size: int
    since: datetime


def part_size(size: int) -> int:
    """How large the parts of a file are, in bytes, up to the 5 TiB that S3 takes."""
    if size <= USUAL_PARTS * LARGE_PART_BYTES:
        return max(PART_BYTES, -(-size // USUAL_PARTS))
    return max(LARGE_PART_BYTES, -(-size // MAX_PARTS))


def part_sizes(size: int) -> list[int]:
    """The size of each part; the last is what is left."""
    each = part_size(size)
    return [min(each, size - start) for start in range(0, size, each)]


class Store:
    """Two buckets: clients write to `incoming`; readers get what was verified and copied to `clean`.

    What goes out to clients is signed for the public endpoint. Every method raises Unavailable (`store_away`).
    """

    def __init__(self, context: Context) -> None:
        settings, files = context.settings, context.platform.plugin_settings(FilesSettings)
        self.incoming, self.clean = files.incoming_bucket, files.clean_bucket
        self.largest_upload = files.max_upload_bytes
        self.takes_forms = files.multipart_from_bytes > 0
        self.endpoint = settings.s3_endpoint
        self.public_endpoint = settings.s3_public_endpoint or settings.s3_endpoint
        self.origins = [origin.strip() for origin in settings.cors_origins.split(",") if origin.strip()] or ["*"]
        self.clients = Clients(context)

    @asynccontextmanager
    async def asked(self, answer_seconds: float = ANSWER_SECONDS) -> AsyncIterator[Any]:
        """The client for our own requests."""
        with asking_the_store():
            yield await self.clients.at(self.endpoint, answer_seconds)

    @asynccontextmanager
    async def signing(self) -> AsyncIterator[Any]:
        """The client that signs for the public endpoint; nothing is sent."""
        with asking_the_store():
            yield await self.clients.at(self.public_endpoint)

    # What clients get

    async def upload_form(self, key: str, content_type: str, size: int) -> dict[str, Any]:
        """`url` and `fields` of a form that stores exactly this key and type, and at most this size."""
        async with self.signing() as client:
            form: dict[str, Any] = await client.generate_presigned_post(
                self.incoming,
                key,
                Fields={"Content-Type": content_type},
                Conditions=[{"Content-Type": content_type}, ["content-length-range", 1, size]],
                ExpiresIn=UPLOAD_SECONDS,
            )
        return form

    async def part_urls(self, key: str, upload_id: str, size: int, numbers: Sequence[int] | None = None) -> list[str]:
        """An address for each of these parts of a file, all when none are named; how long a part is is signed too.

        The numbers begin with 1; IndexError for those that a file of this size does not have.
        """
        lengths = part_sizes(size)
        wanted = range(1, len(lengths) + 1) if numbers is None else numbers
        if any(not 1 <= number <= len(lengths) for number in wanted):
            raise IndexError(f"The parts are numbered from 1 to {len(lengths)}.")
        async with self.signing() as client:
            return [
                await client.generate_presigned_url(
                    "upload_part",
                    Params={
                        "Bucket": self.incoming,
                        "Key": key,
                        "UploadId": upload_id,
                        "PartNumber": number,
                        "ContentLength": lengths[number - 1],
                    },
                    ExpiresIn=UPLOAD_SECONDS,
                )
                for number in wanted
            ]

    async def download_url(self, key: str, content_type: str, disposition: str) -> str:
        """An address that hands out a verified object."""
        async with self.signing() as client:
            url: str = await client.generate_presigned_url(
                "get_object",
                Params={
                    "Bucket": self.clean,
                    "Key": key,
                    "ResponseContentType": content_type,
                    "ResponseContentDisposition": disposition,
                },
                ExpiresIn=DOWNLOAD_SECONDS,
            )
        return url

    # Uploads in parts

    async def start_multipart(self, key: str, content_type: str) -> str:
        """Begin."""
        async with self.asked() as client:
            begun = await client.create_multipart_upload(Bucket=self.incoming, Key=key, ContentType=content_type)
        return str(begun["UploadId"])

    async def uploaded_parts(self, key: str, upload_id: str) -> list[StoredPart]:
        """The parts that are there, by number. Raises ObjectMissing when the upload was aborted or completed."""
        async with self.asked() as client:
            pages = client.get_paginator("list_parts").paginate(
                Bucket=self.incoming, Key=key, UploadId=upload_id, PaginationConfig={"PageSize": LISTED_AT_ONCE}
            )
            return [
                StoredPart(part["PartNumber"], part["ETag"], part["Size"])
                async for page in pages
                for part in page.get("Parts", ())
            ]

    async def complete_multipart(self, key: str, upload_id: str, parts: Sequence[tuple[int, str]]) -> None:
        """Put the parts together; nothing happens when that was done before. Raises PartsRefused."""
        listed = [{"PartNumber": number, "ETag": etag} for number, etag in sorted(parts)]
        with suppress(ObjectMissing):
            async with self.asked() as client:
                await client.complete_multipart_upload(
                    Bucket=self.incoming, Key=key, UploadId=upload_id, MultipartUpload={"Parts": listed}
                )

    async def abort_multipart(self, key: str, upload_id: str) -> None:
        """Forget the parts, whether there are any or not."""
        with suppress(ObjectMissing):
            async with self.asked() as client:
                await client.abort_multipart_upload(Bucket=self.incoming, Key=key, UploadId=upload_id)

    # Objects

    async def find(self, bucket: str, key: str) -> StoredObject:
        """What is there. Raises ObjectMissing."""
        async with self.asked() as client:
            head = await client.head_object(Bucket=bucket, Key=key)
        return StoredObject(head["ContentLength"], head["ETag"])

    async def download(self, bucket: str, key: str, path: Path, limit: int, etag: str | None = None) -> tuple[int, str]:
        """Write an object, but at most one byte more than `limit`, to a file: its size and SHA-256.

        Raises ObjectMissing, and ObjectChanged when it has not the ETag.
        """
        condition = {} if etag is None else {"IfMatch": etag}
        digest, size = hashlib.sha256(), 0
        async with self.asked() as client:
            answer = await client.get_object(Bucket=bucket, Key=key, **condition)
        body = answer["Body"]
        async with body:
            with path.open("wb") as file:
                while size <= limit:
                    with asking_the_store():
                        chunk = await body.read(min(CHUNK_BYTES, limit + 1 - size))
                    if not chunk:
                        break
                    digest.update(chunk)
                    file.write(chunk)
                    size += len(chunk)
        return size, digest.hexdigest()

    async def publish(self, key: str, etag: str, clean_key: str, content_type: str) -> None:
        """Copy what was verified, and nothing else, for readers. Raises ObjectMissing and ObjectChanged."""
        size = (await self.find(self.incoming, key)).size
        if size > SINGLE_COPY_BYTES:
            await self.copy_in_parts(key, etag, size, clean_key, content_type)
            return
        async with self.asked(COPY_SECONDS) as client:
            await client.copy_object(
                Bucket=self.clean,
                Key=clean_key,
                CopySource={"Bucket": self.incoming, "Key": key},
                CopySourceIfMatch=etag,
                MetadataDirective="REPLACE",
                ContentType=content_type,
                ContentDisposition="attachment",
            )

    async def copy_in_parts(self, key: str, etag: str, size: int, clean_key: str, content_type: str) -> None:
        """The same for objects of any size, in bytes; nothing is left behind when it fails."""
        target = {"Bucket": self.clean, "Key": clean_key}
        async with self.asked() as client:
            begun = await client.create_multipart_upload(
                **target, ContentType=content_type, ContentDisposition="attachment"
            )
        upload = {**target, "UploadId": begun["UploadId"]}
        try:
            await self.complete_copy(upload, await self.copied_parts(key, etag, size, upload))
        except BaseException:
            # Should this fail too, the store's own rule for unfinished uploads removes it.
            with suppress(ObjectMissing, Unavailable):
                async with self.asked() as client:
                    await client.abort_multipart_upload(**upload)
            raise

    async def complete_copy(self, upload: dict[str, Any], parts: list[dict[str, Any]]) -> None:
        """Make the copied parts one object."""
        try:
            async with self.asked(COPY_SECONDS) as client:
                await client.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts})
        except ObjectMissing as error:
            # When the first answer got lost, the client asked again and the upload is gone because it is completed.
            try:
                await self.find(upload["Bucket"], upload["Key"])
            except ObjectMissing:
                # It is the copy that is missing, not what is copied.
                raise store_away(error) from error

    async def copied_parts(self, key: str, etag: str, size: int, upload: dict[str, Any]) -> list[dict[str, Any]]:
        """Copy each part; what completing wants to know of them. When this raises, no copy is under way any more."""
        each, count = part_size(size), len(part_sizes(size))

        async def copy(number: int) -> dict[str, Any]:
            last_byte = min(number * each, size) - 1
            async with self.asked(COPY_SECONDS) as client:
                answer = await client.upload_part_copy(
                    **upload,
                    PartNumber=number,
                    CopySource={"Bucket": self.incoming, "Key": key},
                    CopySourceIfMatch=etag,
                    CopySourceRange=f"bytes={(number - 1) * each}-{last_byte}",
                )
            return {"PartNumber": number, "ETag": answer["CopyPartResult"]["ETag"]}

        parts: list[dict[str, Any]] = []
        for first in range(1, count + 1, COPIES_AT_ONCE):
            numbers = range(first, min(first + COPIES_AT_ONCE, count + 1))
            # A part that arrives after its upload was aborted stays and is paid for, so all are waited for.
            for outcome in await asyncio.gather(*map(copy, numbers), return_exceptions=True):
                if isinstance(outcome, BaseException):
                    raise outcome
                parts.append(outcome)
        return parts

    async def put_incoming(self, key: str, content: bytes, content_type: str) -> None:
        """Store something as if a client had uploaded it."""
        async with self.asked() as client, asyncio.timeout(PUT_SECONDS):
            await client.put_object(Bucket=self.incoming, Key=key, Body=content, ContentType=content_type)

    async def put_clean(self, key: str, content: bytes, content_type: str) -> None:
        """Store something that we made ourselves for readers."""
        async with self.asked() as client, asyncio.timeout(PUT_SECONDS):
            await client.put_object(
                Bucket=self.clean, Key=key, Body=content, ContentType=content_type, ContentDisposition="attachment"
            )

    async def put_file(self, bucket: str, key: str, path: Path) -> None:
        """Store a file of any size, in parts where it is large."""
        async with self.asked() as client:
            await client.upload_file(str(path), bucket, key, ExtraArgs={"ContentDisposition": "attachment"})

    async def delete_incoming(self, key: str) -> None:
        """Remove an upload, whether it is there or not."""
        async with self.asked() as client:
            await client.delete_object(Bucket=self.incoming, Key=key)

    async def delete_clean(self, key: str) -> None:
        """Remove an object that readers had, whether it is there or not."""
        async with self.asked() as client:
            await client.delete_object(Bucket=self.clean, Key=key)

    async def clean_objects(self, prefix: str = "") -> AsyncIterator[ListedObject]:
        """Everything in the clean bucket whose key begins like this, by key."""
        async with self.asked() as client:
            pages = client.get_paginator("list_objects_v2").paginate(
                Bucket=self.clean, Prefix=prefix, PaginationConfig={"PageSize": LISTED_AT_ONCE}
            )
            async for page in pages:
                for found in page.get("Contents", ()):
                    yield ListedObject(found["Key"], found["Size"], found["LastModified"])

    async def left_over(self, prefix: str = "") -> AsyncIterator[LeftOver]:
        """Everything in the incoming bucket whose key begins like this."""
        async with self.asked() as client:
            async for page in client.get_paginator("list_objects_v2").paginate(Bucket=self.incoming, Prefix=prefix):
                for found in page.get("Contents", ()):
                    yield LeftOver(found["Key"], found["LastModified"])
            async for page in client.get_paginator("list_multipart_uploads").paginate(
                Bucket=self.incoming, Prefix=prefix
            ):
                for found in page.get("Uploads", ()):
                    yield LeftOver(found["Key"], found["Initiated"], found["UploadId"])

    # The store itself

    async def check(self) -> None:
        """A signed request; raises when the store does not answer it well."""
        async with self.asked() as client:
            await client.head_bucket(Bucket=self.clean)

    async def try_keys(self, endpoint: str) -> None:
        """A signed request to an endpoint, whose error says what is wrong. Raises ObjectMissing without a bucket."""
        with asking_the_store():
            client = await self.clients.at(endpoint)
            # The answer to a HEAD has no room for a reason.
            await client.list_objects_v2(Bucket=self.clean, MaxKeys=1)

    async def make_buckets(self) -> None:
        """Make both buckets, and let browsers of other origins use the signed addresses."""
        for bucket in (self.incoming, self.clean):
            await self.make_bucket(bucket)
            # Stores without answer with an error; their own settings then say which origins may come.
            with suppress(ObjectMissing, PartsRefused, Unavailable):
                await self.allow_origins(bucket)

    async def make_bucket(self, bucket: str) -> None:
        """Make a bucket when it is missing."""
        if not await self.has_bucket(bucket):
            async with self.asked() as client:
                await client.create_bucket(Bucket=bucket)

    async def has_bucket(self, bucket: str) -> bool:
        """Whether it is there."""
        try:
            async with self.asked() as client:
                await client.head_bucket(Bucket=bucket)
        except ObjectMissing:
            return False
        return True

    def methods_of(self, bucket: str) -> list[str]:
        """What browsers do in a bucket."""
        return ["POST", "PUT"] if bucket == self.incoming else ["GET", "HEAD"]

    async def allow_origins(self, bucket: str) -> None:
        """Set a CORS rule, the only one of a bucket. Raises PartsRefused or Unavailable where there are no such rules."""
        rule = {
            "AllowedOrigins": self.origins,
            "AllowedMethods": self.methods_of(bucket),
            "AllowedHeaders": ["*"],
            "ExposeHeaders": ["ETag"],
        }
        async with self.asked() as client:
            await client.put_bucket_cors(Bucket=bucket, CORSConfiguration={"CORSRules": [rule]})

    async def lifecycle_rules(self, bucket: str) -> list[dict[str, Any]]:
        """A bucket's rules, ours and others."""
        try:
            async with self.asked() as client:
                found = await client.get_bucket_lifecycle_configuration(Bucket=bucket)
        except ObjectMissing:
            return []
        return list(found.get("Rules", ()))

    async def expire_left_overs(self, bucket: str) -> None:
        """Set our lifecycle rule beside others. Raises PartsRefused or Unavailable where there are no such rules."""
        ours = LIFECYCLE_RULE
        others = [rule for rule in await self.lifecycle_rules(bucket) if rule.get("ID") != ours["ID"]]
        async with self.asked() as client:
            await client.put_bucket_lifecycle_configuration(
                Bucket=bucket, LifecycleConfiguration={"Rules": [*others, ours]}
            )


stores: dict[int, Store] = {}


@asynccontextmanager
async def store_of_process(context: Context) -> AsyncIterator[None]:
    """Around the life of a process: its store, whose clients are closed at the end, and what killed ones left behind."""
    await asyncio.to_thread(remove_left_over)
    stores[id(context)] = store = Store(context)
    try:
        yield
    finally:
        del stores[id(context)]
        await store.clients.close()


def store_of(context: Context) -> Store:
    """The store of a running process."""
    return stores[id(context)]
