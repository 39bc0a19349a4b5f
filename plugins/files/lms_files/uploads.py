"""The way of a file into the store: requested, uploaded by the client, and completed; or cancelled."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from fastapi import Response
from lms_courses.contracts import COURSE, CourseCatalog

from lms_core.sdk import (
    Context,
    Forbidden,
    Invalid,
    JsonBytes,
    NotFound,
    Problem,
    StateConflict,
    UnitOfWork,
    new_id,
)
from lms_files import content_types, lifecycle, processors, quotas
from lms_files.models import UPLOAD_MINUTES, File
from lms_files.schemas import CompleteRequest, FileRequest, UploadedPart, UploadRequest, VersionRequest
from lms_files.service import FILE_POINT, find_readable, refuse_kept, refuse_unless_own_or
from lms_files.settings import FilesSettings
from lms_files.storage import UPLOAD_SECONDS, Store, StoredObject, StoredPart, part_size, part_sizes, store_of
from lms_files.storage_clients import ObjectMissing, PartsRefused

PARTS_IN_ANSWER = 100
# However often it is signed again; the store is told to forget parts after as many days too.
UPLOAD_DAYS = timedelta(days=7)
# Since it was last signed: a laptop may be closed over night, and whoever fills in a form begins anew.
PARTS_WAIT = timedelta(hours=24)
FORM_WAITS = timedelta(minutes=UPLOAD_MINUTES)


@dataclass(frozen=True)
class Arrived:
    """The parts that the store has, and whether they are one object by now."""

    parts: Sequence[StoredPart] = ()
    is_whole: bool = False


async def refuse_unless_taking_part(uow: UnitOfWork, course_id: UUID) -> None:
    """404 when the caller may not know the course, 403 when they do not take part in it."""
    await uow.require("files.request", COURSE, course_id)


async def refuse_unless_known(uow: UnitOfWork, id: UUID) -> None:
    """404, asked on the read pool: the store may have to be asked before the transaction begins."""
    known, _ = await uow.context.platform.rules.check(uow.database, uow.access, "files.edit", File, id)
    if not known:
        raise NotFound("files.file", id)


async def request(uow: UnitOfWork, data: FileRequest) -> Response:
    """Keep room for a file and say where to upload it."""
    id = new_id()
    institution_id = await place_of(uow, data.course_id)
    content_type = content_types.meant(data.content_type, data.filename)
    await refuse_unless_taken(uow, institution_id, content_type, data.filename, data.size)
    upload_id = await begin_upload(uow.context, id, content_type, data.size)
    if data.course_id is not None:
        await uow.hold(COURSE, data.course_id)
    shared = data.shared and data.course_id is not None and await uow.can("files.read_all", COURSE, data.course_id)
    file = File(
        id=id,
        course_id=data.course_id,
        institution_id=institution_id,
        owner_id=uow.actor_id,
        uploader_id=uow.actor_id,
        shared=shared,
        filename=data.filename,
        **described(uow.context, content_type, data, upload_id),
    )
    return await keep_request(uow, file)


async def request_version(uow: UnitOfWork, id: UUID, data: VersionRequest) -> Response:
    """The same for a new version of a file: it takes the room, and the place, of the one that it replaces."""
    async with uow.context.unit_of_work(uow.access) as reading:
        await refuse_unless_own_or(reading, "files.edit", id)
        replaced = await find_readable(reading, id)
    filename = data.filename or replaced.filename
    if replaced.replaces_id is not None:
        raise StateConflict("is_a_version", "This is a version itself; replace the file of which it is one.")
    content_type = content_types.meant(data.content_type, filename)
    await refuse_unless_taken(uow, replaced.institution_id, content_type, filename, data.size)
    version_id = new_id()
    upload_id = await begin_upload(uow.context, version_id, content_type, data.size)
    replaced = await uow.lock(File, id)
    refuse_kept(replaced)
    if replaced.state != "ready":
        raise StateConflict("file_not_ready", f"The file is {replaced.state}; it can be replaced once it is ready.")
    version = File(
        id=version_id,
        course_id=replaced.course_id,
        institution_id=replaced.institution_id,
        owner_id=replaced.owner_id,
        uploader_id=uow.actor_id,
        replaces_id=id,
        shared=False,
        filename=filename,
        **described(uow.context, content_type, data, upload_id),
    )
    return await keep_request(uow, version)


async def begin_upload(context: Context, id: UUID, content_type: str, size: int) -> str | None:
    """The store's id of an upload in parts, None for a small one; asked before the transaction begins."""
    if size < context.platform.plugin_settings(FilesSettings).multipart_from_bytes:
        return None
    return await store_of(context).start_multipart(lifecycle.incoming_key(id), content_type)


