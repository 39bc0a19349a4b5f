"""The benchmark's own parts: what holds, what is drawn and kept, and the data that is the same each time."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import asyncpg
from running import REPOSITORY

sys.path.insert(0, str(REPOSITORY))

from benchmarks import data
from benchmarks.chart import draw
from benchmarks.results import Result, compare, save
from lms_core.testing import copy_template, settings_for

HELD = Result("reads", "quick", [0.5, 0.7, 0.6], "of it", ">=", 0.45)
FAILED = Result("start", "slow <start>", [9.0], "s", "<=", 6)


def test_a_bar_holds_by_its_median() -> None:
    assert (HELD.median, HELD.holds) == (0.6, True)
    assert FAILED.holds is False
    assert Result("x", "without a limit", [1.0]).holds is None
    assert "FAILS" in FAILED.line()


def test_figures_are_kept_compared_and_drawn(tmp_path: Path) -> None:
    save(tmp_path / "figures.json", [HELD, FAILED])
    assert json.loads((tmp_path / "figures.json").read_text())["results"][0]["median"] == 0.6
    quicker = Result("reads", "quick", [0.9], "of it", ">=", 0.45)
    [line] = compare(tmp_path / "figures.json", [quicker])
    assert "+50 %" in line
    draw(tmp_path / "chart.svg", [HELD, FAILED, Result("sizes", "memory", [1.0])])
    drawn = "".join(ElementTree.parse(tmp_path / "chart.svg").getroot().itertext())
    assert "slow <start>" in drawn
    assert "memory" not in drawn


def test_there_is_no_bar_of_that_name() -> None:
    command = [sys.executable, "-m", "lms_core.cli", "bench", "nothing"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "There is no bar nothing" in done.stderr


async def test_the_data_is_the_same_each_time(database_name: str) -> None:
    found = []
    for number in range(2):
        name = f"{database_name}_bench_{number}"
        await copy_template(name)
        url = settings_for(name).database_url
        await data.fill(url, 1_000)
        connection = await asyncpg.connect(url)
        found.append(
            await connection.fetchval(
                "SELECT md5(string_agg(c.id::text || institution_id, ',' ORDER BY c.id)) FROM courses_course c"
            )
        )
        assert await connection.fetchval("SELECT count(*) FROM courses_course") == 1_000
        await connection.close()
    assert found[0] == found[1]
