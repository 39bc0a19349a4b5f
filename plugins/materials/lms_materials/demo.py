"""Something to read in the demo course, for `lms up --demo`."""

from uuid import UUID

from lms_courses.contracts import DEMO_COURSE

from lms_core.sdk import Context
from lms_materials.contracts import MaterialChanged
from lms_materials.models import Material

PAGE = UUID("00000000-0000-7000-8000-000000000005")
TEXT = "All living things are made of cells. Mitochondria are the powerhouse of the cell."


async def make_demo(context: Context, demo: bool) -> list[str]:
    """Once; a second start finds it there."""
    if demo:
        async with context.unit_of_work() as uow:
            if await uow.session.get(Material, PAGE) is None:
                page = Material(id=PAGE, course_id=DEMO_COURSE, kind="page", title="Cells", body=TEXT, published=True)
                await uow.add(page)
                uow.emit(MaterialChanged(material_id=PAGE))
    return []
