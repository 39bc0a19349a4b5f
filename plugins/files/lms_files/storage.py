"""The only module that talks to the S3 store: presigned uploads and downloads, and what we do with objects ourselves."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from lms_core.sdk import Context, Unavailable
from lms_files.settings import FilesSettings
from lms_files.storage_clients import ANSWER_SECONDS, Clients, ObjectMissing, asking_the_store

UPLOAD_SECONDS = 15 * 60
DOWNLOAD_SECONDS = 5 * 60
# The store says nothing while it copies gigabytes.
COPY_SECONDS = 300.0
CHUNK_BYTES = 1024 * 1024
PART_BYTES = 16 * 1024 * 1024
MAX_PARTS = 100


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


def part_size(size: int) -> int:
    """How large the parts of a file are, so that there are not too many."""
    return max(PART_BYTES, -(-size // MAX_PARTS))


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

    async def part_urls(self, key: str, upload_id: str, size: int) -> list[str]:
        """An address for each part; how long it is is signed too."""
        async with self.signing() as client:
            return [
                await client.generate_presigned_url(
                    "upload_part",
                    Params={
                        "Bucket": self.incoming,
                        "Key": key,
                        "UploadId": upload_id,
                        "PartNumber": number,
                        "ContentLength": length,
                    },
                    ExpiresIn=UPLOAD_SECONDS,
                )
                for number, length in enumerate(part_sizes(size), 1)
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

    async def put_clean(self, key: str, content: bytes, content_type: str) -> None:
        """Store something that we made ourselves for readers."""
        async with self.asked() as client:
            await client.put_object(
                Bucket=self.clean, Key=key, Body=content, ContentType=content_type, ContentDisposition="attachment"
            )

    async def delete_incoming(self, key: str) -> None:
        """Remove an upload, whether it is there or not."""
        async with self.asked() as client:
            await client.delete_object(Bucket=self.incoming, Key=key)

    async def left_over(self) -> AsyncIterator[LeftOver]:
        """Everything in the incoming bucket."""
        async with self.asked() as client:
            async for page in client.get_paginator("list_objects_v2").paginate(Bucket=self.incoming):
                for found in page.get("Contents", ()):
                    yield LeftOver(found["Key"], found["LastModified"])
            async for page in client.get_paginator("list_multipart_uploads").paginate(Bucket=self.incoming):
                for found in page.get("Uploads", ()):
                    yield LeftOver(found["Key"], found["Initiated"], found["UploadId"])

    # The store itself

    async def check(self) -> None:
        """A signed request; raises when the store does not answer it well."""
        async with self.asked() as client:
            await client.head_bucket(Bucket=self.clean)

    async def make_buckets(self) -> None:
        """Make both buckets, and let browsers of other origins use the signed addresses."""
        for bucket, methods in ((self.incoming, ["POST", "PUT"]), (self.clean, ["GET", "HEAD"])):
            async with self.asked() as client:
                try:
                    with asking_the_store():
                        await client.head_bucket(Bucket=bucket)
                except ObjectMissing:
                    await client.create_bucket(Bucket=bucket)
            await self.allow_origins(bucket, methods)

    async def allow_origins(self, bucket: str, methods: list[str]) -> None:
        """A CORS rule for a bucket; not every store has them."""
        rule = {
            "AllowedOrigins": self.origins,
            "AllowedMethods": methods,
            "AllowedHeaders": ["*"],
            "ExposeHeaders": ["ETag"],
        }
        # Those without answer with an error; their own settings then say which origins may come.
        with suppress(Unavailable):
            async with self.asked() as client:
                await client.put_bucket_cors(Bucket=bucket, CORSConfiguration={"CORSRules": [rule]})


stores: dict[int, Store] = {}


@asynccontextmanager
async def store_of_process(context: Context) -> AsyncIterator[None]:
    """Around the life of a process: its store, whose clients are closed at the end."""
    stores[id(context)] = store = Store(context)
    try:
        yield
    finally:
        del stores[id(context)]
        await store.clients.close()


def store_of(context: Context) -> Store:
    """The store of a running process."""
    return stores[id(context)]
