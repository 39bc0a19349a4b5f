"""The URLs of courses and their sections."""

from typing import Annotated, Literal
from uuid import UUID

from fastapi import Query, Response

from lms_core.sdk import (
    DeletionRead,
    IfMatch,
    Page,
    PageParams,
    RestoreRequest,
    Router,
    Uow,
    like_pattern,
    reads,
    requires,
    restore,
)
from lms_core.sdk import delete as delete_row
from lms_courses import people, sections, service, terms
from lms_courses.models import Course, Section, Term
from lms_courses.schemas import (
    CourseCreate,
    CourseRead,
    CourseUpdate,
    CourseWithPeople,
    SectionCreate,
    SectionRead,
    SectionUpdate,
    State,
    TermCreate,
    TermRead,
    TermUpdate,
)

Include = Annotated[Literal["people"] | None, Query(description="Who teaches it, how many take part and wait")]

router = Router()
MAY_EDIT = requires("courses.edit", on="course", path="course_id")
MAY_EDIT_SECTIONS = requires("courses.edit_sections", on="course", path="course_id")
MAY_SET_TERMS = requires("courses.set_terms", on="term", path="term_id")
MAY_EDIT_CONTENT = requires("courses.edit_content", on="course", path="course_id")


@router.post(
    "",
    status_code=201,
    response_model=CourseRead,
    dependencies=[requires("courses.create", on="institution", body="institution_id")],
)
async def create(uow: Uow, data: CourseCreate) -> Response:
    """Add a course, as a draft; a teacher who creates one teaches it."""
    return await service.create(uow, data)


@router.get(
    "", name="list", response_model=Page[CourseRead] | Page[CourseWithPeople], dependencies=[reads("courses.read")]
)
async def list_courses(
    uow: Uow,
    params: PageParams,
    institution_id: UUID | None = None,
    term_id: UUID | None = None,
    state: State | None = None,
    q: Annotated[str | None, Query(min_length=1, max_length=200, description="In title or code")] = None,
    mine: Annotated[bool, Query(description="Only courses that you take part in")] = False,
    include: Include = None,
) -> Response:
    """The courses that you may see, newest first."""
    page = service.COURSES.page if include is None else people.page
    return await page(
        uow,
        params,
        institution_id=institution_id,
        term_id=term_id,
        state=state,
        q=None if q is None else like_pattern(q),
        mine=service.own_courses(uow) if mine else None,
    )


@router.post(
    "/terms",
    status_code=201,
    response_model=TermRead,
    dependencies=[requires("courses.set_terms", on="institution", body="institution_id")],
)
async def create_term(uow: Uow, data: TermCreate) -> Response:
    """Add a term to an institution's calendar."""
    return await terms.create(uow, data)


@router.get("/terms", response_model=Page[TermRead], dependencies=[reads("courses.read_terms")])
async def list_terms(
    uow: Uow,
    params: PageParams,
    institution_id: Annotated[UUID | None, Query(description="Right at this institution")] = None,
    parent_id: UUID | None = None,
    on: Annotated[str | None, Query(max_length=10, description="A day, or `today` where the institution is")] = None,
) -> Response:
    """The terms of your institutions, newest first."""
    return await terms.list_terms(uow, params, on, institution_id=institution_id, parent_id=parent_id)


@router.get("/terms/{term_id}", response_model=TermRead, dependencies=[reads("courses.read_terms")])
async def get_term(uow: Uow, term_id: UUID) -> Response:
    """One term."""
    return await terms.TERM_POINT.get(uow, term_id)


@router.patch("/terms/{term_id}", response_model=TermRead, dependencies=[MAY_SET_TERMS])
async def update_term(uow: Uow, term_id: UUID, data: TermUpdate, if_match: IfMatch = None) -> Response:
    """Change a term."""
    return await terms.update(uow, term_id, data, if_match)


@router.delete("/terms/{term_id}", status_code=202, response_model=DeletionRead, dependencies=[MAY_SET_TERMS])
async def delete_term(uow: Uow, term_id: UUID, if_match: IfMatch = None) -> Response:
    """Delete a term with those inside; its courses stay, and show none until it is restored."""
    return await delete_row(uow, Term, term_id, if_match)


