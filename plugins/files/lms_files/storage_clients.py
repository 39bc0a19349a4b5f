"""Connections to the S3 store, and what its errors mean to us; used by storage.py only."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from typing import Any

import aioboto3
from aiohttp import ClientPayloadError
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from lms_core.sdk import Context, Unavailable

logger = logging.getLogger(__name__)

CONNECT_SECONDS = 2.0
ANSWER_SECONDS = 3.0
MISSING = ("404", "NoSuchKey", "NotFound", "NoSuchUpload", "NoSuchBucket", "NoSuchLifecycleConfiguration")
CHANGED = ("412", "PreconditionFailed")
PARTS_REFUSED = ("InvalidPart", "InvalidPartOrder", "EntityTooSmall", "MalformedXML", "InvalidRequest")


class ObjectMissing(Exception):
    """There is no such object, upload, bucket or rule."""


class ObjectChanged(Exception):
    """The object is not the one that was asked for any more."""


class PartsRefused(Exception):
    """The parts do not make the object."""


def code_of(error: ClientError) -> str:
    """The store's name for an error."""
    return str(error.response.get("Error", {}).get("Code", ""))


@contextmanager
def asking_the_store() -> Iterator[None]:
    """Around every use of a client: ObjectMissing, ObjectChanged, PartsRefused, and everything else is a 503.

    Work that meets a 503 can be tried again, be it a store that is away or one with wrong keys.
    """
    try:
        yield
    except ClientError as error:
        code = code_of(error)
        if code in MISSING:
            raise ObjectMissing(f"The store has no such thing: {code}.") from error
        if code in CHANGED:
            raise ObjectChanged from error
        if code in PARTS_REFUSED:
            raise PartsRefused from error
        raise store_away(error) from error
    except (BotoCoreError, ClientPayloadError, OSError) as error:
        # The second when a connection ends in the middle of an object: the client hands on what its library raises.
        raise store_away(error) from error


def store_away(error: Exception) -> Unavailable:
    """503."""
    logger.warning("the store does not do what it should: %r", error)
    return Unavailable("The store of files does not answer at the moment; try again shortly.", "store_away")


# It keeps the description of S3 that each client is made from, several megabytes, which take 0.1 s to read.
SESSION = aioboto3.Session()


class Clients:
    """One client for each endpoint and patience, made on first use."""

    def __init__(self, context: Context) -> None:
        settings = context.settings
        self.options = {
            "region_name": settings.s3_region,
            # Without keys the usual places of AWS are searched, for roles of machines.
            "aws_access_key_id": settings.s3_access_key or None,
            "aws_secret_access_key": settings.s3_secret_key or None,
        }
        self.opened: dict[tuple[str, float], Any] = {}
        self.stack = AsyncExitStack()
        self.opening = asyncio.Lock()

    async def at(self, endpoint: str, answer_seconds: float = ANSWER_SECONDS) -> Any:
        """The client for an endpoint, which waits so long for an answer."""
        key = (endpoint, answer_seconds)
        async with self.opening:
            if key not in self.opened:
                config = Config(
                    signature_version="s3v4",
                    s3={"addressing_style": "path"},
                    connect_timeout=CONNECT_SECONDS,
                    read_timeout=answer_seconds,
                    retries={"mode": "standard", "total_max_attempts": 2},
                    request_checksum_calculation="when_required",
                    response_checksum_validation="when_required",
                )
                client = SESSION.client("s3", endpoint_url=endpoint, config=config, **self.options)
                self.opened[key] = await self.stack.enter_async_context(client)
            return self.opened[key]

    async def close(self) -> None:
        """Close every client."""
        self.opened.clear()
        await self.stack.aclose()
