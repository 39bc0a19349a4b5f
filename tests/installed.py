"""Installs a plugin package beside the repository as an installer would, and runs `lms` with it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parent.parent


def install(source: Path, target: Path, name: str) -> None:
    """Copy a package with one plugin, and write what makes its entry point known (PyPA's core metadata)."""
    shutil.copytree(source, target / f"lms_{name}")
    described = target / f"lms_{name}-0.1.0.dist-info"
    described.mkdir()
    (described / "METADATA").write_text(f"Metadata-Version: 2.1\nName: lms-{name}\nVersion: 0.1.0\n")
    (described / "entry_points.txt").write_text(f"[lms.plugins]\n{name} = lms_{name}\n")


def write_plugin(target: Path, name: str, source: str) -> None:
    """Install a plugin that is one string."""
    package = target / "source" / name
    (package / "migrations").mkdir(parents=True)
    (package / "__init__.py").write_text(source)
    install(package, target, name)


def environment(target: Path, enabled: str, **more: str) -> dict[str, str]:
    """The environment of a command that sees the installed plugins and a plugins.toml of its own."""
    toml = target / "plugins.toml"
    toml.write_text(enabled)
    return {**os.environ, "PYTHONPATH": str(target), "LMS_PLUGINS_FILE": str(toml), **more}


def lms(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(
        [sys.executable, "-m", "lms_core.cli", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        cwd=REPOSITORY,
    )
