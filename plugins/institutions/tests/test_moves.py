"""Moving institutions inside the tree: who may, what is refused, and that no cycle ever comes to be."""

import asyncio
from typing import Any
from uuid import uuid4

from lms_core.testing import Caller, Lms


async def chain(lms: Lms, length: int, parent_id: str | None = None) -> list[dict[str, Any]]:
    """Institutions, each below the one before."""
    made: list[dict[str, Any]] = []
    for _ in range(length):
        made.append(await lms.make_institution(made[-1]["id"] if made else parent_id))
    return made


async def move(caller: Caller, id: str, parent_id: str | None, **options: Any) -> Any:
    return await caller.patch(f"/institutions/{id}", {"parent_id": parent_id}, **options)


async def test_a_principal_moves_what_is_below_and_roles_follow(lms: Lms) -> None:
    top, first = await chain(lms, 2)
    second = await lms.make_institution(top["id"])
    below = (await chain(lms, 1, first["id"]))[0]
    principal = await lms.make_user("principal", top["id"])
    of_first, of_second = [await lms.make_user("teacher", one["id"]) for one in (first, second)]
    assert (await of_first.get(f"/institutions/{below['id']}")).status_code == 200
    assert (await of_second.get(f"/institutions/{below['id']}")).status_code == 404
    tag = (await principal.get(f"/institutions/{below['id']}")).headers["etag"]
    moved = await move(principal, below["id"], second["id"], headers={"If-Match": tag})
    assert (moved.status_code, moved.json()["parent_id"]) == (200, second["id"])
    assert moved.headers["etag"] != tag
    assert (await of_first.get(f"/institutions/{below['id']}")).status_code == 404
    assert (await of_second.get(f"/institutions/{below['id']}")).status_code == 200
    stale = await move(principal, below["id"], first["id"], headers={"If-Match": tag})
    assert stale.status_code == 412
    events = await lms.sql(
        "SELECT payload FROM core_event WHERE name = 'institutions.institution_moved.v1' "
        "AND payload->>'institution_id' = :id",
        id=below["id"],
    )
    assert [(one["payload"]["from_parent_id"], one["payload"]["to_parent_id"]) for one in events] == [
        (first["id"], second["id"])
    ]


async def test_staying_where_it_is_moves_nothing(lms: Lms) -> None:
    top, below = await chain(lms, 2)
    principal = await lms.make_user("principal", top["id"])
    answer = await principal.patch(f"/institutions/{below['id']}", {"parent_id": top["id"], "name": "Renamed"})
    assert (answer.status_code, answer.json()["name"]) == (200, "Renamed")
    events = await lms.sql(
        "SELECT 1 FROM core_event WHERE name = 'institutions.institution_moved.v1' "
        "AND payload->>'institution_id' = :id",
        id=below["id"],
    )
    assert events == []


async def test_power_is_needed_at_both_ends(lms: Lms) -> None:
    top, mine, below = await chain(lms, 3)
    foreign = await lms.make_institution()
    beside = await lms.make_institution(top["id"])
    principal = await lms.make_user("principal", mine["id"])
    unknown = await move(principal, below["id"], str(uuid4()))
    for target in (foreign, beside):
        refused = await move(principal, below["id"], target["id"])
        assert (refused.status_code, refused.json()["code"]) == (404, "institution_not_found")
        assert {**refused.json(), "request_id": ""} == {**unknown.json(), "request_id": ""}
    # Known, but not theirs to fill.
    both = await lms.make_user("principal", mine["id"])
    grant = {"role": "student", "institution_id": beside["id"]}
    await (await lms.admin()).create(f"/users/{both.id}/roles", grant)
    assert (await move(both, below["id"], beside["id"])).status_code == 403
    # Their own institution hangs where others decide, and the top of a tree is for super admins.
    assert (await move(principal, mine["id"], below["id"])).status_code == 403
    assert (await move(principal, below["id"], None)).status_code == 403
    teacher = await lms.make_user("teacher", top["id"])
    assert (await move(teacher, below["id"], top["id"])).status_code == 403
    assert (await (await lms.admin()).get(f"/institutions/{below['id']}")).json()["parent_id"] == mine["id"]


async def test_a_super_admin_makes_a_tree_of_it_and_back(lms: Lms) -> None:
    admin = await lms.admin()
    top, below = await chain(lms, 2)
    principal = await lms.make_user("principal", top["id"])
    assert (await move(admin, below["id"], None)).json()["parent_id"] is None
    assert (await principal.get(f"/institutions/{below['id']}")).status_code == 404
    assert (await move(admin, below["id"], top["id"])).json()["parent_id"] == top["id"]
    assert (await principal.get(f"/institutions/{below['id']}")).status_code == 200


async def test_cycles_taken_slugs_and_deleted_parents_are_refused(lms: Lms) -> None:
    admin = await lms.admin()
    top, first, second = await chain(lms, 3)
    for target in (top, first, second):
        refused = await move(admin, top["id"], target["id"])
        assert (refused.status_code, refused.json()["code"]) == (409, "would_be_a_cycle")
    other = await lms.make_institution()
    await admin.create("/institutions", {"name": "Same", "slug": second["slug"], "parent_id": other["id"]})
    taken = await move(admin, second["id"], other["id"])
    assert (taken.status_code, taken.json()["code"]) == (409, "natural_key_taken")
    assert (await admin.delete(f"/institutions/{other['id']}")).status_code == 202
    gone = await move(admin, second["id"], other["id"])
    assert (gone.status_code, gone.json()["code"]) == (404, "institution_not_found")


async def test_parallel_moves_never_make_a_cycle(lms: Lms) -> None:
    admin = await lms.admin()
    top = await lms.make_institution()
    nodes = [await lms.make_institution(top["id"]) for _ in range(10)]
    below = [await lms.make_institution(node["id"]) for node in nodes]
    # Each under the child of the next, in both directions: any two neighbours are a cycle together, though they touch
    # no row in common.
    pairs = [(nodes[number], below[(number + step) % 10]) for number in range(10) for step in (1, -1)]
    answers = await asyncio.gather(*(move(admin, one["id"], other["id"]) for one, other in pairs))
    statuses = [answer.status_code for answer in answers]
    assert set(statuses) == {200, 409}, statuses
    assert {answer.json()["code"] for answer in answers if answer.status_code == 409} == {"would_be_a_cycle"}
    ids = [one["id"] for one in (*nodes, *below)]
    rows = await lms.sql("SELECT id, parent_id FROM institutions_institution WHERE id::text = ANY(:ids)", ids=ids)
    parents = {str(row["id"]): str(row["parent_id"]) for row in rows}
    for place in ids:
        passed = set()
        while place != top["id"]:
            assert place not in passed, "a cycle"
            passed.add(place)
            place = parents[place]


async def test_a_move_out_of_what_is_being_deleted_happens_or_is_refused(lms: Lms) -> None:
    admin = await lms.admin()
    for _ in range(5):
        _, old, node = await chain(lms, 3)
        refuge = await lms.make_institution()
        moved, deleted = await asyncio.gather(
            move(admin, node["id"], refuge["id"]), admin.delete(f"/institutions/{old['id']}")
        )
        assert deleted.status_code == 202
        expected = 200 if moved.status_code == 200 else 404
        assert (moved.status_code, (await admin.get(f"/institutions/{node['id']}")).status_code) == (expected, expected)
