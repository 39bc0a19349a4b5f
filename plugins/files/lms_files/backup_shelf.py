"""Buckets as a place for backups: `s3://bucket/folder`, at the store of files or, better, at another one."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from botocore.config import Config

from lms_core.sdk import Context, Shelf, StartRefused, Unavailable
from lms_files import store_setup
from lms_files.settings import FilesSettings
from lms_files.storage_clients import SESSION, ObjectMissing, asking_the_store

ANSWER_SECONDS = 60.0


class Bucket(Shelf):
    """The bucket must be there; only what begins with the folder's name is looked at, changed or removed."""

    scheme = "s3"

    async def sizes(self, context: Context, address: str) -> dict[str, int]:
        """By the part of the key that comes after the folder."""
        bucket, prefix = place(address)
        found = {}
        async with client_of(context) as client:
            async for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
                for listed in page.get("Contents", ()):
                    found[listed["Key"].removeprefix(prefix)] = listed["Size"]
        return found

    async def put(self, context: Context, address: str, name: str, path: Path) -> None:
        """In parts where it is large."""
        bucket, prefix = place(address)
        async with client_of(context) as client:
            await client.upload_file(str(path), bucket, prefix + name)

    async def get(self, context: Context, address: str, name: str, path: Path) -> None:
        """Into a file that is renamed when it is whole."""
        bucket, prefix = place(address)
        unfinished = path.with_name(f"{path.name}.fetched")
        async with client_of(context) as client:
            await client.download_file(bucket, prefix + name, str(unfinished))
        unfinished.replace(path)

    async def remove(self, context: Context, address: str, name: str) -> None:
        """One object."""
        bucket, prefix = place(address)
        async with client_of(context) as client:
            await client.delete_object(Bucket=bucket, Key=prefix + name)


def place(address: str) -> tuple[str, str]:
    """The bucket, and what every key begins with."""
    bucket, _, folder = address.partition("://")[2].partition("/")
    folder = folder.strip("/")
    return bucket, f"{folder}/" if folder else ""


@asynccontextmanager
async def client_of(context: Context) -> AsyncIterator[Any]:
    """A client for the store of backups; its own endpoint and keys where they are set. Raises StartRefused."""
    settings, own = context.settings, context.platform.plugin_settings(FilesSettings)
    client = SESSION.client(
        "s3",
        endpoint_url=own.backup_endpoint or settings.s3_endpoint,
        region_name=own.backup_region or settings.s3_region,
        aws_access_key_id=own.backup_access_key or settings.s3_access_key or None,
        aws_secret_access_key=own.backup_secret_key or settings.s3_secret_key or None,
        config=Config(
            signature_version="s3v4",
            s3={"addressing_style": "path"},
            read_timeout=ANSWER_SECONDS,
            retries={"mode": "standard", "total_max_attempts": 5},
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        ),
    )
    try:
        with asking_the_store():
            async with client as opened:
                yield opened
    except ObjectMissing:
        raise StartRefused("The store of backups has no such bucket, or not this object; make the bucket.") from None
    except Unavailable as error:
        raise StartRefused(f"The store of backups does not do it: {store_setup.in_words(error)}.") from error
