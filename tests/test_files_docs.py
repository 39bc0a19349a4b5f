"""docs/files.md, run as it is printed, and held against what the code and the example page say."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path
from typing import get_args

from lms_files.extraction_jobs import Reason
from running import REPOSITORY, system

DOCUMENT = (REPOSITORY / "docs" / "files.md").read_text()
# Where each of these errors has its code among its arguments.
CODE_AT = {"StateConflict": 0, "Invalid": 0, "Problem": 1, "Unavailable": 1, "Rejected": 0}

# With the functions of the document.
REJECTED = """
printf '<html><script>' > page.txt
curl -s $LMS/files -H "$admin" -H "$json" -d '{"filename": "page.txt", "content_type": "text/plain",
  "size": '$(wc -c < page.txt)'}' > upload.json
file=$(field id < upload.json)
send_form page.txt
curl -s -X POST $LMS/files/$file/complete -H "$admin"
wait_for $file
curl -s $LMS/files/$file -H "$admin"
"""


def blocks(language: str, text: str = DOCUMENT) -> list[str]:
    found: list[str] = re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)
    return found


def without_indents(text: str) -> str:
    return "\n".join(line.strip() for line in text.strip().splitlines())


def test_the_calls_do_what_the_document_says(tmp_path: Path) -> None:
    first = blocks("bash", (REPOSITORY / "README.md").read_text())[0]
    script = "set -euo pipefail\n" + "\n".join(
        f"{block}\necho; echo '===='" for block in [first, *blocks("bash"), REJECTED]
    )
    with system(tmp_path / "data") as running:
        result = subprocess.run(
            ["bash", "-c", script], env={**running.environment, "LMS": running.url},
            cwd=tmp_path, capture_output=True, text=True, timeout=180, check=False,
        )  # fmt: skip
    assert result.returncode == 0, result.stderr + result.stdout
    _, _, _, small, _, large, cancelled, downloads, versions, limits, rejected, _ = result.stdout.split("====")
    assert '"state":"uploaded"' in small
    assert '"state":"ready"' in small
    assert "arrived [1] missing [2, 3, 4, 5]" in large
    assert '"state":"cancelled"' in cancelled
    assert downloads.strip() == "1\n2\n3"
    assert re.search(r"^.*Light and dark reactions\nLight reactions\n", versions, re.MULTILINE)
    assert '"used_bytes":' in limits
    assert '"state":"rejected","reason":"type_mismatch"' in rejected


def test_the_snippets_stand_in_the_example() -> None:
    page = without_indents((REPOSITORY / "examples" / "upload" / "index.html").read_text())
    assert len(blocks("js")) == 7
    for snippet in blocks("js"):
        assert without_indents(snippet) in page


def test_every_code_and_every_reason_is_explained() -> None:
    said = set(get_args(Reason))
    for path in (REPOSITORY / "plugins" / "files" / "lms_files").glob("*.py"):
        for call in (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)):
            name = call.func.id if isinstance(call.func, ast.Name) else ""
            code = call.args[CODE_AT[name]] if name in CODE_AT else None
            if isinstance(code, ast.Constant):
                said.add(str(code.value))
    assert len(said) > 25
    assert [code for code in sorted(said) if f"`{code}`" not in DOCUMENT] == []
