"""The rules for institutions."""

from uuid import UUID

from fastapi import Response
from sqlalchemy import Select, bindparam
from sqlalchemy.orm import aliased
from sqlmodel import col, select

from lms_core.sdk import Forbidden, Listing, Point, UnitOfWork, alive, delete
from lms_institutions.contracts import INSTITUTION, InstitutionCreated, InstitutionTree
from lms_institutions.models import Institution
from lms_institutions.schemas import InstitutionCreate, InstitutionRead, InstitutionUpdate

INSTITUTIONS = Listing(
    Institution, InstitutionRead, filters={"parent_id": col(Institution.parent_id) == bindparam("parent_id")}
)
INSTITUTION_POINT = Point(Institution, InstitutionRead)


async def create(uow: UnitOfWork, data: InstitutionCreate) -> Response:
    """Add a node to the tree, or a tree of its own, which only a super admin may."""
    timezone = data.timezone
    if data.parent_id is None:
        if not uow.access.everywhere:
            raise Forbidden("Only a super admin makes an institution without a parent; name one with parent_id.")
    else:
        await uow.hold(INSTITUTION, data.parent_id)
        parent = select(Institution.timezone).where(Institution.id == data.parent_id)
        timezone = timezone or (await uow.session.execute(parent)).scalar_one()
    institution = Institution(**data.model_dump(exclude={"timezone"}), timezone=timezone or "UTC")
    await uow.add(institution)
    uow.emit(InstitutionCreated(institution_id=institution.id, parent_id=institution.parent_id))
    # Roles held above reach the new node too.
    uow.announce("all")
    return await INSTITUTION_POINT.after_write(uow, institution.id, 201)


async def update(uow: UnitOfWork, id: UUID, data: InstitutionUpdate, if_match: str | None) -> Response:
    """Change what is given."""
    await refuse_own(uow, id)
    institution = await uow.lock(Institution, id, if_match)
    institution.sqlmodel_update(data.model_dump(exclude_unset=True, exclude_none=True))
    await uow.flush()
    return await INSTITUTION_POINT.after_write(uow, id)


async def remove(uow: UnitOfWork, id: UUID, if_match: str | None) -> Response:
    """Delete it with everything below."""
    await refuse_own(uow, id)
    return await delete(uow, Institution, id, if_match)


async def refuse_own(uow: UnitOfWork, id: UUID) -> None:
    """Who runs an institution may change what is below it, not the institution itself."""
    if uow.access.everywhere:
        return
    parent = select(Institution.parent_id).where(Institution.id == id, alive(Institution))
    parent_id = (await uow.session.execute(parent)).scalar_one_or_none()
    if parent_id is None or not await uow.can("institutions.edit", Institution, parent_id):
        raise Forbidden("An institution is changed by those who run the one above it.")


class Tree(InstitutionTree):
    """Answers other plugins' questions."""

    def and_above(self, institution_id: UUID) -> Select[UUID]:
        """A recursive walk up."""
        path = (
            select(col(Institution.id), col(Institution.parent_id))
            .where(Institution.id == institution_id)
            .cte("institutions_above", recursive=True)
        )
        above = aliased(Institution)
        path = path.union(select(above.id, above.parent_id).where(above.id == path.c.parent_id))
        return select(path.c.id)
