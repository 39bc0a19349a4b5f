"""The way of a file into the store: requested, uploaded by the client, and completed; or cancelled."""

from typing import Any
from uuid import UUID

from fastapi import Response
from lms_courses.contracts import COURSE, CourseCatalog
from sqlalchemy import true

from lms_core.sdk import Forbidden, Invalid, NotFound, Problem, StateConflict, UnitOfWork, new_id
from lms_files import content_types, lifecycle, quotas
from lms_files.derivatives import has_text, has_thumbnail
from lms_files.models import File
from lms_files.schemas import CompleteRequest, FileRequest, UploadedPart
from lms_files.service import FILE_POINT, find_readable
from lms_files.settings import FilesSettings
from lms_files.storage import Store, StoredObject, part_size, store_of
from lms_files.storage_clients import ObjectMissing, PartsRefused


async def refuse_unless_taking_part(uow: UnitOfWork, course_id: UUID) -> None:
    """404 when the caller may not know the course, 403 when they do not take part in it."""
    await uow.require("files.request", COURSE, course_id)


async def refuse_unless_known(uow: UnitOfWork, id: UUID) -> None:
    """404, asked on the read pool: the store may have to be asked before the transaction begins."""
    known, _ = await uow.context.platform.rules.check(uow.context, uow.access, "files.edit", File, id)
    if not known:
        raise NotFound("files.file", id)


async def request(uow: UnitOfWork, data: FileRequest) -> Response:
    """Keep room for a file and say where to upload it."""
    settings, store = uow.settings(FilesSettings), store_of(uow.context)
    content_type = content_types.normalise(data.content_type)
    refuse_unless_taken(data, settings)
    id, upload_id = new_id(), None
    if data.size >= settings.multipart_from_bytes:
        upload_id = await store.start_multipart(lifecycle.incoming_key(id), content_type)
    institution_id = await hold_course(uow, data.course_id)
    file = File(
        id=id,
        course_id=data.course_id,
        institution_id=institution_id,
        owner_id=uow.actor_id,
        shared=data.course_id is not None and await uow.can("files.read_all", COURSE, data.course_id),
        filename=data.filename,
        content_type=content_type,
        size=data.size,
        sha256=data.sha256,
        upload_kind="post" if upload_id is None else "multipart",
        upload_id=upload_id,
        text_state="pending" if has_text(content_type) else "none",
        thumbnail_state="pending" if has_thumbnail(content_type) else "none",
    )
    await uow.add(file)
    await quotas.reserve(uow, institution_id, uow.actor_id, data.size)
    found = await uow.session.execute(FILE_POINT.statement(true()), {"row_id": id})
    return FILE_POINT.answer({**found.mappings().one(), "upload": await upload_of(store, file)}, 201)


def refuse_unless_taken(data: FileRequest, settings: FilesSettings) -> None:
    """415 for what is not on the list, 413 for what is too large."""
    if not content_types.is_allowed(data.content_type, data.filename):
        raise Problem(
            415,
            "content_type_not_allowed",
            "Files of this type or name are not taken; PDF, Office, OpenDocument, pictures, audio, video, text, CSV, "
            "Markdown and zip are.",
        )
    if data.size > settings.max_upload_bytes:
        raise Problem(
            413, "file_too_large", f"A file may have {settings.max_upload_mb} MiB at most; send a smaller one."
        )


async def hold_course(uow: UnitOfWork, course_id: UUID | None) -> UUID | None:
    """Keep the course alive until the file is there; its institution."""
    if course_id is None:
        return None
    await uow.hold(COURSE, course_id)
    return await uow.use(CourseCatalog).institution_of(uow, course_id)


async def upload_of(store: Store, file: File) -> dict[str, Any]:
    """How to upload it."""
    key = lifecycle.incoming_key(file.id)
    if file.upload_id is None:
        form = await store.upload_form(key, file.content_type, file.size)
        return {"kind": "post", **form, "expires_at": file.expires_at}
    urls = await store.part_urls(key, file.upload_id, file.size)
    return {
        "kind": "multipart",
        "part_size": part_size(file.size),
        "parts": [{"number": number, "url": url} for number, url in enumerate(urls, 1)],
        "expires_at": file.expires_at,
    }


async def own(uow: UnitOfWork, id: UUID) -> File:
    """A file that the caller requested; 403 for other files that they may read, 404 for the rest."""
    async with uow.context.unit_of_work(uow.access) as reading:
        file = await find_readable(reading, id)
    if file.owner_id != uow.actor_id:
        raise Forbidden("Only who requested an upload can complete or cancel it.")
    return file


async def complete(uow: UnitOfWork, id: UUID, data: CompleteRequest | None) -> Response:
    """The client says that the bytes are there; the store is asked before the transaction begins."""
    file = await own(uow, id)
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
            if not parts:
                raise Invalid("parts_required", "Send the number and ETag of every part.", ("body", "parts"))
            await store.complete_multipart(key, file.upload_id, [(part.number, part.etag) for part in parts])
        return await store.find(store.incoming, key)
    except PartsRefused:
        raise Invalid(
            "parts_refused", "The store has no such parts; send each part's number and ETag.", ("body", "parts")
        ) from None
    except ObjectMissing:
        raise StateConflict("upload_missing", "Nothing was uploaded yet; upload the file, then complete it.") from None


async def cancel(uow: UnitOfWork, id: UUID) -> Response:
    """Give up an upload that was not completed."""
    await own(uow, id)
    file = await uow.lock(File, id)
    if file.state == "requested":
        await lifecycle.discard(uow, file, "cancelled")
    elif file.state != "cancelled":
        raise StateConflict("upload_completed", f"The file is {file.state} already; delete it instead.")
    return await FILE_POINT.after_write(uow, id)