@router.post(
    "/terms/{term_id}/restore",
    status_code=202,
    response_model=DeletionRead,
    dependencies=[reads("courses.set_terms", on="term", path="term_id")],
)
async def restore_term(uow: Uow, term_id: UUID, request: RestoreRequest | None = None) -> Response:
    """Bring back a term, and those that went with it."""
    return await restore(uow, Term, term_id, request)


@router.get("/{course_id}", response_model=CourseRead | CourseWithPeople, dependencies=[reads("courses.read")])
async def get(uow: Uow, course_id: UUID, include: Include = None) -> Response:
    """One course."""
    get = service.COURSE_POINT.get if include is None else people.get
    return await get(uow, course_id)


@router.patch("/{course_id}", response_model=CourseRead, dependencies=[MAY_EDIT])
async def update(uow: Uow, course_id: UUID, data: CourseUpdate, if_match: IfMatch = None) -> Response:
    """Change, publish, archive or move a course."""
    return await service.update(uow, course_id, data, if_match)


@router.delete(
    "/{course_id}",
    status_code=202,
    response_model=DeletionRead,
    dependencies=[requires("courses.delete", on="course", path="course_id")],
)
async def delete(uow: Uow, course_id: UUID, if_match: IfMatch = None) -> Response:
    """Delete a course and all in it; it can be restored."""
    return await delete_row(uow, Course, course_id, if_match)


@router.post(
    "/{course_id}/restore",
    name="restore",
    status_code=202,
    response_model=DeletionRead,
    dependencies=[reads("courses.delete", on="course", path="course_id")],
)
async def restore_course(uow: Uow, course_id: UUID, request: RestoreRequest | None = None) -> Response:
    """Bring back exactly what one delete took."""
    return await restore(uow, Course, course_id, request)


@router.post("/{course_id}/sections", status_code=201, response_model=SectionRead, dependencies=[MAY_EDIT_CONTENT])
async def create_section(uow: Uow, course_id: UUID, data: SectionCreate) -> Response:
    """Add a section."""
    return await sections.create(uow, course_id, data)


@router.get("/{course_id}/sections", response_model=Page[SectionRead], dependencies=[reads("courses.read")])
async def list_sections(uow: Uow, course_id: UUID, params: PageParams) -> Response:
    """The sections of a course, newest first."""
    return await sections.list_of_course(uow, course_id, params)


@router.get(
    "/{course_id}/sections/{section_id}", response_model=SectionRead, dependencies=[reads("courses.read_content")]
)
async def get_section(uow: Uow, course_id: UUID, section_id: UUID) -> Response:
    """One section."""
    return await sections.SECTION_POINT.get(uow, section_id, course_id=course_id)


@router.patch("/{course_id}/sections/{section_id}", response_model=SectionRead, dependencies=[MAY_EDIT_SECTIONS])
async def update_section(
    uow: Uow, course_id: UUID, section_id: UUID, data: SectionUpdate, if_match: IfMatch = None
) -> Response:
    """Change a section."""
    return await sections.update(uow, course_id, section_id, data, if_match)


@router.delete(
    "/{course_id}/sections/{section_id}",
    status_code=202,
    response_model=DeletionRead,
    dependencies=[MAY_EDIT_CONTENT],
)
async def delete_section(uow: Uow, course_id: UUID, section_id: UUID, if_match: IfMatch = None) -> Response:
    """Delete a section; it can be restored."""
    return await sections.remove(uow, course_id, section_id, if_match)


@router.post(
    "/{course_id}/sections/{section_id}/restore",
    status_code=202,
    response_model=DeletionRead,
    dependencies=[MAY_EDIT_CONTENT],
)
async def restore_section(
    uow: Uow, course_id: UUID, section_id: UUID, request: RestoreRequest | None = None
) -> Response:
    """Bring back a section."""
    await sections.refuse_unless_of_course(uow, course_id, section_id, living=False)
    return await restore(uow, Section, section_id, request)
