"""What killed workers leave in the temporary folder."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from lms_files.storage import store_of_process
from lms_files.workplaces import workplace

from lms_core.testing import Lms

HOURS = 3600


async def test_what_a_killed_process_left_goes_with_the_next_start(
    lms: Lms, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    program = (
        "import os, sys, tempfile; from pathlib import Path; from lms_files.workplaces import workplace;"
        "tempfile.tempdir = sys.argv[1]; folder = workplace();"
        "(Path(folder.name) / 'upload').write_bytes(b'words'); os.kill(os.getpid(), 9)"
    )
    assert subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=False).returncode == -9
    [left] = tmp_path.iterdir()
    assert (left / "upload").read_bytes() == b"words"
    somebody_elses = tmp_path / "lms-files-notes"
    somebody_elses.mkdir()
    # A container begins with the same pids again and again.
    before_us = tmp_path / f"lms-files-{os.getpid()}-before"
    before_us.mkdir()
    os.utime(before_us, (time.time() - 24 * HOURS,) * 2)
    with workplace() as ours:
        context = lms.context.create(lms.context.platform)
        async with store_of_process(context):
            assert set(tmp_path.iterdir()) == {Path(ours), somebody_elses}
        await context.close()
    assert set(tmp_path.iterdir()) == {somebody_elses}
