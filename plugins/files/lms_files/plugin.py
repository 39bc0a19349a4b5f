"""The files plugin, as the core sees it."""

import asyncio
from datetime import timedelta

from lms_courses.contracts import COURSE, in_published_course
from sqlmodel import SQLModel, col
from typer import Typer

from lms_core.sdk import (
    ACTOR_ID,
    Cascade,
    Context,
    Examination,
    Extension,
    Handler,
    HealthCheck,
    Lifespan,
    Part,
    Permission,
    PluginInfo,
    Reaction,
    ReadRule,
    Removal,
    Router,
    Schedule,
    Service,
    Setup,
    UploadedFiles,
    hookimpl,
)
from lms_files import derivatives, lifecycle, processors, service, sweeps, verification
from lms_files.backup_shelf import Bucket
from lms_files.commands import commands
from lms_files.contracts import FILE, FileDiscarded, FileLibrary, FileReady, FileUploaded
from lms_files.kept_objects import StoredFiles
from lms_files.measures import MEASURES
from lms_files.models import File, FileContent, FilePage, Quota
from lms_files.router import router
from lms_files.service import Library, Uploads
from lms_files.settings import FilesSettings
from lms_files.storage import store_of, store_of_process
from lms_files.store_setup import examined
from lms_files.virus_scan import ping

# A busy clamd answers late; a scan may take much longer than this.
SCANNER_SECONDS = 3.0

plugin = PluginInfo(
    "files",
    "Files straight between client and store, verified",
    requires=("institutions", "users", "courses"),
    settings=FilesSettings,
)


@hookimpl
def lms_routes() -> list[Router]:
    """`/files`."""
    return [router]


@hookimpl
def lms_models() -> list[type[SQLModel]]:
    """Four tables."""
    return [FileContent, File, FilePage, Quota]


@hookimpl
def lms_permissions() -> list[Permission | ReadRule]:
    """Who takes part in a course uploads to it and reads what is shared there; who teaches there reads everything."""
    staff = ("teacher", "assistant", "principal")
    return [
        Permission("files.request", "Upload a file to a course", roles=("student", *staff)),
        Permission("files.read", "Read what is shared in a course", roles=("student", "observer", *staff)),
        Permission("files.read_all", "Read all files of a course, students' too", roles=staff),
        Permission("files.edit", "Rename a file of somebody else", roles=("teacher", "principal")),
        Permission("files.delete", "Delete and restore a file", roles=("teacher", "principal")),
        Permission("files.read_limits", "See how much room an institution has for files", roles=("principal",)),
        Permission("files.set_limits", "Set how much room there is for files, and which types are taken"),
        ReadRule(File, "files.read", where=col(File.shared).is_(True) & in_published_course(col(File.course_id))),
        ReadRule(File, "files.read_all"),
        ReadRule(File, where=col(File.owner_id) == ACTOR_ID, restores=True),
    ]


@hookimpl
def lms_extensions() -> list[Extension]:
    """What is made of files; other plugins add theirs in the same way. And what metrics, backups and `lms doctor` ask for."""
    return [
        processors.TEXT,
        processors.THUMBNAIL,
        processors.PREVIEW,
        *MEASURES,
        StoredFiles(),
        Bucket(),
        Examination("store", examined),
    ]


@hookimpl
def lms_services() -> list[Service]:
    """The library, and whole files for what reads them in this process."""
    return [Service(FileLibrary, Library()), Service(UploadedFiles, Uploads())]


@hookimpl
def lms_cascades() -> list[Cascade | Part | Reaction | Removal]:
    """Files go with their course, and their earlier versions and text with them."""
    return [
        Cascade(child=File, column="course_id", parent=COURSE),
        Part(File, "replaces_id", FILE),
        Part(FilePage, "file_id", FILE),
        Reaction(File, purged=lifecycle.purge),
        Removal(File, function=service.remove),
    ]


@hookimpl
def lms_handlers() -> list[Handler]:
    """Post-processing; all of it asks the store, so none of it holds a transaction meanwhile."""
    return [
        Handler("files.verify", FileUploaded, verification.verify, transactional=False),
        Handler("files.tidy", FileDiscarded, verification.tidy, transactional=False),
        Handler("files.derive", FileReady, derivatives.derive, transactional=False),
        Handler("files.sweep_store", sweeps.StoreSweepDue, sweeps.sweep_store, transactional=False),
        Handler("files.look_for_objects", sweeps.StoreSweepDue, sweeps.look_for_objects, transactional=False),
        Handler("files.sweep_contents", sweeps.StoreSweepDue, sweeps.sweep_contents, transactional=False),
    ]


@hookimpl
def lms_schedules() -> list[Schedule]:
    """Sweeps."""
    return [
        Schedule("files.expire_requests", timedelta(minutes=1), sweeps.expire_requests),
        Schedule("files.resume_stuck", timedelta(minutes=5), sweeps.resume_stuck),
        Schedule("files.sweep_store", timedelta(hours=1), sweeps.call_for_store_sweep),
    ]


@hookimpl
def lms_health_checks() -> list[HealthCheck]:
    """A signed request to the store, and a word with the virus scanner."""
    return [HealthCheck("store", check_store), HealthCheck("scanner", check_scanner)]


async def check_store(context: Context) -> None:
    """Whether it answers, and knows our keys and bucket."""
    await store_of(context).check()


async def check_scanner(context: Context) -> None:
    """Whether it answers, where there is one."""
    scanner = context.platform.plugin_settings(FilesSettings).scanner
    if scanner is not None:
        async with asyncio.timeout(SCANNER_SECONDS):
            await ping(scanner)


@hookimpl
def lms_setup() -> list[Setup]:
    """The buckets."""
    return [Setup("files.buckets", make_buckets)]


async def make_buckets(context: Context, demo: bool) -> list[str]:
    """Nothing to say about it."""
    await store_of(context).make_buckets()
    return []


@hookimpl
def lms_commands() -> list[Typer]:
    """`lms files …`."""
    return [commands]


@hookimpl
def lms_lifespan() -> list[Lifespan]:
    """The store's connections."""
    return [store_of_process]