def described(
    context: Context, content_type: str, data: FileRequest | VersionRequest, upload_id: str | None
) -> dict[str, Any]:
    """What the client says of the bytes, and what is expected of them."""
    return {
        "content_type": content_type,
        "size": data.size,
        "sha256": data.sha256,
        "upload_kind": "post" if upload_id is None else "multipart",
        "upload_id": upload_id,
        "expires_at": datetime.now(UTC) + waits_for(upload_id),
        "derivatives": processors.expected(context, content_type),
    }


def waits_for(upload_id: str | None) -> timedelta:
    """How long an upload waits for somebody to go on with it."""
    return FORM_WAITS if upload_id is None else PARTS_WAIT


async def keep_request(uow: UnitOfWork, file: File) -> Response:
    """The row, its room, and the answer."""
    await uow.add(file)
    await quotas.reserve(uow, file.institution_id, file.owner_id, file.size)
    found = await FILE_POINT.row(uow, file.id)
    upload = await upload_of(store_of(uow.context), file, Arrived())
    return FILE_POINT.answer({**found, "upload": upload}, 201)


async def refuse_unless_taken(
    uow: UnitOfWork, institution_id: UUID | None, content_type: str, filename: str, size: int
) -> None:
    """415 for what is not on the institution's list, 413 for what is too large."""
    settings = uow.settings(FilesSettings)
    async with uow.context.unit_of_work(uow.access) as reading:
        taken = await quotas.taken_types(reading, institution_id or uow.actor_id)
    if content_type not in taken or not content_types.is_harmless_name(content_type, filename):
        raise Problem(
            415,
            "content_type_not_allowed",
            "Files of this type or name are not taken here; `GET /files/limits/…` says which are.",
        )
    if size > settings.max_upload_bytes:
        raise Problem(
            413, "file_too_large", f"A file may have {settings.max_upload_mb} MiB at most; send a smaller one."
        )


async def place_of(uow: UnitOfWork, course_id: UUID | None) -> UUID | None:
    """The institution of a course."""
    if course_id is None:
        return None
    async with uow.context.unit_of_work(uow.access) as reading:
        return await reading.use(CourseCatalog).institution_of(reading, course_id)


async def upload_of(store: Store, file: File, stored: Arrived, numbers: Sequence[int] | None = None) -> dict[str, Any]:
    """How to upload it, or what is left of it."""
    key = lifecycle.incoming_key(file.id)
    addresses_expire = datetime.now(UTC) + timedelta(seconds=UPLOAD_SECONDS)
    if file.upload_id is None:
        form = await store.upload_form(key, file.content_type, file.size)
        return {"kind": "post", **form, "expires_at": addresses_expire}
    arrived = {part.number for part in stored.parts}
    count = len(part_sizes(file.size))
    missing = [number for number in range(1, count + 1) if number not in arrived][:PARTS_IN_ANSWER]
    # The store knows no parts any more that it has put together.
    wanted = missing if stored.is_whole else numbers or missing
    urls = await store.part_urls(key, file.upload_id, file.size, wanted)
    return {
        "kind": "multipart",
        "part_size": part_size(file.size),
        "part_count": count,
        "parts": [{"number": number, "url": url} for number, url in zip(wanted, urls, strict=True)],
        "uploaded": [{"number": part.number, "etag": part.etag, "size": part.size} for part in stored.parts],
        "expires_at": addresses_expire,
    }


async def go_on(uow: UnitOfWork, id: UUID, data: UploadRequest | None) -> Response:
    """Sign an upload again, which gives it more time: after a lost connection, or for parts further on."""
    file = await own(uow, id)
    refuse_unless_requested(file)
    numbers = None if data is None else data.numbers
    if numbers is not None and (file.upload_id is None or not set(numbers) <= parts_of(file)):
        raise Invalid("no_such_part", f"The upload has the parts 1 to {len(parts_of(file))}.", ("body", "numbers"))
    store = store_of(uow.context)
    stored = await arrived_parts(store, file)
    file = await uow.lock(File, id)
    refuse_unless_requested(file)
    if datetime.now(UTC) - file.created_at > UPLOAD_DAYS:
        raise StateConflict("upload_expired", f"The upload was begun {UPLOAD_DAYS.days} days ago; request a new one.")
    file.expires_at = datetime.now(UTC) + waits_for(file.upload_id)
    return JsonBytes({"upload": await upload_of(store, file, stored, numbers)}, headers={"Cache-Control": "no-store"})


def refuse_unless_requested(file: File) -> None:
    """409 once the upload is over, whichever way."""
    if file.state in ("expired", "cancelled"):
        raise StateConflict(f"upload_{file.state}", f"This upload is {file.state}; request a new one.")
    if file.state != "requested":
        raise StateConflict("upload_completed", f"The file is {file.state} already.")


