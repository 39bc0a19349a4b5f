"""A school to look at, for `lms up --demo`."""

from lms_core.sdk import Context
from lms_institutions.contracts import DEMO_SCHOOL
from lms_institutions.models import Institution


async def make_demo(context: Context, demo: bool) -> list[str]:
    """Once; a second start finds it there."""
    if demo:
        async with context.unit_of_work() as uow:
            if await uow.session.get(Institution, DEMO_SCHOOL) is None:
                await uow.add(Institution(id=DEMO_SCHOOL, name="Demo School", slug="demo-school", timezone="UTC"))
    return []
