"""`lms plugins`: on and off in a copy of plugins.toml, with what goes along, and without losing a comment."""

from __future__ import annotations

import os
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
from installed import lms
from running import REPOSITORY


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return Path(shutil.copy(REPOSITORY / "plugins.toml", tmp_path / "plugins.toml"))


def run(file: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return lms({**os.environ, "PYTHONPATH": str(file.parent), "LMS_PLUGINS_FILE": str(file)}, "plugins", *arguments)


def enabled(file: Path) -> set[str]:
    return {name for name, table in tomllib.loads(file.read_text())["plugins"].items() if table["enabled"]}


def test_off_and_on_again_with_what_goes_along(file: Path) -> None:
    before = file.read_text()
    planned = run(file, "plan", "disable", "materials")
    assert (planned.returncode, file.read_text()) == (0, before)
    assert "materials is switched off" in planned.stdout
    assert run(file, "disable", "materials").returncode == 0
    assert "materials" not in enabled(file)
    refused = run(file, "disable", "courses")
    assert refused.returncode != 0
    for dependant in ("enrollments", "files", "groups"):
        assert dependant in refused.stderr
    assert "courses" in enabled(file)
    assert run(file, "disable", "courses", "--with-dependants").returncode == 0
    assert enabled(file).isdisjoint({"courses", "enrollments", "files", "groups", "materials"})
    assert "users" in run(file).stdout
    refused = run(file, "enable", "materials")
    assert refused.returncode != 0
    assert "--with-required" in refused.stderr
    assert run(file, "enable", "materials", "--with-required").returncode == 0
    assert {"courses", "enrollments", "files", "groups", "materials"} <= enabled(file)
    assert file.read_text() == before


def test_what_would_not_start_is_not_written(file: Path) -> None:
    file.write_text(f"# Ours\n{file.read_text()}".replace("[plugins.files]", "[plugins.files]\nno_such_setting = 1"))
    before = file.read_text()
    assert run(file, "disable", "sso").returncode != 0
    assert file.read_text() == before
    for arguments in (("enable", "nonsense"), ("enable", "courses"), ("disable", "nonsense")):
        refused = run(file, *arguments)
        assert refused.returncode != 0
        assert refused.stderr.count("\n") == 1
    assert file.read_text() == before
    assert list(file.parent.iterdir()) == [file]
