"""docs/imports.md, run as it is printed, with the README's first calls before it."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

from running import REPOSITORY, system


def test_a_stranger_imports_people_and_takes_it_back(tmp_path: Path) -> None:
    blocks = re.findall(r"```bash\n(.*?)```", (REPOSITORY / "README.md").read_text(), re.DOTALL)[:1]
    blocks += re.findall(r"```bash\n(.*?)```", (REPOSITORY / "docs" / "imports.md").read_text(), re.DOTALL)
    script = "set -euo pipefail\n" + "\n".join(f"{block}\necho; echo '===='" for block in blocks)
    with system(tmp_path / "data") as running:
        result = subprocess.run(
            ["bash", "-c", script], env={**running.environment, "LMS": running.url},
            cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
    assert result.returncode == 0, result.stderr
    _, _, plan, run, undo, _ = result.stdout.split("====")
    assert json.loads(plan)["counts"] == {"create": 2}
    assert '"state":"done"' in run
    assert "ada@school.example" in run
    assert '"state":"undone"' in undo
