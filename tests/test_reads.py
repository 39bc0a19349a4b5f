"""What is compiled once: reads inside and outside a transaction, questions of permission, and what holds a row's ancestors."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID, uuid4

import msgspec
import pytest
from pydantic import BaseModel
from sqlalchemy import Uuid, bindparam, literal, select, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.exc import DBAPIError
from sqlmodel import col

from lms_core.errors import NotFound
from lms_core.pagination import Listing
from lms_core.statements import Read
from lms_core.testing import Lms, School

pytestmark = pytest.mark.anyio


def model_of(lms: Lms, kind: str) -> Any:
    return lms.context.platform.kinds.by_name[kind].model


async def test_a_read_in_a_transaction_sees_what_is_not_written_yet(lms: Lms) -> None:
    model = model_of(lms, "institutions.institution")
    read = Read(select(col(model.name)).where(col(model.id) == bindparam("row_id", type_=Uuid())), plan_once=True)
    async with lms.context.unit_of_work() as uow:
        row = model(name="New", slug=uuid4().hex)
        uow.session.add(row)
        assert list(map(dict, await read.all(uow.session, row_id=row.id))) == [{"name": "New"}]
        assert await read.one(uow.database, row_id=row.id) is None


async def test_json_goes_in_and_out_of_a_read_wherever_it_runs(lms: Lms) -> None:
    given = {"a": [1, None, "ü"]}
    read = Read(select(literal(given, JSONB).label("json"), literal("x").label("text")))
    async with lms.context.unit_of_work() as uow:
        inside, outside = await read.one(uow.session), await read.one(uow.database)
    assert inside is not None
    assert dict(inside) == {"json": given, "text": "x"}
    assert outside is not None
    assert msgspec.json.decode(outside["json"]) == given


async def test_what_the_code_says_stands_in_the_sql_and_what_has_a_name_does_not(lms: Lms) -> None:
    hostile = 'it\'s \\ 100 % :x $1 %(p)s "q"'
    statement = select(
        literal(hostile).label("text"), literal(-(2**40)).label("number"), literal(True).label("truth"),
        bindparam("word", "by default").label("word"), literal("b").in_(["a", "it's"]).label("among"),
    )  # fmt: skip
    read = Read(statement)
    assert read.names == ("word",)
    for given, word in (({}, "by default"), ({"word": hostile}, hostile)):
        row = await read.one(lms.context.database, **given)
        assert row is not None
        assert tuple(row.values()) == (hostile, -(2**40), True, word, False)


async def test_questions_about_several_kinds_are_kept_apart(lms: Lms, school: School) -> None:
    institution, course = UUID(school.institution["id"]), UUID(school.course["id"])
    for begun in (False, True):
        async with lms.context.unit_of_work() as uow:
            if begun:
                await uow.session.execute(text("SELECT 1"))
            assert await uow.knows("institution", institution)
            assert not await uow.knows("course", institution)
            assert await uow.can("courses.edit", "course", course)
            assert not await uow.can("courses.edit", "institution", course)
            assert await uow.can_on_all("courses.edit", "course", [course, course])
            assert not await uow.can_on_all("courses.edit", "course", [course, institution])
            with pytest.raises(NotFound):
                await uow.require("courses.edit", "course", institution)


async def is_locked(lms: Lms, kind: str, id: str) -> bool:
    """Whether nobody else can change a row now."""
    try:
        await lms.sql(f"SELECT FROM {kind.replace('.', '_')} WHERE id = :id FOR UPDATE NOWAIT", id=id)
    except DBAPIError:
        return True
    return False


async def test_a_row_is_held_with_all_it_hangs_under_by_one_statement(lms: Lms, school: School) -> None:
    page = {"course_id": school.course["id"], "kind": "page", "title": "Page"}
    material = await school.teacher.create("/materials", page)
    rows = [
        ("institutions.institution", school.institution["id"]),
        ("courses.course", school.course["id"]),
        ("materials.material", material["id"]),
    ]
    async with lms.context.unit_of_work() as uow:
        async with lms.counted() as counted:
            await uow.hold("material", UUID(material["id"]))
        assert counted.statements == 1
        assert [await is_locked(lms, *row) for row in rows] == [True, True, True]
    async with lms.context.unit_of_work() as uow:
        async with lms.counted() as counted:
            await uow.lock(model_of(lms, "materials.material"), UUID(material["id"]))
        assert counted.statements == 1
        assert [await is_locked(lms, *row) for row in rows] == [True, True, True]
    async with lms.context.unit_of_work() as uow:
        uow.dry_run = True
        await uow.hold("material", UUID(material["id"]))
        assert [await is_locked(lms, *row) for row in rows] == [False, False, False]


@pytest.mark.parametrize("columns", [None, ("title", "version")])
async def test_what_happened_while_a_lock_waited_is_seen(
    lms: Lms, school: School, columns: tuple[str, ...] | None
) -> None:
    course, institution, model = school.course["id"], school.institution["id"], model_of(lms, "courses.course")

    async def locked() -> str:
        async with lms.context.unit_of_work() as uow:
            if columns is None:
                return str((await uow.lock(model, UUID(course))).title)
            return str((await uow.lock_columns(model, UUID(course), columns))["title"])

    async with lms.context.unit_of_work() as other:
        await other.session.execute(text("UPDATE courses_course SET title = 'Changed' WHERE id = :id"), {"id": course})
        waiting = asyncio.create_task(locked())
        await lms.until_somebody_waits()
    assert await waiting == "Changed"

    delete = "UPDATE institutions_institution SET is_deleted = true, deletion_id = gen_random_uuid() WHERE id = :id"
    async with lms.context.unit_of_work() as other:
        await other.session.execute(text(delete), {"id": institution})
        waiting = asyncio.create_task(locked())
        await lms.until_somebody_waits()
        # From the top: who deletes the institution may go on to its courses.
        assert not await is_locked(lms, "courses.course", course)
    with pytest.raises(NotFound, match="course"):
        await waiting
    back = "UPDATE institutions_institution SET is_deleted = false, deletion_id = NULL WHERE id = :id"
    await lms.sql(back, id=institution)


@pytest.mark.parametrize("columns", [None, ("title",)])
async def test_a_row_that_was_moved_while_its_lock_waited_is_held_where_it_is(
    lms: Lms, school: School, columns: tuple[str, ...] | None
) -> None:
    course, institution, model = school.course["id"], school.institution["id"], model_of(lms, "courses.course")
    other = (await lms.make_school()).institution["id"]

    async def locked() -> bool:
        async with lms.context.unit_of_work() as uow:
            if columns is None:
                assert str((await uow.lock(model, UUID(course))).institution_id) == other
            else:
                await uow.lock_columns(model, UUID(course), columns)
            return await is_locked(lms, "institutions.institution", other)

    async with lms.context.unit_of_work() as mover:
        await mover.session.execute(
            text("SELECT FROM institutions_institution WHERE id = :id FOR UPDATE"), {"id": institution}
        )
        move = text("UPDATE courses_course SET institution_id = :other, term_id = NULL WHERE id = :id")
        await mover.session.execute(move, {"id": course, "other": other})
        waiting = asyncio.create_task(locked())
        await lms.until_somebody_waits()
    assert await waiting


async def test_what_hangs_under_something_deleted_is_not_held(lms: Lms, school: School) -> None:
    material = await school.teacher.create(
        "/materials", {"course_id": school.course["id"], "kind": "page", "title": "Page"}
    )
    deleted = await school.principal.delete(f"/courses/{school.course['id']}")
    assert deleted.status_code == 202, deleted.text
    async with lms.context.unit_of_work() as uow:
        for kind, id in (("material", material["id"]), ("course", school.course["id"])):
            with pytest.raises(NotFound, match=kind):
                await uow.hold(kind, UUID(id))
            with pytest.raises(NotFound, match=kind):
                await uow.lock(model_of(lms, f"{kind}s.{kind}"), UUID(id))
        with pytest.raises(NotFound, match="material"):
            await uow.hold("material", uuid4())
        with pytest.raises(NotFound, match="material"):
            await uow.lock(model_of(lms, "materials.material"), uuid4())


class Answer(BaseModel):
    id: UUID


@pytest.mark.parametrize("name", ["is_active", "deletion_id"])
async def test_a_list_refuses_an_order_that_pages_cannot_go_by(lms: Lms, name: str) -> None:
    user = model_of(lms, "users.user")
    with pytest.raises(TypeError, match=name):
        Listing(user, Answer, order=(col(getattr(user, name)), col(user.id)))
