"""Guardians: linked to one student at a time, whose things they read and never change."""

from collections.abc import Collection, Sequence
from uuid import UUID

from fastapi import Response
from sqlalchemy import bindparam
from sqlmodel import col, select

from lms_core.sdk import Conflict, Invalid, Listing, NotFound, Point, UnitOfWork, alive, among, delete
from lms_users.contracts import USER
from lms_users.grants import refuse_unless_above
from lms_users.models import Guardianship, User
from lms_users.schemas import GuardianshipRead

GUARDIANS = Listing(
    Guardianship,
    GuardianshipRead,
    filters={"student_id": col(Guardianship.student_id) == bindparam("student_id")},
)
GUARDIAN = Point(Guardianship, GuardianshipRead)


async def link(uow: UnitOfWork, student_id: UUID, guardian_id: UUID) -> Guardianship:
    """Make somebody the guardian of a student whom the actor looks after and who is below them."""
    if student_id == guardian_id:
        raise Invalid("own_guardian", "Nobody is their own guardian.", ("body", "guardian_id"))
    await uow.require("users.edit", User, student_id)
    await refuse_unless_above(uow, student_id)
    for id in sorted((student_id, guardian_id)):
        await uow.hold(USER, id)
    guardianship = Guardianship(student_id=student_id, guardian_id=guardian_id)
    await uow.add(guardianship)
    uow.announce(f"user:{guardian_id}")
    return guardianship


async def add(uow: UnitOfWork, student_id: UUID, guardian_id: UUID) -> Response:
    """Link two users, both of whom the actor looks after."""
    await uow.require("users.edit", User, guardian_id)
    return await GUARDIAN.after_write(uow, (await link(uow, student_id, guardian_id)).id, 201)


async def remove(uow: UnitOfWork, student_id: UUID, id: UUID, if_match: str | None) -> Response:
    """End a link; it can be restored."""
    await uow.require("users.edit", User, student_id)
    await refuse_unless_above(uow, student_id)
    found = select(Guardianship.guardian_id).where(
        Guardianship.id == id, Guardianship.student_id == student_id, alive(Guardianship)
    )
    guardian_id = (await uow.session.execute(found)).scalar_one_or_none()
    if guardian_id is None:
        raise NotFound("users.guardianship", id)
    uow.announce(f"user:{guardian_id}")
    return await delete(uow, Guardianship, id, if_match)


async def conflicts_of_restored(uow: UnitOfWork, ids: Sequence[UUID], choices: Collection[str]) -> list[Conflict]:
    """A guardian comes back to a student who is there only through those who could name them one."""
    returning = select(Guardianship.student_id, Guardianship.id).where(among(col(Guardianship.id), ids))
    lives = returning.join(User, col(User.id) == col(Guardianship.student_id)).where(~col(User.is_deleted))
    return [
        Conflict("users.guardianship", id, "grant_not_allowed", "You may not name guardians of this student.")
        for student_id, id in (await uow.session.execute(lives)).all()
        if not await uow.can("users.edit", User, student_id)
    ]


async def refuse_unless_of_student(uow: UnitOfWork, student_id: UUID, id: UUID) -> None:
    """404 for a link, dead or alive, of somebody else."""
    found = select(Guardianship.id).where(Guardianship.id == id, Guardianship.student_id == student_id)
    if (await uow.session.execute(found)).first() is None:
        raise NotFound("users.guardianship", id)
