"""The rules for modules, the chapters of a course."""

from uuid import UUID

from fastapi import Response
from lms_courses.contracts import COURSE, CourseCatalog
from sqlalchemy import bindparam
from sqlmodel import col, select

from lms_core.sdk import Listing, NotFound, Point, UnitOfWork, alive
from lms_materials import ordering
from lms_materials.contracts import MODULE
from lms_materials.models import Material, Module
from lms_materials.schemas import ModuleCreate, ModuleRead, ModuleUpdate, Move
from lms_materials.service import share_files_of

MODULES = Listing(
    Module,
    ModuleRead,
    filters={"course_id": col(Module.course_id) == bindparam("course_id")},
    order=(col(Module.position), col(Module.id)),
    descending=False,
)
MODULE_POINT = Point(Module, ModuleRead)


async def create(uow: UnitOfWork, data: ModuleCreate) -> Response:
    """Add a module to a course."""
    await uow.hold(COURSE, data.course_id)
    position = data.position
    if position is None:
        position = await ordering.last(uow, Module, col(Module.course_id) == data.course_id)
    module = Module(**data.model_dump(exclude={"position"}), position=position)
    await uow.add(module)
    return await MODULE_POINT.after_write(uow, module.id, 201)


async def update(uow: UnitOfWork, id: UUID, data: ModuleUpdate, if_match: str | None) -> Response:
    """Change what is given; `unlock_at: null` opens it at once."""
    module = await uow.lock(Module, id, if_match)
    given = data.model_dump(exclude_unset=True)
    changes = {name: value for name, value in given.items() if value is not None or name == "unlock_at"}
    module.sqlmodel_update(changes)
    await uow.flush()
    if {"published", "unlock_at"} & set(changes):
        inside = select(Material.id).where(Material.module_id == id, alive(Material))
        await share_files_of(uow, (await uow.session.execute(inside)).scalars().all())
    return await MODULE_POINT.after_write(uow, id)


async def move(uow: UnitOfWork, id: UUID, data: Move) -> Response:
    """Put a module behind another one, or first; nothing else is renumbered."""
    course = (await uow.session.execute(select(Module.course_id).where(Module.id == id))).scalar_one_or_none()
    if course is None:
        raise NotFound(MODULE, id)
    await uow.use(CourseCatalog).lock(uow, course)
    module = await uow.lock(Module, id)
    await ordering.move(uow, Module, module, col(Module.course_id) == course, data.after_id)
    return await MODULE_POINT.after_write(uow, id)
