"""The materials plugin, as the core sees it."""

from datetime import timedelta
from typing import Any

from lms_courses.contracts import COURSE, SECTION, in_published_course
from lms_files.contracts import FILE, FileReplaced, TextExtracted
from lms_groups.contracts import GROUP
from lms_users.contracts import USER, is_some_ward
from sqlmodel import col
from typer import Typer

from lms_core.sdk import (
    ACTOR_ID,
    Cascade,
    Extension,
    Handler,
    Part,
    Permission,
    PluginInfo,
    Reaction,
    ReadRule,
    ReadThrough,
    Removal,
    Restored,
    Router,
    Schedule,
    Service,
    Setup,
    hookimpl,
)
from lms_materials import assignment_routes, kinds, module_routes, service, submissions
from lms_materials.commands import commands
from lms_materials.contracts import MATERIAL, MODULE, SUBMISSION, Gradebook, MaterialChanged
from lms_materials.demo import make_demo
from lms_materials.gradebook import CourseGradebook
from lms_materials.indexing import index_changed_material, index_extracted_text
from lms_materials.models import (
    Assignment,
    Audience,
    Completion,
    DueExtension,
    Grade,
    Language,
    Material,
    MaterialText,
    Module,
    Prerequisite,
    Revision,
    Submission,
    SubmittedFile,
    Word,
)
from lms_materials.router import router
from lms_materials.visibility import may_be_read, shown_through_material

plugin = PluginInfo(
    "materials",
    "What a course holds, what students hand in, their grades, and the search over it",
    requires=("institutions", "users", "courses", "enrollments", "groups", "files"),
)


HANDED_IN = col(Submission.state) == "submitted"


@hookimpl
def lms_routes() -> list[Router]:
    """`/materials`."""
    return [module_routes.router, assignment_routes.router, router]


@hookimpl
def lms_models() -> list[type[Any]]:
    """Modules, materials and all about them, what students hand in and how that is graded, what search looks at."""
    return [
        Module,
        Material,
        Audience,
        Revision,
        Prerequisite,
        Completion,
        Assignment,
        DueExtension,
        Submission,
        SubmittedFile,
        Grade,
        MaterialText,
        Language,
        Word,
    ]


@hookimpl
def lms_permissions() -> list[Permission | ReadRule | ReadThrough]:
    """Students read what is published in their courses, for them; teachers make and delete, assistants edit."""
    staff = ("teacher", "assistant", "principal")
    return [
        Permission("materials.read", "Read what is published in a course", roles=("student", "observer", *staff)),
        Permission("materials.read_drafts", "Read everything in a course", roles=staff),
        Permission("materials.create", "Add materials to a course", roles=("teacher", "principal")),
        Permission("materials.edit", "Change and publish materials", roles=staff),
        Permission("materials.delete", "Delete and restore materials", roles=("teacher", "principal")),
        Permission("materials.complete", "Say that one is done with something", roles=("student",)),
        Permission("materials.submit", "Hand something in", roles=("student",)),
        Permission("materials.read_submissions", "Read what all students hand in, and their grades", roles=staff),
        Permission("materials.delete_submissions", "Delete and restore what was handed in", roles=("principal",)),
        Permission("materials.grade", "Grade what students hand in", roles=("teacher", "assistant")),
        ReadRule(Material, "materials.read", where=may_be_read(Material)),
        ReadRule(Material, "materials.read_drafts"),
        ReadRule(
            Module,
            "materials.read",
            where=col(Module.published).is_(True) & in_published_course(col(Module.course_id)),
        ),
        ReadRule(Module, "materials.read_drafts"),
        ReadRule(DueExtension, "materials.edit"),
        ReadRule(Submission, where=col(Submission.user_id) == ACTOR_ID),
        ReadRule(Submission, "materials.read_submissions", where=HANDED_IN),
        ReadRule(
            Submission,
            "materials.read",
            where=HANDED_IN & is_some_ward(lambda student_id: col(Submission.user_id) == student_id),
        ),
        # A file is shared with the whole course while a material for everybody shows it (service.share_files).
        ReadThrough(FILE, "materials.read", where=shown_through_material),
        ReadThrough(FILE, "materials.read_submissions", where=submissions.submission_shows),
        ReadThrough(FILE, "materials.read", where=submissions.submission_of_ward_shows),
    ]


@hookimpl
def lms_handlers() -> list[Handler]:
    """Search follows what changes."""
    return [
        Handler("materials.index_material", MaterialChanged, index_changed_material, order_by="material_id"),
        Handler("materials.index_text", TextExtracted, index_extracted_text, order_by="file_id"),
        Handler("materials.forget_text", FileReplaced, index_extracted_text, order_by="file_id"),
        Handler("materials.share_restored_file", Restored, service.share_restored_file),
    ]


@hookimpl
def lms_cascades() -> list[Cascade | Part | Reaction | Removal]:
    """Materials hang under courses; a deleted file takes nothing. A deleted material shows its file to nobody."""
    return [
        Cascade(child=Module, column="course_id", parent=COURSE),
        Cascade(child=Material, column="course_id", parent=COURSE),
        Cascade(child=Material, column="module_id", parent=MODULE, inside=True),
        Cascade(child=DueExtension, column="material_id", parent=MATERIAL),
        Cascade(child=Submission, column="material_id", parent=MATERIAL),
        Cascade(child=Submission, column="user_id", parent=USER),
        Reaction(Material, deleted=service.share_files_of, restored=service.share_files_of_restored),
        Part(Revision, "material_id", MATERIAL),
        Part(Prerequisite, "material_id", MATERIAL),
        Part(Prerequisite, "required_id", MATERIAL),
        Part(Completion, "material_id", MATERIAL),
        Part(Completion, "user_id", USER),
        Part(Assignment, "material_id", MATERIAL),
        Part(Audience, "material_id", MATERIAL),
        Part(Audience, "section_id", SECTION),
        Part(Audience, "group_id", GROUP),
        Part(MaterialText, "material_id", MATERIAL),
        Part(SubmittedFile, "submission_id", SUBMISSION),
        Part(Grade, "submission_id", SUBMISSION),
        Removal(Module, "materials.delete"),
        Removal(Material, "materials.delete"),
    ]


@hookimpl
def lms_extensions() -> list[Extension]:
    """The kinds that come with this plugin; others add theirs in the same way."""
    return list(kinds.BUILT_IN)


@hookimpl
def lms_services() -> list[Service]:
    """The grades, for plugins that weigh them."""
    return [Service(Gradebook, CourseGradebook())]


@hookimpl
def lms_commands() -> list[Typer]:
    """`lms materials …`."""
    return [commands]


@hookimpl
def lms_schedules() -> list[Schedule]:
    """What publishes itself."""
    return [Schedule("materials.publish_due", timedelta(minutes=1), service.publish_due)]


@hookimpl
def lms_setup() -> list[Setup]:
    """Something to look at, when that is asked for."""
    return [Setup("materials.demo", make_demo)]
