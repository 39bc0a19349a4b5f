"""Takes one guard away at a time, in a copy of the checkout, and shows that a test turns red for each.

`.venv/bin/python tests/mutations.py` from the root, or with a part of a guard's name; the exit code is not 0 when a guard is not missed by anybody.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).parent.parent
COPIED = (
    "lms_core",
    "plugins",
    "tests",
    "migrations",
    "examples",
    "conftest.py",
    "pyproject.toml",
    "plugins.toml",
    "docs",
    "README.md",
)


@dataclass(frozen=True)
class Mutation:
    """A guard: where it is, what stands there without it, and the test that misses it."""

    guard: str
    file: str
    before: str
    after: str
    test: str


MUTATIONS = (
    Mutation(
        "the lock on ancestors",
        "lms_core/locking.py",
        "        if locks:\n            look = look.with_for_update(read=True)\n",
        "",
        "tests/test_deletion.py::test_a_child_that_is_being_made_holds_the_delete_of_its_parent_up",
    ),
    Mutation(
        "the live predicate on ancestors",
        "lms_core/kinds.py",
        "        conditions.append(or_(column.is_(None), lives) if nullable else lives)\n",
        "",
        "tests/test_deletion.py::test_an_institution_takes_its_tree_and_gives_it_back",
    ),
    Mutation(
        "the commit before the raise",
        "lms_core/routing.py",
        "        if problem.keeps_writes:\n            await uow.commit()\n",
        "",
        "plugins/auth/tests/test_refresh.py::test_an_older_token_ends_the_session_at_once",
    ),
    Mutation(
        "the mark that it is done in the transaction of the effect",
        "lms_core/delivery.py",
        "                await handler.function(uow, event)\n            await mark_done(uow, delivery_id)\n",
        "                async with context.unit_of_work() as other:\n                    await mark_done(other, delivery_id)\n"
        "                await handler.function(uow, event)\n",
        "tests/test_delivery.py::test_a_failure_leaves_no_effect_and_is_tried_again_later",
    ),
    Mutation(
        "the check of a token's type",
        "plugins/auth/lms_auth/access_tokens.py",
        'header.get("typ") == TYPE and isinstance(kid, str)',
        "isinstance(kid, str)",
        "plugins/auth/tests/test_access_tokens.py::test_hostile_tokens_are_refused",
    ),
    Mutation(
        "that only live rows are taken",
        "lms_core/cascade.py",
        "    takes = ~child.c.is_deleted\n",
        "    takes = child.c.deletion_id.is_distinct_from(event.deletion_id)\n",
        "tests/test_deletion.py::test_what_was_deleted_before_stays_deleted",
    ),
    Mutation(
        "that parents come back only as they were when it was asked for",
        "lms_core/cascade.py",
        "            col(Deletion.created_at) < deletion.updated_at,\n",
        "",
        "tests/test_recycle_bin.py::test_what_was_deleted_since_the_request_is_not_brought_back",
    ),
    Mutation(
        "that each deletion of several is restored by who may restore all",
        "lms_core/recycle_bin.py",
        "~exists(select(root).where(~may)).correlate(deletion)",
        "exists(select(root).where(may)).correlate(deletion)",
        "tests/test_recycle_bin.py::test_several_things_are_seen_by_who_may_restore_all",
    ),
    Mutation(
        "the legal hold",
        "lms_core/purge.py",
        "    if await is_held(uow, kind, deletion_id):\n",
        "    if False:\n",
        "tests/test_purge.py::test_what_is_held_stays",
    ),
    Mutation(
        "that each place holds in its own name",
        "lms_core/legal_holds.py",
        "true() if scope.everywhere else or_(false(), *places)",
        "true()",
        "tests/test_purge.py::test_each_school_holds_in_its_own_name",
    ),
    Mutation(
        "that a conflict tells nothing of other places",
        "lms_core/restoring.py",
        "if conflict.id in known or conflict.id == hidden.id",
        "if True",
        "tests/test_recycle_bin.py::test_a_conflict_tells_nothing_of_other_schools",
    ),
    Mutation(
        "the switch between two chunks",
        "lms_core/purge.py",
        'meanwhile."""\n    if await mode(uow) == "stopped":\n        return "stopped"\n',
        'meanwhile."""\n',
        "tests/test_purge.py::test_the_switch_stops_at_once",
    ),
    Mutation(
        "the order of deliveries",
        "lms_core/outbox.py",
        "AND earlier.position < core_delivery.position",
        "AND false",
        "tests/test_delivery.py::test_what_is_about_the_same_thing_is_done_in_its_order",
    ),
    Mutation(
        "that a delivery is done by one worker alone",
        "lms_core/delivery.py",
        "        yield bool(locked.scalar_one())\n",
        "        yield True\n",
        "tests/test_delivery.py::test_a_delivery_that_is_sent_ten_times_is_done_once",
    ),
)


def survives(mutation: Mutation, folder: Path) -> bool:
    """Whether the tests stay green without the guard."""
    path = folder / mutation.file
    source = path.read_text()
    if source.count(mutation.before) != 1:
        raise SystemExit(f"{mutation.file} has {mutation.guard} no more where it was; correct tests/mutations.py.")
    path.write_text(source.replace(mutation.before, mutation.after))
    try:
        # Before what is installed: the copy's own packages.
        places = [folder, *sorted(one for one in (folder / "plugins").iterdir() if one.is_dir())]
        command = [sys.executable, "-m", "pytest", "-q", "-x", "--no-header", "-p", "no:cacheprovider", mutation.test]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, places))}
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    finally:
        path.write_text(source)
    if done.returncode not in (0, 1):
        raise SystemExit(done.stdout + done.stderr)
    return done.returncode == 0


def main() -> None:
    """All of them, one after the other."""
    survived = []
    with tempfile.TemporaryDirectory(prefix="lms-mutations-") as name:
        folder = Path(name) / "copy"
        folder.mkdir()
        for one in COPIED:
            source = REPOSITORY / one
            (shutil.copytree if source.is_dir() else shutil.copy)(source, folder / one)
        for mutation in [one for one in MUTATIONS if not sys.argv[1:] or sys.argv[1] in one.guard]:
            lives = survives(mutation, folder)
            survived += [mutation.guard] if lives else []
            print(f"{'NOT MISSED' if lives else 'missed'}: {mutation.guard} ({mutation.test})", flush=True)
    sys.exit(1 if survived else 0)


if __name__ == "__main__":
    main()
