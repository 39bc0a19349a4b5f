"""Installs a plugin package beside the repository as an installer would, and runs `lms` with it."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from lms_core.cli import CommandLine

REPOSITORY = Path(__file__).parent.parent
SECONDS = 120
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(
    # The last one is what takes longest of what our own plugins import.
    ["lms_core.http", "lms_core.migrate", "lms_core.platform", "lms_core.sdk", "lms_core.setup", "aioboto3"]
)


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
    """Run a command to its end: in a fork of a process that has imported the core, which takes a new one two seconds."""
    with TemporaryDirectory() as folder:
        output, errors = Path(folder) / "output", Path(folder) / "errors"
        process = FORKS.Process(target=run, args=(environment, arguments, output, errors))
        process.start()
        process.join(SECONDS)
        assert process.exitcode is not None, "The command does not end."
        return subprocess.CompletedProcess(arguments, process.exitcode, output.read_text(), errors.read_text())


def run(environment: dict[str, str], arguments: Sequence[str], output: Path, errors: Path) -> None:
    """In the fork: become `lms` with these arguments."""
    for path, descriptor in ((output, 1), (errors, 2)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), descriptor)
    os.environ.clear()
    os.environ.update(environment)
    sys.path[:0] = environment["PYTHONPATH"].split(os.pathsep)
    os.chdir(REPOSITORY)
    sys.exit(CommandLine().run(list(arguments)))
