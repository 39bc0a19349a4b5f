"""Figures of files for operators."""

from lms_core.sdk import Context, Measure

PASSING = (
    "SELECT state, count(*) AS number FROM files_file WHERE state IN ('requested', 'uploaded', 'verifying') GROUP BY 1"
)
ROOM = (
    "SELECT coalesce(sum(used_bytes), 0)::float8 AS used, coalesce(sum(reserved_bytes), 0)::float8 AS reserved "
    "FROM files_quota"
)


async def in_progress(context: Context) -> dict[tuple[str, ...], float]:
    """By state."""
    found = {row["state"]: float(row["number"]) for row in await context.database.read(PASSING, [])}
    return {(state,): found.get(state, 0.0) for state in ("requested", "uploaded", "verifying")}


async def room(context: Context) -> dict[tuple[str, ...], float]:
    """What files that are ready take, and what uploads under way may."""
    [row] = await context.database.read(ROOM, [])
    return {("used",): row["used"], ("reserved",): row["reserved"]}


MEASURES = (
    Measure("lms_files_in_progress", "Files that are not ready yet", ("state",), in_progress),
    Measure("lms_files_bytes", "Room that files take", ("what",), room),
)