def parts_of(file: File) -> set[int]:
    """The numbers of its parts."""
    return set(range(1, len(part_sizes(file.size)) + 1))


async def arrived_parts(store: Store, file: File) -> Arrived:
    """The parts that have arrived: all of them when the store has put them together, whoever has heard of that."""
    if file.upload_id is None:
        return Arrived()
    key = lifecycle.incoming_key(file.id)
    with suppress(ObjectMissing):
        return Arrived(await store.uploaded_parts(key, file.upload_id))
    with suppress(ObjectMissing):
        whole = await store.find(store.incoming, key)
        if whole.size == file.size:
            sizes = enumerate(part_sizes(file.size), 1)
            return Arrived([StoredPart(number, whole.etag, size) for number, size in sizes], is_whole=True)
    return Arrived()


async def own(uow: UnitOfWork, id: UUID) -> File:
    """A file that the caller requested; 403 for other files that they may read, 404 for the rest."""
    async with uow.context.unit_of_work(uow.access) as reading:
        file = await find_readable(reading, id)
    if file.uploader_id != uow.actor_id:
        raise Forbidden("Only who requested an upload can complete or cancel it.")
    return file


async def complete(uow: UnitOfWork, id: UUID, data: CompleteRequest | None) -> Response:
    """The client says that the bytes are there; the store is asked before the transaction begins."""
    file = await own(uow, id)
    if file.state == "requested" and file.replaces_id is not None:
        # It was theirs to replace when they asked; by now the class may read it, or they may have left the course.
        async with uow.context.unit_of_work(uow.access) as reading:
            await refuse_unless_own_or(reading, "files.edit", file.replaces_id)
    if file.state == "requested":
        found = await uploaded(store_of(uow.context), file, data.parts if data else None)
        file = await uow.lock(File, id)
        if file.state == "requested" and found.size == file.size:
            lifecycle.arrive(uow, file, found)
        elif file.state == "requested":
            await lifecycle.discard(uow, file, "rejected", "size_mismatch")
    if file.state in ("expired", "cancelled"):
        raise StateConflict(f"upload_{file.state}", f"This upload is {file.state}; request a new one.")
    return await FILE_POINT.after_write(uow, id, 202)


async def uploaded(store: Store, file: File, parts: list[UploadedPart] | None) -> StoredObject:
    """What is in the store: 409 `upload_missing` when nothing is, 422 when the parts do not fit."""
    key = lifecycle.incoming_key(file.id)
    try:
        if file.upload_id is not None:
            await put_together(store, file, file.upload_id, parts)
        return await store.find(store.incoming, key)
    except PartsRefused:
        raise Invalid(
            "parts_refused", "The store has no such parts; send each part's number and ETag.", ("body", "parts")
        ) from None
    except ObjectMissing:
        raise StateConflict("upload_missing", "Nothing was uploaded yet; upload the file, then complete it.") from None


async def put_together(store: Store, file: File, upload_id: str, parts: list[UploadedPart] | None) -> None:
    """Make one object of the parts, all of them: as the client names them, or as they have arrived.

    409 `parts_missing` before anything happens: the store would make a shorter object, and the parts would be gone.
    """
    key = lifecycle.incoming_key(file.id)
    if parts:
        named = [(part.number, part.etag) for part in parts]
        refuse_unless_all(file, [part.number for part in parts])
    else:
        arrived = await arrived_parts(store, file)
        if arrived.is_whole or not arrived.parts:
            return
        named = [(part.number, part.etag) for part in arrived.parts]
        refuse_unless_all(file, {part.number for part in arrived.parts})
    await store.complete_multipart(key, upload_id, named)


def refuse_unless_all(file: File, numbers: Collection[int]) -> None:
    """409 when parts are missing, 422 when one is named twice or there is no such part."""
    missing = sorted(parts_of(file).difference(numbers))
    if missing:
        some = ", ".join(str(number) for number in missing[:20])
        raise StateConflict("parts_missing", f"These parts have not arrived: {some}; upload them, then complete it.")
    if len(numbers) != len(parts_of(file)):
        raise Invalid("parts_refused", f"Name each of the parts 1 to {len(parts_of(file))} once.", ("body", "parts"))


async def cancel(uow: UnitOfWork, id: UUID) -> Response:
    """Give up an upload that was not completed."""
    await own(uow, id)
    file = await uow.lock(File, id)
    if file.state == "requested":
        await lifecycle.discard(uow, file, "cancelled")
    elif file.state != "cancelled":
        raise StateConflict("upload_completed", f"The file is {file.state} already; delete it instead.")
    return await FILE_POINT.after_write(uow, id)
