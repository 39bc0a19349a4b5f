"""The history of a material: what it held when, how two of these differ, and the way back."""

import asyncio
from collections.abc import Sequence
from difflib import unified_diff
from typing import Any
from uuid import UUID

from fastapi import Response
from sqlalchemy import bindparam, exists
from sqlmodel import col, select

from lms_core.sdk import Filter, JsonBytes, Listing, NotFound, UnitOfWork, alive
from lms_materials.models import Material, Revision
from lms_materials.schemas import RevisionRead

KEPT = ("title", "body", "body_format", "content", "file_id", "url")


def readable(uow: UnitOfWork) -> Filter:
    """Who reads the drafts of a course reads what its materials were."""
    rule = uow.permitted("materials.read_drafts", Material)

    def write(revision: Any) -> Any:
        of = col(Material.id) == revision.material_id
        return exists().where(of, alive(Material), rule.write(Material))

    return Filter(("revision", rule.shape), rule.parameters, write, never=rule.never)


REVISIONS = Listing(
    Revision,
    RevisionRead,
    filters={"material_id": col(Revision.material_id) == bindparam("material_id")},
    order=(col(Revision.number),),
    readable=readable,
)
# Comparing takes the product of two lengths in time; beyond this the part that differs is shown as replaced whole.
COMPARED = 1_000_000


async def keep(uow: UnitOfWork, material: Material) -> None:
    """Note what a material holds from now on, unless that is what was noted last; under its lock."""
    rows = select(Revision).where(Revision.material_id == material.id).order_by(col(Revision.number).desc()).limit(1)
    before = (await uow.session.execute(rows)).scalar_one_or_none()
    held = {name: getattr(material, name) for name in KEPT}
    if before is not None and all(getattr(before, name) == value for name, value in held.items()):
        return
    number = 1 if before is None else before.number + 1
    uow.session.add(Revision(material_id=material.id, number=number, actor_id=uow.access.actor_id, **held))


async def find(uow: UnitOfWork, material_id: UUID, revision_id: UUID) -> Revision:
    """One of them. Raises NotFound."""
    rows = select(Revision).where(Revision.material_id == material_id, Revision.id == revision_id)
    found = (await uow.session.execute(rows)).scalar_one_or_none()
    if found is None:
        raise NotFound("materials.revision", revision_id)
    return found


async def numbered(uow: UnitOfWork, material_id: UUID, number: int) -> Revision | None:
    """One of them by its number; number 0 is the time before the first."""
    rows = select(Revision).where(Revision.material_id == material_id, Revision.number == number)
    found = (await uow.session.execute(rows)).scalar_one_or_none()
    if found is None and number > 0:
        raise NotFound("materials.revision")
    return found


async def difference(uow: UnitOfWork, material_id: UUID, revision_id: UUID, since: int | None) -> Response:
    """How a revision differs from an earlier one, by default the one before."""
    new = await find(uow, material_id, revision_id)
    old = await numbered(uow, material_id, new.number - 1 if since is None else since)
    changed = [name for name in KEPT if old is None or getattr(old, name) != getattr(new, name)]
    lines = await asyncio.to_thread(diff, "" if old is None else old.body, new.body)
    answer = {
        "number": new.number,
        "since": None if old is None else old.number,
        "changed": changed,
        "body_diff": lines,
    }
    return JsonBytes(answer)


def diff(old: str, new: str) -> str:
    """A unified diff, whose effort is bounded."""
    before, after = old.splitlines(), new.splitlines()
    start = same(before, after)
    end = same(before[start:][::-1], after[start:][::-1])
    middle = (len(before) - start - end) * (len(after) - start - end)
    if middle > COMPARED:
        removed, added = before[start : len(before) - end], after[start : len(after) - end]
        heading = f"@@ -{start + 1},{len(removed)} +{start + 1},{len(added)} @@"
        return "\n".join([heading, *(f"-{line}" for line in removed), *(f"+{line}" for line in added)])
    return "\n".join(list(unified_diff(before, after, lineterm=""))[2:])


def same(one: Sequence[str], other: Sequence[str]) -> int:
    """How many lines are the same at the beginning."""
    pairs = zip(one, other, strict=False)
    return next((number for number, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))
