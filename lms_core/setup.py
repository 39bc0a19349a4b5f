"""What must be there before the first request, and whether it is."""

from __future__ import annotations

from lms_core.lifespan import running
from lms_core.migrate import positions
from lms_core.operations import health_report
from lms_core.platform import Platform
from lms_core.uow import Context

NO_MAIL = "mail: LMS_SMTP_URL is not set; mails are kept in the data folder and reach nobody"


async def run_setups(platform: Platform, demo: bool) -> list[str]:
    """Run every plugin's setup in order; lines for the person who starts the system."""
    lines: list[str] = []
    async with running(Context.create(platform)) as context:
        for setup in platform.setups:
            lines += await setup.function(context, demo)
    return lines


async def examine(platform: Platform) -> list[tuple[str, bool]]:
    """One line for each thing that was looked at, and whether it is well."""
    found = [(f"{len(platform.plugins)} plugins: {', '.join(plugin.name for plugin in platform.plugins)}", True)]
    async with running(Context.create(platform)) as context:
        report = await health_report(context)
    settings = platform.settings
    found.append(("mail: sent by LMS_SMTP_URL", True) if settings.smtp_url else (NO_MAIL, not settings.production))
    reachable = True
    for check in report["checks"]:
        is_well = check["status"] == "ok"
        reachable = reachable and (is_well or check["name"] != "database")
        detail = f": {check['detail']}" if "detail" in check else ""
        found.append((f"{check['plugin']} {check['name']}{detail}", is_well))
    if reachable:
        found += [
            (f"migrations of {position.lineage}: {position.current or 'empty'}", position.at_head)
            for position in await positions(platform)
        ]
    return found
