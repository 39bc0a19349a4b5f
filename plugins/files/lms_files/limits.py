"""How much room an institution or a user has for files, and which types an institution takes."""

from typing import Any
from uuid import UUID

from fastapi import Response
from lms_courses.contracts import COURSE, CourseCatalog
from lms_institutions.contracts import INSTITUTION
from lms_users.contracts import USER
from sqlalchemy.dialects.postgresql import insert
from sqlmodel import select

from lms_core.sdk import Invalid, JsonBytes, NotFound, UnitOfWork
from lms_files import content_types, processors, quotas
from lms_files.models import Quota
from lms_files.schemas import InstitutionLimitsUpdate, UserLimitsUpdate
from lms_files.settings import MIB, FilesSettings


async def of_institution(uow: UnitOfWork, id: UUID) -> Response:
    """Room and types."""
    if not await uow.knows(INSTITUTION, id):
        raise NotFound(INSTITUTION, id)
    quota = await find(uow, id)
    taken = processors.default_types(uow.context) if quota.allowed_types is None else quota.allowed_types
    return JsonBytes(
        {
            **room(uow, quota, uow.settings(FilesSettings).quota_mb),
            "allowed_types": sorted(taken),
            "known_types": sorted(processors.known_types(uow.context)),
        }
    )


async def of_me(uow: UnitOfWork, course_id: UUID | None) -> Response:
    """Room for files without a course; with a course, the types are those of its institution. NotFound."""
    institution_id = None
    if course_id is not None:
        if not await uow.knows(COURSE, course_id):
            raise NotFound(COURSE, course_id)
        institution_id = await uow.use(CourseCatalog).institution_of(uow, course_id)
    mine = room(uow, await find(uow, uow.actor_id), uow.settings(FilesSettings).personal_quota_mb)
    return JsonBytes({**mine, "allowed_types": sorted(await quotas.taken_types(uow, institution_id or uow.actor_id))})


async def of_user(uow: UnitOfWork, id: UUID) -> Response:
    """Room for files without a course."""
    return JsonBytes(room(uow, await find(uow, id), uow.settings(FilesSettings).personal_quota_mb))


async def find(uow: UnitOfWork, id: UUID) -> Quota:
    """The row, or what it would say: it is made with the first upload."""
    found = (await uow.session.execute(select(Quota).where(Quota.id == id))).scalar_one_or_none()
    return found or Quota(id=id, used_bytes=0, reserved_bytes=0)


def room(uow: UnitOfWork, quota: Quota, default_mb: int) -> dict[str, Any]:
    """In bytes."""
    return {
        "used_bytes": quota.used_bytes,
        "reserved_bytes": quota.reserved_bytes,
        "limit_bytes": default_mb * MIB if quota.limit_bytes is None else quota.limit_bytes,
        "max_upload_bytes": uow.settings(FilesSettings).max_upload_bytes,
    }


async def change_institution(uow: UnitOfWork, id: UUID, data: InstitutionLimitsUpdate) -> Response:
    """Another limit, or other types; null is what holds everywhere. What is there stays, whatever it is."""
    await uow.hold(INSTITUTION, id)
    given = data.model_dump(exclude_unset=True)
    if data.allowed_types is not None:
        given["allowed_types"] = sorted({content_types.normalise(one) for one in data.allowed_types})
        unknown = set(given["allowed_types"]) - processors.known_types(uow.context)
        if unknown:
            raise Invalid(
                "unknown_type", f"Nothing here can look into {sorted(unknown)[0]}.", ("body", "allowed_types")
            )
    await put(uow, id, given)
    return await of_institution(uow, id)


async def change_user(uow: UnitOfWork, id: UUID, data: UserLimitsUpdate) -> Response:
    """Another limit; null is what holds everywhere."""
    await uow.hold(USER, id)
    await put(uow, id, data.model_dump(exclude_unset=True))
    return await of_user(uow, id)


async def put(uow: UnitOfWork, id: UUID, given: dict[str, Any]) -> None:
    """Change what is given."""
    await uow.session.execute(insert(Quota).values(id=id).on_conflict_do_nothing())
    found = await uow.session.execute(select(Quota).where(Quota.id == id).with_for_update())
    found.scalar_one().sqlmodel_update(given)
    await uow.session.flush()
