"""Every experiment of the laboratory: 0 acknowledged writes lost, 0 effects doubled, everything at rest in its time."""

from __future__ import annotations

import asyncio
import json
import os
import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from experiments import EXPERIMENTS
from laboratory import Laboratory, laboratory

pytestmark = pytest.mark.anyio
SEED = int(os.environ.get("LMS_FAULTS_SEED", "0")) or random.SystemRandom().randrange(1_000_000)
LOAD_SECONDS = 4.0
# One of each sort; the others run with `-m faults`.
SHORT = ("a child of the worker killed", "Redis killed with all that it knew", "PostgreSQL stopped immediately")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Laboratory]:
    with laboratory(tmp_path_factory.mktemp("faults"), SEED) as found:
        yield found


@pytest.fixture
async def lab(built: Laboratory) -> Laboratory:
    if not built.course:
        await built.furnish()
    return built


async def run(lab: Laboratory, name: str) -> dict[str, object]:
    """Clients write while it happens, and a little longer."""
    begun = time.monotonic()
    happening = asyncio.ensure_future(EXPERIMENTS[name](lab))
    await lab.load(happening, LOAD_SECONDS)
    found = await lab.reckon()
    return {"experiment": name, "seed": lab.seed, **found, "seconds": round(time.monotonic() - begun, 1)}


@pytest.mark.parametrize("name", SHORT)
async def test_nothing_is_lost(lab: Laboratory, name: str) -> None:
    assert (await run(lab, name))["acknowledged"]


@pytest.mark.faults
@pytest.mark.parametrize("name", EXPERIMENTS)
async def test_every_experiment(lab: Laboratory, name: str) -> None:
    found = await run(lab, name)
    print(json.dumps(found), flush=True)


@pytest.mark.faults
async def test_a_soak(lab: Laboratory) -> None:
    """Experiments in any order for LMS_SOAK_MINUTES (30), with a report in LMS_SOAK_REPORT."""
    until = time.monotonic() + 60 * float(os.environ.get("LMS_SOAK_MINUTES", "30"))
    report = []
    while time.monotonic() < until:
        found = await run(lab, lab.random.choice(list(EXPERIMENTS)))
        report.append(found)
        print(json.dumps(found), flush=True)
    if path := os.environ.get("LMS_SOAK_REPORT"):
        Path(path).write_text("".join(json.dumps(one) + "\n" for one in report))
