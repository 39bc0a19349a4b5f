"""The URLs of enrollments."""

from typing import Annotated
from uuid import UUID

from fastapi import Query, Response

from lms_core.sdk import (
    DeletionRead,
    IfMatch,
    ImportPlanRead,
    ImportRead,
    Instant,
    Page,
    PageParams,
    RestoreRequest,
    Router,
    Uow,
    reads,
    requires,
    restore,
    signed_in,
)
from lms_enrollments import exporting, history, self_enrollment, service
from lms_enrollments.models import Enrollment
from lms_enrollments.schemas import (
    BulkCreate,
    BulkRead,
    EnrollmentCreate,
    EnrollmentImport,
    EnrollmentRead,
    EnrollmentUpdate,
    PeriodRead,
    Role,
    SelfEnrollment,
    State,
)

router = Router()
MAY_ENROLL = requires("enrollments.create", on="course", body="course_id")


@router.post(
    "",
    status_code=201,
    response_model=EnrollmentRead,
    responses={200: {"model": EnrollmentRead, "description": "There already"}},
    dependencies=[MAY_ENROLL],
)
async def create(uow: Uow, data: EnrollmentCreate) -> Response:
    """Enroll somebody; the same again answers 200 with the same enrollment."""
    return await service.enroll(uow, data)


@router.post(
    "/self",
    status_code=201,
    response_model=EnrollmentRead,
    responses={200: {"model": EnrollmentRead, "description": "There already"}},
    dependencies=[signed_in("the caller joins")],
)
async def join(uow: Uow, data: SelfEnrollment) -> Response:
    """Join a course, where it lets students join by themselves: at once, with its key, or by asking."""
    return await self_enrollment.join(uow, data)


@router.post("/bulk", response_model=BulkRead, dependencies=[MAY_ENROLL])
async def create_many(uow: Uow, data: BulkCreate) -> Response:
    """Enroll up to 10,000 in one transaction, answered row by row."""
    return await service.enroll_many(uow, data)


@router.post(
    "/import",
    name="import",
    status_code=202,
    response_model=ImportRead,
    responses={200: {"model": ImportPlanRead, "description": "What would be done (`dry_run`)"}},
    dependencies=[requires("enrollments.import", on="institution", body="institution_id")],
)
async def import_enrollments(uow: Uow, data: EnrollmentImport, dry_run: bool = False) -> Response:
    """Enroll, complete and drop from a CSV file that was uploaded; nothing when one row is wrong, and all undoable."""
    return await service.import_enrollments(uow, data, dry_run)


@router.get(
    "/export",
    response_class=Response,
    responses={200: {"content": {"text/csv": {}}, "description": "What the import reads back"}},
    dependencies=[requires("enrollments.import", on="institution", query="institution_id")],
)
async def export(
    uow: Uow,
    institution_id: UUID,
    course_id: UUID | None = None,
    part: Annotated[int, Query(ge=1, le=100_000, description="Where there are more than 10,000: which of them")] = 1,
) -> Response:
    """The enrollments in an institution's courses as a CSV file, which the import reads back unchanged.

    A file has 10,000 rows at most, as many as an import takes; `Link` names the next one.
    """
    return await exporting.export(uow, institution_id, course_id, part)


@router.get("", name="list", response_model=Page[EnrollmentRead], dependencies=[reads("enrollments.read")])
async def list_enrollments(
    uow: Uow,
    params: PageParams,
    course_id: UUID | None = None,
    user_id: UUID | None = None,
    state: State | None = None,
    role: Annotated[Role | None, Query()] = None,
    as_of: Annotated[Instant | None, Query(description="Who was enrolled then, as what and in which section")] = None,
) -> Response:
    """The enrollments that you may see, newest first."""
    filters = {"course_id": course_id, "user_id": user_id, "state": state, "role": role}
    if as_of is not None:
        return await history.list_as_of(uow, params, as_of, **filters)
    return await service.ENROLLMENTS.page(uow, params, **filters)


@router.get("/{enrollment_id}", response_model=EnrollmentRead, dependencies=[reads("enrollments.read")])
async def get(uow: Uow, enrollment_id: UUID) -> Response:
    """One enrollment."""
    return await service.ENROLLMENT_POINT.get(uow, enrollment_id)


@router.get(
    "/{enrollment_id}/history",
    response_model=Page[PeriodRead],
    dependencies=[reads("enrollments.read", on="enrollment", path="enrollment_id")],
)
async def list_history(uow: Uow, enrollment_id: UUID, params: PageParams) -> Response:
    """What an enrollment was when, from the beginning on, who made it so, and why."""
    return await service.history_of(uow, enrollment_id, params)


@router.patch(
    "/{enrollment_id}",
    response_model=EnrollmentRead,
    dependencies=[reads("enrollments.read", on="enrollment", path="enrollment_id")],
)
async def update(uow: Uow, enrollment_id: UUID, data: EnrollmentUpdate, if_match: IfMatch = None) -> Response:
    """Let in who asked, complete, drop, or change the section or the days; students may drop their own."""
    return await service.update(uow, enrollment_id, data, if_match)


@router.delete(
    "/{enrollment_id}",
    status_code=202,
    response_model=DeletionRead,
    dependencies=[reads("enrollments.read", on="enrollment", path="enrollment_id")],
)
async def delete(uow: Uow, enrollment_id: UUID, if_match: IfMatch = None) -> Response:
    """Delete an enrollment; it can be restored while there is a seat."""
    return await service.remove(uow, enrollment_id, if_match)


@router.post(
    "/{enrollment_id}/restore",
    name="restore",
    status_code=202,
    response_model=DeletionRead,
    dependencies=[reads("enrollments.delete", on="enrollment", path="enrollment_id")],
)
async def restore_enrollment(uow: Uow, enrollment_id: UUID, request: RestoreRequest | None = None) -> Response:
    """Bring an enrollment back; into a full course only with `on_conflict: waitlist`."""
    return await restore(uow, Enrollment, enrollment_id, request)
