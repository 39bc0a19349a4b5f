"""The URLs of extensions, submissions and grades."""

from uuid import UUID

from fastapi import Response

from lms_core.sdk import (
    DeletionRead,
    IfMatch,
    Page,
    PageParams,
    RestoreRequest,
    Router,
    Uow,
    delete,
    reads,
    requires,
    restore,
)
from lms_materials import extensions, gradebook, grades, submissions
from lms_materials.assignment_schemas import (
    ExtensionCreate,
    ExtensionRead,
    ExtensionUpdate,
    GradeChange,
    GradeInput,
    StudentGrades,
    SubmissionInput,
    SubmissionRead,
)
from lms_materials.models import DueExtension

router = Router()
MAY_SUBMIT = requires("materials.submit", on="material", path="material_id")
MAY_EXTEND = requires("materials.edit", on="material", path="material_id")
MAY_CHANGE_EXTENSION = requires("materials.edit", on="extension", path="extension_id")


@router.get(
    "/grades",
    name="list_grades",
    response_model=Page[StudentGrades],
    dependencies=[reads("materials.read_submissions")],
)
async def list_grades(uow: Uow, params: PageParams, course_id: UUID) -> Response:
    """The students of a course with their grades: of the last attempt that has one, and that you may see."""
    return await gradebook.of_course(uow, params, course_id)


@router.get(
    "/submissions/{submission_id}",
    name="get_submission",
    response_model=SubmissionRead,
    dependencies=[reads("materials.read_submissions")],
)
async def get(uow: Uow, submission_id: UUID) -> Response:
    """One submission."""
    return await submissions.SUBMISSION_POINT.get(uow, submission_id)


@router.delete(
    "/submissions/{submission_id}",
    name="delete_submission",
    status_code=202,
    response_model=DeletionRead,
    dependencies=[requires("materials.delete_submissions", on="submission", path="submission_id")],
)
async def delete_submission(uow: Uow, submission_id: UUID, if_match: IfMatch = None) -> Response:
    """Take a submission out of sight, with its grades; it can be restored, and the attempt stays used."""
    return await submissions.remove(uow, submission_id, if_match)


@router.post(
    "/submissions/{submission_id}/restore",
    name="restore_submission",
    status_code=202,
    response_model=DeletionRead,
    dependencies=[reads("materials.delete_submissions", on="submission", path="submission_id")],
)
async def restore_submission(uow: Uow, submission_id: UUID, request: RestoreRequest | None = None) -> Response:
    """Bring it back as it was."""
    return await submissions.bring_back(uow, submission_id, request)


@router.put(
    "/submissions/{submission_id}/grade",
    name="grade_submission",
    response_model=SubmissionRead,
    dependencies=[requires("materials.grade", on="submission", path="submission_id")],
)
async def grade(uow: Uow, submission_id: UUID, data: GradeInput) -> Response:
    """Grade a submission, or grade it again; what it was before stays in its history."""
    return await grades.give(uow, submission_id, data)


@router.get(
    "/submissions/{submission_id}/grades",
    name="list_grade_history",
    response_model=Page[GradeChange],
    dependencies=[requires("materials.read_submissions", on="submission", path="submission_id")],
)
async def list_history(uow: Uow, submission_id: UUID, params: PageParams) -> Response:
    """How a submission was graded when, by whom and why; the last first."""
    return await grades.history(uow, submission_id, params)


@router.get(
    "/{material_id}/submissions",
    name="list_submissions",
    response_model=Page[SubmissionRead],
    dependencies=[reads("materials.read", on="material", path="material_id")],
)
async def list_submissions(uow: Uow, material_id: UUID, params: PageParams, user_id: UUID | None = None) -> Response:
    """What was handed in: your own, or everybody's where you teach; the last first."""
    return await submissions.list_of(uow, params, material_id, user_id)


@router.post(
    "/{material_id}/submissions",
    name="submit",
    status_code=201,
    response_model=SubmissionRead,
    dependencies=[MAY_SUBMIT],
)
async def submit(uow: Uow, material_id: UUID, data: SubmissionInput) -> Response:
    """Hand something in: a new attempt, which takes the place of your draft."""
    return await submissions.hand_in(uow, material_id, data)


@router.put(
    "/{material_id}/submissions/draft",
    name="save_draft",
    response_model=SubmissionRead,
    dependencies=[MAY_SUBMIT],
)
async def save_draft(uow: Uow, material_id: UUID, data: SubmissionInput) -> Response:
    """Keep what you have so far; nobody else sees it."""
    return await submissions.save_draft(uow, material_id, data)


@router.post(
    "/{material_id}/extensions",
    name="create_extension",
    status_code=201,
    response_model=ExtensionRead,
    dependencies=[MAY_EXTEND],
)
async def create_extension(uow: Uow, material_id: UUID, data: ExtensionCreate) -> Response:
    """Give a student, a section or a group more time; of several the most generous counts."""
    return await extensions.give(uow, material_id, data)


@router.get(
    "/{material_id}/extensions",
    name="list_extensions",
    response_model=Page[ExtensionRead],
    dependencies=[MAY_EXTEND],
)
async def list_extensions(uow: Uow, material_id: UUID, params: PageParams) -> Response:
    """Who has more time."""
    return await extensions.EXTENSIONS.page(uow, params, material_id=material_id)


@router.get(
    "/extensions/{extension_id}",
    name="get_extension",
    response_model=ExtensionRead,
    dependencies=[reads("materials.read_submissions")],
)
async def get_extension(uow: Uow, extension_id: UUID) -> Response:
    """One extension."""
    return await extensions.EXTENSION_POINT.get(uow, extension_id)


@router.patch(
    "/extensions/{extension_id}",
    name="update_extension",
    response_model=ExtensionRead,
    dependencies=[MAY_CHANGE_EXTENSION],
)
async def update_extension(uow: Uow, extension_id: UUID, data: ExtensionUpdate, if_match: IfMatch = None) -> Response:
    """Give another extension; null takes a date away."""
    return await extensions.change(uow, extension_id, data, if_match)


@router.delete(
    "/extensions/{extension_id}",
    name="delete_extension",
    status_code=202,
    response_model=DeletionRead,
    dependencies=[MAY_CHANGE_EXTENSION],
)
async def delete_extension(uow: Uow, extension_id: UUID, if_match: IfMatch = None) -> Response:
    """Take an extension back; it can be restored."""
    return await delete(uow, DueExtension, extension_id, if_match)


@router.post(
    "/extensions/{extension_id}/restore",
    name="restore_extension",
    status_code=202,
    response_model=DeletionRead,
    dependencies=[reads("materials.edit", on="extension", path="extension_id")],
)
async def restore_extension(uow: Uow, extension_id: UUID, request: RestoreRequest | None = None) -> Response:
    """Let it hold again."""
    return await restore(uow, DueExtension, extension_id, request)
