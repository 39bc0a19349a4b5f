"""Who is in a group."""

from collections import Counter
from collections.abc import Collection, Sequence
from uuid import UUID

from fastapi import Response
from lms_enrollments.contracts import Roster
from lms_users.contracts import USER, UserDirectory
from sqlalchemy import bindparam, func, inspect
from sqlmodel import col, select

from lms_core.sdk import JsonBytes, Listing, NotFound, Point, UnitOfWork, alive, among, delete
from lms_groups import course_roles, holders
from lms_groups.contracts import MemberAdded, counts
from lms_groups.models import Group, Membership
from lms_groups.schemas import MemberResult, MembershipRead

TAKES_PART = (
    select(counts(inspect(Group).local_table, col(Membership.user_id)))
    .where(col(Group.id) == col(Membership.group_id))
    .correlate(Membership)
    .scalar_subquery()
)
COLUMNS = {"takes_part": TAKES_PART}
MEMBERSHIPS = Listing(
    Membership,
    MembershipRead,
    filters={"group_id": col(Membership.group_id) == bindparam("group_id")},
    columns=COLUMNS,
)
MEMBERSHIP_POINT = Point(Membership, MembershipRead, columns=COLUMNS)


async def add(uow: UnitOfWork, group_id: UUID, user_id: UUID) -> Response:
    """Put somebody into a group: 201, or 200 when they are in it."""
    [placed] = await place(uow, group_id, [user_id])
    if placed.membership_id is None:
        raise NotFound(USER, user_id)
    return await MEMBERSHIP_POINT.after_write(uow, placed.membership_id, 201 if placed.status == "created" else 200)


async def add_many(uow: UnitOfWork, group_id: UUID, user_ids: Sequence[UUID]) -> Response:
    """Put many into a group in one transaction, answered one by one."""
    results = await place(uow, group_id, user_ids)
    counts = Counter(result.status for result in results)
    return JsonBytes({"results": [result.model_dump() for result in results], "counts": counts})


async def place(uow: UnitOfWork, group_id: UUID, user_ids: Sequence[UUID]) -> list[MemberResult]:
    """Under the group's lock, so that it gets no role meanwhile that the actor could not give."""
    group = await uow.lock(Group, group_id)
    holds_roles = await course_roles.refuse_unless_may_give_all(uow, group_id)
    eligible = await eligible_among(uow, group, user_ids)
    inside = select(Membership).where(
        Membership.group_id == group_id, among(col(Membership.user_id), user_ids), ~col(Membership.is_deleted)
    )
    there = {one.user_id: one for one in (await uow.session.execute(inside)).scalars()}
    # Under the locks, so later than the enrollment that makes them eligible: an earlier membership would count for nothing.
    now = (await uow.session.execute(select(func.clock_timestamp()))).scalar_one()
    # Who came back has the roles again: whoever adds them may give these.
    lacking = await holders.lacking_among(uow, [one.id for one in there.values()]) if holds_roles and there else set()
    results = []
    for user_id in user_ids:
        if user_id not in eligible:
            results.append(MemberResult(user_id=user_id, status="error", code="user_not_found"))
        elif user_id in there:
            if there[user_id].id in lacking:
                there[user_id].confirmed_at = now
            results.append(MemberResult(user_id=user_id, status="exists", membership_id=there[user_id].id))
        else:
            membership = Membership(group_id=group_id, user_id=user_id, created_at=now, updated_at=now)
            uow.session.add(membership)
            uow.emit(MemberAdded(membership_id=membership.id, group_id=group_id, user_id=user_id))
            results.append(MemberResult(user_id=user_id, status="created", membership_id=membership.id))
    await uow.flush()
    uow.announce_users([result.user_id for result in results if result.status != "error"])
    return results


async def eligible_among(uow: UnitOfWork, group: Group, user_ids: Sequence[UUID]) -> set[UUID]:
    """Those who may be in it: who is enrolled in its course, or holds a role at its institution, above or below."""
    directory = uow.use(UserDirectory)
    if group.course_id is not None:
        enrolled = await uow.use(Roster).enrolled_among(uow, group.course_id, user_ids)
        return await directory.living_among(uow, list(enrolled))
    assert group.institution_id is not None
    return set(await directory.members_among(uow, user_ids, group.institution_id, below=True))


async def remove(uow: UnitOfWork, group_id: UUID, id: UUID, if_match: str | None) -> Response:
    """Take somebody out; they can be put back with the same membership."""
    found = select(Membership.user_id).where(Membership.id == id, Membership.group_id == group_id, alive(Membership))
    user_id = (await uow.session.execute(found)).scalar_one_or_none()
    if user_id is None:
        raise NotFound("groups.membership", id)
    await course_roles.refuse_unless_may_give_all(uow, group_id)
    uow.announce(f"user:{user_id}")
    return await delete(uow, Membership, id, if_match)


async def refuse_unless_of_group(uow: UnitOfWork, group_id: UUID, id: UUID) -> None:
    """404 for a membership, dead or alive, of another group."""
    found = select(Membership.id).where(Membership.id == id, Membership.group_id == group_id)
    if (await uow.session.execute(found)).first() is None:
        raise NotFound("groups.membership", id)


async def announce_restored(uow: UnitOfWork, ids: Sequence[UUID], choices: Collection[str]) -> None:
    """There is nothing to choose."""
    users = select(Membership.user_id).where(among(col(Membership.id), ids)).distinct()
    uow.announce_users(list((await uow.session.execute(users)).scalars()))
