"""Students who join a course by themselves: freely, with a key, or by asking."""

from datetime import UTC, datetime, timedelta
from math import ceil
from uuid import UUID

from fastapi import Response
from lms_courses.contracts import COURSE, CourseCatalog
from lms_users.contracts import UserDirectory
from sqlmodel import select

from lms_core.sdk import Forbidden, NotFound, Problem, UnitOfWork, new_id
from lms_enrollments import joining, seats
from lms_enrollments.contracts import EnrollmentRequested
from lms_enrollments.models import WrongKeys
from lms_enrollments.parts import Part
from lms_enrollments.schemas import SelfEnrollment
from lms_enrollments.service import ENROLLMENT_POINT

FREE_KEYS = 10
KEYS_FORGOTTEN_AFTER = timedelta(minutes=15)


async def join(uow: UnitOfWork, data: SelfEnrollment) -> Response:
    """201 with the caller's enrollment (200 when it is there already), as the course lets students join.

    404 for a course that the caller may not know; 403 `self_enrollment_closed`, `wrong_key`; 409 `course_full`;
    429 `too_many_keys`.
    """
    if not await uow.knows(COURSE, data.course_id):
        raise NotFound(COURSE, data.course_id)
    catalog = uow.use(CourseCatalog)
    course = await catalog.lock(uow, data.course_id)
    members = await uow.use(UserDirectory).members_among(uow, [uow.actor_id], course.institution_id)
    if course.self_enrollment == "closed" or course.state != "published" or uow.actor_id not in members:
        raise Forbidden("Nobody joins this course by themselves; ask who teaches it.", "self_enrollment_closed")
    if course.self_enrollment == "key" and not await takes_part(uow, course.id):
        await refuse_wrong_key(uow, course.id, data.key or "")
    if course.self_enrollment == "approval":
        return await ask(uow, course.id)
    id, is_new = await joining.place_one(uow, course, uow.actor_id, seats.STUDENT, Part())
    return await ENROLLMENT_POINT.after_write(uow, id, 201 if is_new else 200)


async def takes_part(uow: UnitOfWork, course_id: UUID) -> bool:
    """Whether the caller is in already, or waits: the same again answers so, with a key or without."""
    standing = await joining.standing_enrollments(uow, course_id, [uow.actor_id], seats.STUDENT)
    return any(row["state"] != "requested" for row in standing.values())


async def refuse_wrong_key(uow: UnitOfWork, course_id: UUID, key: str) -> None:
    """403 `wrong_key`, and after some of them 429 for a while, also for the right one: keys can be guessed."""
    found = select(WrongKeys).where(WrongKeys.course_id == course_id, WrongKeys.user_id == uow.actor_id)
    wrong = (await uow.session.execute(found)).scalar_one_or_none()
    now = datetime.now(UTC)
    forgotten_at = now if wrong is None else wrong.since + KEYS_FORGOTTEN_AFTER
    if wrong is not None and wrong.count >= FREE_KEYS and forgotten_at > now:
        seconds = {"Retry-After": str(ceil((forgotten_at - now).total_seconds()))}
        raise Problem(429, "too_many_keys", "Too many wrong keys; ask who teaches the course, and try later.", seconds)
    if await uow.use(CourseCatalog).opens_with(uow, course_id, key):
        return
    if wrong is None:
        uow.session.add(WrongKeys(course_id=course_id, user_id=uow.actor_id, count=1, since=now))
    else:
        wrong.count, wrong.since = (wrong.count + 1, wrong.since) if forgotten_at > now else (1, now)
    await uow.session.flush()
    raise Forbidden("This is not the key of the course; ask who teaches it.", "wrong_key").keeping_writes()


async def ask(uow: UnitOfWork, course_id: UUID) -> Response:
    """A request that waits for whoever teaches the course; it takes no seat and gives nothing."""
    standing = await joining.standing_enrollments(uow, course_id, [uow.actor_id], seats.STUDENT)
    if uow.actor_id in standing:
        return await ENROLLMENT_POINT.after_write(uow, standing[uow.actor_id]["id"], 200)
    id = new_id()
    request = {"id": id, "user_id": uow.actor_id, "state": "requested", "waiting_number": None}
    await joining.store(uow, course_id, seats.STUDENT, Part(), [request])
    uow.emit(EnrollmentRequested(enrollment_id=id, course_id=course_id, user_id=uow.actor_id, role=seats.STUDENT))
    return await ENROLLMENT_POINT.after_write(uow, id, 201)
