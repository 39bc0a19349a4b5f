"""The README's calls, run as they are printed."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

from running import REPOSITORY, system


def test_the_first_calls_do_what_the_readme_says(tmp_path: Path) -> None:
    blocks = re.findall(r"```bash\n(.*?)```", (REPOSITORY / "README.md").read_text(), re.DOTALL)
    assert len(blocks) == 4
    script = "set -euo pipefail\n" + "\n".join(f"{block}\necho; echo '===='" for block in blocks)
    with system(tmp_path / "data") as running:
        result = subprocess.run(
            ["bash", "-c", script],
            env={**running.environment, "LMS": running.url},
            cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
    assert result.returncode == 0, result.stderr
    parts = result.stdout.split("====")
    found, after_delete_and_restore = parts[2], parts[3]
    assert "«powerhouse»" in found
    assert '"url":"http' in found
    answers = re.findall(r'\{"items":\[.*?\],"next_cursor":null\}', after_delete_and_restore)
    hits = [json.loads(answer)["items"] for answer in answers]
    assert hits[0] == []
    assert hits[1][0]["state"] == "deleted"
    assert hits[1][0]["counts"] == {
        "courses.course": 1, "enrollments.enrollment": 1, "files.file": 1, "materials.material": 1,
    }  # fmt: skip
    assert len(hits[2]) == 1
