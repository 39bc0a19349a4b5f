"""Who takes part in the demo course, for `lms up --demo`."""

from lms_courses.contracts import DEMO_COURSE, CourseCatalog
from lms_users.contracts import DEMO_STUDENT, DEMO_TEACHER

from lms_core.sdk import Context
from lms_enrollments import joining
from lms_enrollments.parts import Part


async def make_demo(context: Context, demo: bool) -> list[str]:
    """Once; who is there already stays as they are."""
    if demo:
        async with context.unit_of_work() as uow:
            for course in (await uow.use(CourseCatalog).living(uow, [DEMO_COURSE])).values():
                await joining.place(uow, course, "teacher", {DEMO_TEACHER: Part()})
                await joining.place(uow, course, "student", {DEMO_STUDENT: Part()})
    return []
