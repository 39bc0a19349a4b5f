"""The institutions plugin, as the core sees it."""

from lms_core.sdk import Cascade, Permission, PluginInfo, Removal, Retention, Router, Service, Setup, Table, hookimpl
from lms_institutions import service
from lms_institutions.contracts import INSTITUTION, InstitutionSettings, InstitutionTree
from lms_institutions.demo import make_demo
from lms_institutions.inheritance import InstitutionRetention, Settings
from lms_institutions.models import Institution
from lms_institutions.router import router
from lms_institutions.service import Tree

plugin = PluginInfo("institutions", "The tree of districts, schools and departments")


@hookimpl
def lms_routes() -> list[Router]:
    """`/institutions`."""
    return [router]


@hookimpl
def lms_models() -> list[type[Table]]:
    """One table."""
    return [Institution]


@hookimpl
def lms_permissions() -> list[Permission]:
    """Members read; principals change what is below their own."""
    everyone = ("student", "teacher", "principal", "guardian")
    return [
        Permission("institutions.read", "Read an institution that one belongs to", roles=everyone),
        Permission("institutions.create", "Add an institution below one's own", roles=("principal",)),
        Permission(
            "institutions.edit", "Change, delete and restore institutions below one's own", roles=("principal",)
        ),
    ]


@hookimpl
def lms_services() -> list[Service]:
    """The tree, and what holds in it."""
    return [
        Service(InstitutionTree, Tree()),
        Service(InstitutionSettings, Settings()),
        Service(Retention, InstitutionRetention()),
    ]


@hookimpl
def lms_cascades() -> list[Cascade | Removal]:
    """A tree."""
    return [
        Cascade(child=Institution, column="parent_id", parent=INSTITUTION),
        Removal(Institution, "institutions.edit", service.remove),
    ]


@hookimpl
def lms_setup() -> list[Setup]:
    """Something to look at, when that is asked for."""
    return [Setup("institutions.demo", make_demo)]
