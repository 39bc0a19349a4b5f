"""What a backup takes of the store: the bytes of every file that is ready or was handed over, and what was made of them."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from sqlalchemy import update
from sqlmodel import col

from lms_core.sdk import Context, KeptObjects
from lms_files.lifecycle import incoming_key
from lms_files.models import File
from lms_files.storage import Store, store_of
from lms_files.storage_clients import ObjectMissing
from lms_files.sweeps import file_id

CONTENTS = "SELECT key FROM files_content ORDER BY key"
HANDED_OVER = "SELECT id FROM files_file WHERE state IN ('uploaded', 'verifying') ORDER BY id"
TAKEN = "SELECT c.key FROM files_file f JOIN files_content c ON c.sha256 = f.content_id WHERE f.id = $1"
DERIVED = "derived/"


class StoredFiles(KeptObjects):
    """Each object is named by its bucket's role and its key: `clean/…` or `incoming/…`."""

    name = "files"

    async def listed(self, context: Context, snapshot: Any) -> AsyncIterator[str]:
        """What was made of files is listed by the store; a picture too many does no harm."""
        for row in await snapshot.fetch(CONTENTS):
            yield f"clean/{row['key']}"
        for row in await snapshot.fetch(HANDED_OVER):
            # Its key begins with the bucket's role already.
            yield incoming_key(row["id"])
        async for made in store_of(context).clean_objects(DERIVED):
            yield f"clean/{made.key}"

    async def fetch(self, context: Context, name: str, path: Path) -> bool:
        """From the store; what was handed over may have been taken, or refused, since."""
        store = store_of(context)
        bucket, key = self.place(context, name)
        if await self.copied(store, bucket, key, path):
            return True
        taken = [] if bucket == store.clean else await context.database.read(TAKEN, [file_id(key)])
        return bool(taken) and await self.copied(store, store.clean, taken[0]["key"], path)

    async def copied(self, store: Store, bucket: str, key: str, path: Path) -> bool:
        """All of it, however large; False when it is not there."""
        try:
            size = (await store.find(bucket, key)).size
            await store.download(bucket, key, path, size)
        except ObjectMissing:
            return False
        return True

    async def put(self, context: Context, name: str, path: Path) -> None:
        """Into the store; what was handed over is the same bytes, though the store may call them by another ETag."""
        store = store_of(context)
        bucket, key = self.place(context, name)
        await store.put_file(bucket, key, path)
        if bucket == store.incoming:
            etag = (await store.find(bucket, key)).etag
            async with context.unit_of_work() as uow:
                await uow.session.execute(update(File).where(col(File.id) == file_id(key)).values(etag=etag))

    def place(self, context: Context, name: str) -> tuple[str, str]:
        """The bucket and the key of an object."""
        store = store_of(context)
        role, _, key = name.partition("/")
        return (store.clean, key) if role == "clean" else (store.incoming, name)
