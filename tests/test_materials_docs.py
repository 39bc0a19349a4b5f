"""docs/materials.md, run as it is printed, and held against what the code says."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

import httpx2
from running import REPOSITORY, system

DOCUMENT = (REPOSITORY / "docs" / "materials.md").read_text()
PLUGIN = REPOSITORY / "plugins" / "materials" / "lms_materials"


def blocks(language: str, text: str = DOCUMENT) -> list[str]:
    found: list[str] = re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)
    return found


def test_the_calls_print_what_the_document_says(tmp_path: Path) -> None:
    first = blocks("bash", (REPOSITORY / "README.md").read_text())[0]
    parts = [first, *blocks("bash")]
    script = "set -euo pipefail\n" + "\necho; echo '===='\n".join(parts)
    with system(tmp_path / "data") as running:
        result = subprocess.run(
            ["bash", "-c", script], env={**running.environment, "LMS": running.url},
            cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        shown = httpx2.get(f"{running.url}/metrics").text
    # What the worker did stands beside what the API did.
    assert re.search(r'lms_deliveries_total{handler="materials.index_material",outcome="done"} \d', shown), shown
    assert 'lms_http_requests_total{method="PUT",route="/materials/submissions/{submission_id}/grade"' in shown
    assert result.returncode == 0, result.stderr + result.stdout
    outputs = result.stdout.split("====")
    promised = 0
    for block, output in zip(parts, outputs, strict=True):
        for line in re.findall(r"^# prints (.*)$", block, re.MULTILINE):
            promised += 1
            assert line in output, f"{line} is not in {output}"
    assert promised > 20


def test_every_code_is_explained() -> None:
    said = set()
    for path in PLUGIN.glob("*.py"):
        for call in (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)):
            if isinstance(call.func, ast.Name) and call.func.id in ("StateConflict", "Invalid"):
                code = call.args[0]
                assert isinstance(code, ast.Constant)
                said.add(str(code.value))
    assert len(said) > 10
    assert [code for code in sorted(said - {"invalid_input"}) if f"`{code}`" not in DOCUMENT] == []
