"""What containers are given: every secret that the compose file names is made, once, and is where the settings look."""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
from pathlib import Path

import pytest
from running import REPOSITORY

from lms_core.config import load_settings

COMPOSE = (REPOSITORY / "docker-compose.yml").read_text()


def made(folder: Path) -> tuple[str, dict[str, str]]:
    """Run the script in a copy; what it says, and the files."""
    (folder / "deploy").mkdir(exist_ok=True)
    shutil.copy(REPOSITORY / "deploy/make-secrets", folder / "deploy")
    said = subprocess.run([str(folder / "deploy/make-secrets")], capture_output=True, text=True, check=True).stdout
    return said, {file.name: file.read_text() for file in (folder / "secrets").iterdir()}


def test_secrets_are_made_once_and_found_by_the_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "secrets").mkdir(mode=0o755)
    said, secrets = made(tmp_path)
    assert len(said.split()) == len(secrets)
    assert made(tmp_path) == ("", secrets)
    assert stat.S_IMODE((tmp_path / "secrets").stat().st_mode) == 0o700
    for name in list(os.environ):
        if name.startswith("LMS_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("LMS_ENV", "production")
    monkeypatch.setenv("LMS_SECRETS", str(tmp_path / "secrets"))
    settings = load_settings()
    assert settings.secret_key == secrets["lms_secret_key"]
    assert settings.database_url == f"postgresql://lms:{secrets['postgres_password']}@postgres:5432/lms"
    assert (settings.s3_secret_key, settings.metrics_token) == (
        secrets["lms_s3_secret_key"],
        secrets["lms_metrics_token"],
    )
    assert secrets["lms_s3_secret_key"] in secrets["s3.json"]
    assert settings.admin_password == secrets["lms_admin_password"]
    assert settings.smtp_url == ""


def test_the_compose_file_names_what_is_made_and_holds_none_itself(tmp_path: Path) -> None:
    _, secrets = made(tmp_path)
    assert set(re.findall(r"\{file: secrets/(\S+)\}", COMPOSE)) == set(secrets)
    for block in re.findall(r"environment:.*?\n((?:      ?\S.*\n)+)", COMPOSE):
        named = re.findall(r"^\s*(\w*(?:PASSWORD|SECRET|TOKEN)\w*): ", block, re.MULTILINE)
        assert [name for name in named if not name.endswith("_FILE")] == []
