"""docs/single-sign-on.md, run as it is printed, with the README's first calls before it."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest
from running import REPOSITORY, system


def blocks_of(name: str) -> list[str]:
    return re.findall(r"```bash\n(.*?)```", (REPOSITORY / name).read_text(), re.DOTALL)


def test_a_stranger_sets_up_single_sign_on(
    tmp_path: Path, oidc_command: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LMS_SSO__PRIVATE_PROVIDERS", "true")
    with system(tmp_path / "data") as running:
        command = [*oidc_command, f"{running.url}/sso/callback"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as provider:
            assert provider.stdout is not None
            issuer = provider.stdout.readline().strip()
            script = "\n".join([blocks_of("README.md")[0], *blocks_of("docs/single-sign-on.md")])
            result = subprocess.run(
                ["bash", "-c", f"set -euo pipefail\n{script}"],
                env={**running.environment, "LMS": running.url, "issuer": issuer},
                cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False,
            )  # fmt: skip
            provider.kill()
    assert result.returncode == 0, result.stderr
    me = json.loads(result.stdout[result.stdout.rindex('{"id"') :])
    assert (me["email"], me["full_name"]) == ("ada@school.example", "Ada")
    assert [role["role"] for role in me["roles"]] == ["teacher"]
