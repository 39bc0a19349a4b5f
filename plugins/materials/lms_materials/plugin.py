"""The materials plugin, as the core sees it."""

from typing import Any

from lms_courses.contracts import COURSE, in_published_course
from lms_files.contracts import TextExtracted
from sqlmodel import col

from lms_core.sdk import Cascade, Handler, Permission, PluginInfo, Reaction, ReadRule, Restored, Router, Setup, hookimpl
from lms_materials import service
from lms_materials.contracts import MaterialChanged
from lms_materials.demo import make_demo
from lms_materials.indexing import index_changed_material, index_extracted_text
from lms_materials.models import Material, MaterialText
from lms_materials.router import router

plugin = PluginInfo("materials", "What a course holds, and the search over it", requires=("courses", "files"))


@hookimpl
def lms_routes() -> list[Router]:
    """`/materials`."""
    return [router]


@hookimpl
def lms_models() -> list[type[Any]]:
    """Materials, and what search looks at."""
    return [Material, MaterialText]


@hookimpl
def lms_permissions() -> list[Permission | ReadRule]:
    """Students read what is published in their courses; teachers make and delete, assistants edit."""
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
            where=col(Material.published).is_(True) & in_published_course(col(Material.course_id)),
        ),
        ReadRule(Material, "materials.read_drafts"),
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
