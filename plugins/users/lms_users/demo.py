"""A teacher and a student of the demo school, for `lms up --demo`."""

import secrets

from lms_institutions.contracts import DEMO_SCHOOL

from lms_core.sdk import Context
from lms_users.contracts import DEMO_STUDENT, DEMO_TEACHER, Passwords
from lms_users.grants import grant
from lms_users.models import User
from lms_users.schemas import RoleGrant

PEOPLE = ((DEMO_TEACHER, "teacher", "Tess Teacher"), (DEMO_STUDENT, "student", "Stan Student"))


async def make_demo(context: Context, demo: bool) -> list[str]:
    """Once; their common password is said when they are made."""
    if not demo:
        return []
    password = secrets.token_urlsafe(12)
    async with context.unit_of_work() as uow:
        passwords = uow.use_if_enabled(Passwords)
        if await uow.session.get(User, DEMO_TEACHER) is not None:
            return []
        for id, role, name in PEOPLE:
            address = f"{role}@demo.example"
            await uow.add(User(id=id, email=address, email_key=address, full_name=name))
            await grant(uow, id, RoleGrant(role=role, institution_id=DEMO_SCHOOL))
            if passwords is not None:
                await passwords.store(uow, id, await passwords.prepare(uow, address, password))
    return [f"Demo: teacher@demo.example and student@demo.example / {password}"]
