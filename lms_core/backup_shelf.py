"""Backups elsewhere: a folder with a backup is copied to a bucket, or whatever else a plugin has a shelf for, and back."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import AsyncIterator
from pathlib import Path

from lms_core.backup import Kept, Manifest, copying, differences, kept, manifest_of, object_path
from lms_core.errors import StartRefused
from lms_core.types import Extension
from lms_core.uow import Context

MANIFEST = "manifest.json"


class Shelf(Extension):
    """Where files can be put by name, below an address that begins with `scheme://`."""

    scheme: str

    @abstractmethod
    async def sizes(self, context: Context, address: str) -> dict[str, int]:
        """What is there by name, with its bytes."""

    @abstractmethod
    async def put(self, context: Context, address: str, name: str, path: Path) -> None:
        """Copy a file there, whole or not at all."""

    @abstractmethod
    async def get(self, context: Context, address: str, name: str, path: Path) -> None:
        """Copy a file from there."""

    @abstractmethod
    async def remove(self, context: Context, address: str, name: str) -> None:
        """Remove what is there."""

    def claims(self) -> frozenset[str]:
        """The scheme."""
        return frozenset({self.scheme})


def shelf_of(context: Context, address: str) -> Shelf:
    """Who knows this sort of address. Raises StartRefused when nobody does."""
    scheme, separator, _ = address.partition("://")
    shelves = {shelf.scheme: shelf for shelf in context.platform.extensions_of(Shelf)}
    if not separator or scheme not in shelves:
        known = ", ".join(f"{name}://…" for name in sorted(shelves)) or "none; the plugin files has one for buckets"
        raise StartRefused(f"{address} is no address that an enabled plugin knows (known: {known}).")
    return shelves[scheme]


def files_of(manifest: Manifest) -> dict[str, Kept]:
    """All files of a backup by their names below its folder."""
    files = dict(manifest.database)
    for keeper, objects in manifest.objects.items():
        files |= {object_path(Path(), keeper, name).as_posix(): one for name, one in objects.items()}
    return files


async def push(context: Context, folder: Path, address: str) -> AsyncIterator[str]:
    """Copy a whole backup there, only what is new of it; what was there stays good until the end.

    Raises StartRefused for a backup that is damaged.
    """
    shelf = shelf_of(context, address)
    if found := differences(folder):
        raise StartRefused(f"This backup is damaged, nothing was copied: {'; '.join(found[:5])}.")
    files, there = files_of(manifest_of(folder)), await shelf.sizes(context, address)
    new = [name for name, one in files.items() if there.get(name) != one.size]

    async def copy(name: str) -> None:
        await shelf.put(context, address, name, folder / name)

    async with copying(copy) as start:
        for name in new:
            await start(name)
    # Last, since a backup with a manifest is whole; only then goes what the one before needed.
    await shelf.put(context, address, MANIFEST, folder / MANIFEST)
    for name in there.keys() - files.keys() - {MANIFEST}:
        await shelf.remove(context, address, name)
    yield f"{len(files)} files, {len(new)} of them new, and the manifest"


async def pull(context: Context, address: str, folder: Path) -> AsyncIterator[str]:
    """Copy a backup from there into a folder, and compare all of it with its hashes. Raises StartRefused if it differs."""
    shelf = shelf_of(context, address)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if MANIFEST not in await shelf.sizes(context, address):
        raise StartRefused(f"There is no whole backup at {address}.")
    fetched = folder / f"{MANIFEST}.part"
    await shelf.get(context, address, MANIFEST, fetched)
    files = files_of(Manifest.model_validate_json(fetched.read_text()))

    async def copy(name: str) -> None:
        path = folder / name
        if not path.exists() or await asyncio.to_thread(kept, path) != files[name]:
            path.parent.mkdir(parents=True, exist_ok=True)
            await shelf.get(context, address, name, path)
        if await asyncio.to_thread(kept, path) != files[name]:
            raise StartRefused(f"{name} is damaged at {address}: it is not as it was when the backup was made.")

    async with copying(copy) as start:
        for name in files:
            await start(name)
    fetched.replace(folder / MANIFEST)
    yield f"{len(files)} files, all as they were when the backup was made"
