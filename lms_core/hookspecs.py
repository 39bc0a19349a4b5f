"""The hooks that a plugin may implement; each returns a list of frozen values and is called once, at start.

Nothing runs through hooks while requests are served: what they return is checked, ordered by `requires`, and
called by the core as plain typed Python.
"""

from collections.abc import Sequence

import pluggy
from fastapi import APIRouter
from typer import Typer

from lms_core.imports import Importer
from lms_core.types import (
    Cascade,
    Extension,
    Handler,
    HealthCheck,
    Lifespan,
    Part,
    Permission,
    Reaction,
    ReadRule,
    ReadThrough,
    Removal,
    RoleSource,
    Schedule,
    Service,
    Setup,
)

hookspec = pluggy.HookspecMarker("lms")
hookimpl = pluggy.HookimplMarker("lms")


@hookspec
def lms_routes() -> Sequence[APIRouter]:  # type: ignore[empty-body]
    """Routers, mounted at `/<plugin>`. Every route has `requires(...)` or `public(...)` among its dependencies.

    Example: `return [router]`
    """


@hookspec
def lms_models() -> Sequence[type]:  # type: ignore[empty-body]
    """Tables, named `<plugin>_<noun>`; the kind of a soft-deletable one is `<plugin>.<noun>`.

    Example: `return [Announcement]`
    """


@hookspec
def lms_permissions() -> Sequence[Permission | ReadRule | ReadThrough]:  # type: ignore[empty-body]
    """Permissions, named `<plugin>.<verb>`, and who reads rows of which kind.

    A kind without a rule is readable for those who have `<plugin>.read` on it. `ReadThrough` opens rows of another
    plugin's kind.

    Example: `return [Permission("announcements.read", "Read announcements", roles=("student", "teacher"))]`
    """


@hookspec
def lms_role_sources() -> Sequence[RoleSource]:  # type: ignore[empty-body]
    """Selects that say who holds which role at which object.

    Example: `return [RoleSource("enrollments.active", "courses.course", select(...))]`
    """


@hookspec
def lms_services() -> Sequence[Service]:  # type: ignore[empty-body]
    """What this plugin provides for a contract; `uow.use(Contract)` finds it.

    Example: `return [Service(CourseCatalog, Courses())]`
    """


@hookspec
def lms_handlers() -> Sequence[Handler]:  # type: ignore[empty-body]
    """What to do when an event happened.

    Example: `return [Handler("materials.index_text", TextExtracted, index_text)]`
    """


@hookspec
def lms_importers() -> Sequence[Importer]:  # type: ignore[empty-body]
    """What the rows of CSV files mean.

    Example: `return [UserImporter()]`
    """


@hookspec
def lms_extensions() -> Sequence[Extension]:  # type: ignore[empty-body]
    """What another plugin asks for: values of a class in its contracts, which is an `Extension`.

    Example: `return [FileProcessor("transcript", frozenset({"text/vtt"}), "lms_subtitles.reading:transcript")]`
    """


@hookspec
def lms_schedules() -> Sequence[Schedule]:  # type: ignore[empty-body]
    """What a worker does again and again.

    Example: `return [Schedule("files.expire_requests", timedelta(minutes=5), expire_requests)]`
    """


@hookspec
def lms_cascades() -> Sequence[Cascade | Part | Reaction | Removal]:  # type: ignore[empty-body]
    """What hangs under what, for reading, deleting and restoring; what is part of what, and goes for good with it; what
    can be deleted several at once.

    Example: `return [Cascade(child=Announcement, column="course_id", parent="courses.course")]`
    """


@hookspec
def lms_health_checks() -> Sequence[HealthCheck]:  # type: ignore[empty-body]
    """Checks for `/health`.

    Example: `return [HealthCheck("store", check_store)]`
    """


@hookspec
def lms_setup() -> Sequence[Setup]:  # type: ignore[empty-body]
    """What must be there before the first request; runs after the migrations in `lms setup` and `up`.

    Example: `return [Setup("users.first_super_admin", ensure_super_admin)]`
    """


@hookspec
def lms_commands() -> Sequence[Typer]:  # type: ignore[empty-body]
    """Commands for operators, shown as `lms <plugin> <command>`.

    Example: `return [commands]`
    """


@hookspec
def lms_lifespan() -> Sequence[Lifespan]:  # type: ignore[empty-body]
    """Async context managers around the life of a process (API or worker).

    Example: `return [keep_connection_open]`
    """
