"""The door for plugins: everything of the core that a plugin may use, and nothing else."""

from sqlmodel import Field

from lms_core.db import Read, Record, Table, new_id
from lms_core.deletion import RESTORE_ANSWERS, DeletionRead, RestoreRequest, delete, restore
from lms_core.errors import (
    Forbidden,
    Invalid,
    NotFound,
    Problem,
    StartRefused,
    StateConflict,
    Unauthenticated,
    Unavailable,
)
from lms_core.hookspecs import hookimpl
from lms_core.inputs import Description, Input, Instant, Name
from lms_core.kinds import alive, kind_name, live
from lms_core.pagination import JsonBytes, Listing, Page, PageParams, Point
from lms_core.permissions import ACTOR_ID, SUPER_ADMIN, Access, Filter
from lms_core.routing import IfMatch, Router, Uow, public, reads, requires, signed_in
from lms_core.types import (
    Authenticator,
    Cascade,
    Conflict,
    Event,
    Handler,
    HealthCheck,
    HeldRole,
    Identity,
    Permission,
    PluginInfo,
    Reaction,
    ReadRule,
    RoleSource,
    Schedule,
    Service,
    Setup,
)
from lms_core.uow import Context, UnitOfWork

__all__ = [
    "ACTOR_ID",
    "RESTORE_ANSWERS",
    "SUPER_ADMIN",
    "Access",
    "Authenticator",
    "Cascade",
    "Conflict",
    "Context",
    "DeletionRead",
    "Description",
    "Event",
    "Field",
    "Filter",
    "Forbidden",
    "Handler",
    "HealthCheck",
    "HeldRole",
    "Identity",
    "IfMatch",
    "Input",
    "Instant",
    "Invalid",
    "JsonBytes",
    "Listing",
    "Name",
    "NotFound",
    "Page",
    "PageParams",
    "Permission",
    "PluginInfo",
    "Point",
    "Problem",
    "Reaction",
    "Read",
    "ReadRule",
    "Record",
    "RestoreRequest",
    "RoleSource",
    "Router",
    "Schedule",
    "Service",
    "Setup",
    "StartRefused",
    "StateConflict",
    "Table",
    "Unauthenticated",
    "Unavailable",
    "UnitOfWork",
    "Uow",
    "alive",
    "delete",
    "hookimpl",
    "kind_name",
    "live",
    "new_id",
    "public",
    "reads",
    "requires",
    "restore",
    "signed_in",
]
