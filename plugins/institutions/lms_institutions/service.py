"""The rules for institutions."""

from uuid import UUID

from fastapi import Response
from sqlalchemy import Select, bindparam
from sqlalchemy.orm import aliased
from sqlmodel import col, select

from lms_core.sdk import Forbidden, Invalid, Listing, Point, StateConflict, UnitOfWork, alive, delete
from lms_institutions.contracts import INSTITUTION, InstitutionCreated, InstitutionMoved, InstitutionTree
from lms_institutions.inheritance import COLUMNS
from lms_institutions.models import Institution
from lms_institutions.schemas import InstitutionCreate, InstitutionRead, InstitutionUpdate

INSTITUTIONS = Listing(
    Institution,
    InstitutionRead,
    filters={"parent_id": col(Institution.parent_id) == bindparam("parent_id")},
    columns=COLUMNS,
)
INSTITUTION_POINT = Point(Institution, InstitutionRead, columns=COLUMNS)


async def create(uow: UnitOfWork, data: InstitutionCreate) -> Response:
    """Add a node to the tree, or a tree of its own, which only a super admin may."""
    if data.parent_id is None:
        refuse_top(uow)
    else:
        await uow.hold(INSTITUTION, data.parent_id)
    refuse_unknown_kinds(uow, data.retention_days_of)
    institution = Institution(**data.model_dump())
    await uow.add(institution)
    uow.emit(InstitutionCreated(institution_id=institution.id, parent_id=institution.parent_id))
    # Roles held above reach the new node too.
    uow.announce("all")
    return await INSTITUTION_POINT.after_write(uow, institution.id, 201)


async def update(uow: UnitOfWork, id: UUID, data: InstitutionUpdate, if_match: str | None) -> Response:
    """Change what is given, the place in the tree too."""
    changes = data.model_dump(exclude_unset=True)
    for name in ("name", "slug"):
        if name in changes and changes[name] is None:
            del changes[name]
    refuse_unknown_kinds(uow, data.retention_days_of)
    if "parent_id" in changes:
        await prepare_move(uow, id, changes["parent_id"])
    else:
        await refuse_own(uow, id)
    institution = await uow.lock(Institution, id, if_match)
    moved_from = institution.parent_id
    moves = "parent_id" in changes and changes["parent_id"] != moved_from
    if moves and changes["parent_id"] is not None:
        await refuse_cycle(uow, id, changes["parent_id"])
    institution.sqlmodel_update(changes)
    await uow.flush()
    if moves:
        uow.emit(InstitutionMoved(institution_id=id, from_parent_id=moved_from, to_parent_id=institution.parent_id))
        # Roles held above the old place end here, and those held above the new one begin.
        uow.announce("all")
    elif "timezone" in changes:
        # Roles that end with a day end at another moment.
        uow.announce("all")
    return await INSTITUTION_POINT.after_write(uow, id)


def refuse_unknown_kinds(uow: UnitOfWork, days: dict[str, int] | None) -> None:
    """422 for a kind that no enabled plugin has: a typing error would let things go too early."""
    unknown = sorted(set(days or ()) - set(uow.kinds))
    if unknown:
        raise Invalid(
            "unknown_kind",
            f"There is no kind {unknown[0]!r}; use one of: {', '.join(uow.kinds)}.",
            ("body", "retention_days_of"),
        )


async def prepare_move(uow: UnitOfWork, id: UUID, to_parent_id: UUID | None) -> None:
    """Let no other move run beside this one, ask for power at both ends, and keep both alive."""
    # Two moves that are harmless each can be a cycle together, so that a lock on the rows is not enough.
    await uow.alone("institutions.move")
    await refuse_own(uow, id)
    found = await uow.session.execute(select(Institution.parent_id).where(Institution.id == id))
    from_parent_id = found.scalar_one_or_none()
    if to_parent_id == from_parent_id:
        return
    if to_parent_id is None:
        refuse_top(uow)
    else:
        for permission in ("institutions.create", "institutions.edit"):
            await uow.require(permission, INSTITUTION, to_parent_id)
    # The old parent too: a delete of it that had already listed this node would take it along to its new place.
    for parent_id in sorted(end for end in (from_parent_id, to_parent_id) if end is not None):
        await uow.hold(INSTITUTION, parent_id)


async def refuse_cycle(uow: UnitOfWork, id: UUID, to_parent_id: UUID) -> None:
    """409 when the new parent is the institution itself or below it."""
    if id in (await uow.session.execute(Tree().and_above(to_parent_id))).scalars().all():
        raise StateConflict(
            "would_be_a_cycle", "An institution cannot hang under itself or below; choose one outside of it."
        )


def refuse_top(uow: UnitOfWork) -> None:
    """The top of a tree is for super admins."""
    if not uow.access.everywhere:
        raise Forbidden("Only a super admin makes an institution without a parent; name one with parent_id.")


async def remove(uow: UnitOfWork, id: UUID, if_match: str | None = None) -> Response:
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

    def and_below(self, institution_id: UUID) -> Select[UUID]:
        """A recursive walk down."""
        tree = (
            select(col(Institution.id))
            .where(Institution.id == institution_id, alive(Institution))
            .cte("institutions_below", recursive=True)
        )
        below = aliased(Institution)
        tree = tree.union(select(below.id).where(below.parent_id == tree.c.id, ~col(below.is_deleted)))
        return select(tree.c.id)
