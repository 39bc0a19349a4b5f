"""A course of the demo school, for `lms up --demo`."""

from lms_institutions.contracts import DEMO_SCHOOL

from lms_core.sdk import Context
from lms_courses.contracts import DEMO_COURSE
from lms_courses.models import Course


async def make_demo(context: Context, demo: bool) -> list[str]:
    """Once; a second start finds it there."""
    if demo:
        async with context.unit_of_work() as uow:
            if await uow.session.get(Course, DEMO_COURSE) is None:
                course = Course(id=DEMO_COURSE, institution_id=DEMO_SCHOOL, code="BIO-101", title="Biology")
                course.state = "published"
                await uow.add(course)
    return []
