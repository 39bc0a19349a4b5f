"""The materials plugin, as the core sees it."""

from typing import Any

from lms_courses.contracts import COURSE
from lms_files.contracts import FILE, TextExtracted

from lms_core.sdk import (
    Cascade,
    Handler,
    Permission,
    PluginInfo,
    Reaction,
    ReadRule,
    ReadThrough,
    Restored,
    Router,
    Setup,
    hookimpl,
)
from lms_materials import service
from lms_materials.audience import MAY_BE_READ, shown_through_material
from lms_materials.contracts import MaterialChanged
from lms_materials.demo import make_demo
from lms_materials.indexing import index_changed_material, index_extracted_text
from lms_materials.models import Audience, Material, MaterialText
from lms_materials.router import router

plugin = PluginInfo(
    "materials",
    "What a course holds, and the search over it",
    requires=("users", "courses", "enrollments", "groups", "files"),
)


@hookimpl
def lms_routes() -> list[Router]:
    """`/materials`."""
    return [router]


@hookimpl
def lms_models() -> list[type[Any]]:
    """Materials, whom they are for, and what search looks at."""
    return [Material, Audience, MaterialText]


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
        ReadRule(
            Material,
            "materials.read",
            where=MAY_BE_READ,
        ),
        ReadRule(Material, "materials.read_drafts"),
        # A file is shared with the whole course while a material for everybody shows it (service.share_files).
        ReadThrough(FILE, "materials.read", where=shown_through_material),
    ]


@hookimpl
def lms_handlers() -> list[Handler]:
    """Search follows what changes."""
    return [
        Handler("materials.index_material", MaterialChanged, index_changed_material),
        Handler("materials.index_text", TextExtracted, index_extracted_text),
        Handler("materials.share_restored_file", Restored, service.share_restored_file),
    ]


@hookimpl
def lms_cascades() -> list[Cascade | Reaction]:
    """Materials hang under courses; a deleted file takes nothing. A deleted material shows its file to nobody."""
    return [
        Cascade(child=Material, column="course_id", parent=COURSE),
        Reaction(Material, deleted=service.share_files_of, restored=service.share_files_of_restored),
    ]


@hookimpl
def lms_setup() -> list[Setup]:
    """Something to look at, when that is asked for."""
    return [Setup("materials.demo", make_demo)]
