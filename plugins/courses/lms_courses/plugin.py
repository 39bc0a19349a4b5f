"""The courses plugin, as the core sees it."""

from lms_institutions.contracts import INSTITUTION
from sqlmodel import col

from lms_core.sdk import (
    Cascade,
    Permission,
    PluginInfo,
    Reaction,
    ReadRule,
    Removal,
    Router,
    Service,
    Setup,
    Table,
    hookimpl,
)
from lms_courses import terms
from lms_courses.contracts import COURSE, TERM, CourseCatalog, in_published_course
from lms_courses.demo import make_demo
from lms_courses.models import Course, Section, Term
from lms_courses.router import router
from lms_courses.service import Catalog

plugin = PluginInfo("courses", "Courses and their sections", requires=("institutions",))


@hookimpl
def lms_routes() -> list[Router]:
    """`/courses`."""
    return [router]


@hookimpl
def lms_models() -> list[type[Table]]:
    """Three tables."""
    return [Term, Course, Section]


@hookimpl
def lms_permissions() -> list[Permission | ReadRule]:
    """Members of an institution see what is published; whoever teaches a course or runs the institution sees all."""
    members = ("student", "teacher")
    staff = ("teacher", "assistant", "principal")
    return [
        Permission("courses.read", "See a published course", roles=("student", "observer", *staff), members=members),
        Permission("courses.read_drafts", "See a course whatever its state", roles=staff),
        Permission("courses.read_content", "See what is in a published course", roles=("student", "observer", *staff)),
        Permission("courses.create", "Add a course", roles=("teacher", "principal")),
        Permission("courses.edit", "Change, publish and archive a course", roles=("teacher", "principal")),
        Permission("courses.edit_sections", "Change a section", roles=staff),
        Permission("courses.edit_content", "Add, delete and restore sections", roles=("teacher", "principal")),
        Permission("courses.read_terms", "See an institution's terms", roles=("principal",), members=members),
        Permission("courses.set_terms", "Add, change, delete and restore terms", roles=("principal",)),
        Permission("courses.move", "Move a course to another institution", roles=("principal",)),
        Permission("courses.delete", "Delete and restore a course", roles=("principal",)),
        ReadRule(Course, "courses.read", where=col(Course.state) == "published"),
        ReadRule(Course, "courses.read_drafts"),
        ReadRule(Section, "courses.read_content", where=in_published_course(col(Section.course_id))),
        ReadRule(Section, "courses.read_drafts"),
        ReadRule(Term, "courses.read_terms"),
    ]


@hookimpl
def lms_services() -> list[Service]:
    """The catalog."""
    return [Service(CourseCatalog, Catalog())]


@hookimpl
def lms_cascades() -> list[Cascade | Reaction | Removal]:
    """Terms and courses hang under institutions, terms under terms, sections under courses."""
    return [
        Cascade(child=Term, column="institution_id", parent=INSTITUTION),
        Cascade(child=Term, column="parent_id", parent=TERM),
        Cascade(child=Course, column="institution_id", parent=INSTITUTION),
        Cascade(child=Section, column="course_id", parent=COURSE),
        Reaction(Term, conflicts=terms.conflicts_of_restored),
        Removal(Course, "courses.delete"),
    ]


@hookimpl
def lms_setup() -> list[Setup]:
    """Something to look at, when that is asked for."""
    return [Setup("courses.demo", make_demo)]
