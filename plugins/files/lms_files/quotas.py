"""The room that files take: reserved when an upload is requested, used once it is ready, given back when not."""

from uuid import UUID

from sqlalchemy import Uuid, bindparam, text
from sqlmodel import select

from lms_core.sdk import StateConflict, UnitOfWork
from lms_files import processors
from lms_files.models import File, Quota
from lms_files.settings import MIB, FilesSettings

# One statement decides, whoever else asks at the same time.
RESERVE = text(
    """
    INSERT INTO files_quota AS quota (id, reserved_bytes)
    SELECT :id, :size
    WHERE :size <= coalesce((SELECT limit_bytes FROM files_quota WHERE id = :id), :limit)
    ON CONFLICT (id) DO UPDATE
    SET reserved_bytes = quota.reserved_bytes + :size, version = quota.version + 1, updated_at = now()
    WHERE quota.used_bytes + quota.reserved_bytes + :size <= coalesce(quota.limit_bytes, :limit)
    RETURNING id
    """
).bindparams(bindparam("id", type_=Uuid()))
# Not below nothing: a count that is wrong is `lms files verify` to repair, and nobody's upload to fail for.
CHANGE = text(
    """
    UPDATE files_quota SET reserved_bytes = greatest(reserved_bytes - :size, 0), used_bytes = greatest(used_bytes + :used, 0),
        version = version + 1, updated_at = now()
    WHERE id = :id
    """
).bindparams(bindparam("id", type_=Uuid()))


async def reserve(uow: UnitOfWork, institution_id: UUID | None, owner_id: UUID, size: int) -> None:
    """Keep room for an upload: 409 `quota_exceeded` when there is none."""
    settings = uow.settings(FilesSettings)
    limit_mb = settings.personal_quota_mb if institution_id is None else settings.quota_mb
    values = {"id": institution_id or owner_id, "size": size, "limit": limit_mb * MIB}
    if (await uow.session.execute(RESERVE, values)).first() is None:
        whose = "your own files" if institution_id is None else "the files of this institution"
        raise StateConflict(
            "quota_exceeded",
            f"There is no room left for {whose}; ask for more. Deleted files keep theirs until purged.",
        )


async def taken_types(uow: UnitOfWork, id: UUID) -> frozenset[str]:
    """The types that an institution takes; id of a user: what is taken everywhere."""
    statement = select(Quota.allowed_types).where(Quota.id == id)
    own = (await uow.session.execute(statement)).scalar_one_or_none()
    return processors.default_types(uow.context) if own is None else frozenset(own)


async def free(uow: UnitOfWork, file: File) -> None:
    """A file that was ready is gone for good."""
    await uow.session.execute(CHANGE, {"id": file.quota_id, "size": 0, "used": -file.size})


async def settle(uow: UnitOfWork, file: File, is_used: bool) -> None:
    """The upload is over: what was reserved for it is used, or given back."""
    values = {"id": file.quota_id, "size": file.size, "used": file.size if is_used else 0}
    await uow.session.execute(CHANGE, values)
