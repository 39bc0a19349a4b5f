"""`python3 -m lms_core …` on a fresh checkout: makes `.venv` from requirements.lock, then runs `lms …` in it.

Standard library only, because it runs before anything is installed. pip and uv follow this machine's configuration.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "requirements.lock"
ENVIRONMENT = ROOT / ".venv"
PYTHON = ENVIRONMENT / "bin" / "python"
STAMP = ENVIRONMENT / "made-from"


def workspace() -> list[Path]:
    """The distributions of this checkout: the core and its plugins."""
    return [ROOT, *sorted(file.parent for file in ROOT.glob("plugins/*/pyproject.toml"))]


def fingerprint() -> str:
    """What an environment is made from; another value means that it has to be made again."""
    digest = hashlib.sha256(f"{sys.version} {ROOT}".encode())
    for file in (LOCK, *(folder / "pyproject.toml" for folder in workspace())):
        digest.update(f"\0{file.relative_to(ROOT)}\0".encode() + file.read_bytes())
    return digest.hexdigest()


def is_made() -> bool:
    """Whether the environment is complete and made from what is here now."""
    return PYTHON.exists() and STAMP.exists() and STAMP.read_text() == fingerprint()


def run(*command: str | Path) -> None:
    """Run a step; ends this program with a sentence when the step fails."""
    done = subprocess.run([str(part) for part in command], check=False)
    if done.returncode != 0:
        sys.exit(f"The environment could not be made: {Path(command[0]).name} failed (see above); try again.")


def uv_pin() -> str | None:
    """The requirement that pins uv in the lock, hashes and all, if there is one."""
    text = LOCK.read_text(encoding="utf-8").replace("\\\n", " ")
    return next((line for line in text.splitlines() if line.startswith("uv==")), None)


def install(*arguments: str | Path) -> None:
    """Install into the environment, with uv from PATH, else with the uv that the lock pins, else with pip."""
    uv = shutil.which("uv") or shutil.which("uv", path=str(PYTHON.parent))
    if uv:
        run(uv, "pip", "install", "--quiet", "--python", PYTHON, *arguments)
    else:
        run(PYTHON, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *arguments)


def make() -> None:
    """Make the environment anew; without the stamp, written last, it counts as not there."""
    print(f"Making {ENVIRONMENT} …", file=sys.stderr, flush=True)
    has_uv = shutil.which("uv") is not None
    if ENVIRONMENT.exists():
        STAMP.unlink(missing_ok=True)
    try:
        venv.create(ENVIRONMENT, clear=True, symlinks=True, with_pip=not has_uv)
    except subprocess.CalledProcessError:
        sys.exit("This Python has no pip for new environments; install the package python3-venv, or uv, and try again.")
    pin = uv_pin()
    if pin and not has_uv:
        only_uv = ENVIRONMENT / "uv.txt"
        only_uv.write_text(pin)
        install("--require-hashes", "-r", only_uv)
    install("--require-hashes", "-r", LOCK)
    editable = [part for folder in workspace() for part in ("-e", folder)]
    install("--no-deps", "--no-build-isolation", *editable)
    STAMP.write_text(fingerprint())


def main() -> None:
    """Make the environment if need be, and become `lms` in it; an installed package needs none."""
    if sys.version_info < (3, 11):  # noqa: UP036 - whoever runs this may have any Python.
        sys.exit(f"Python 3.11 or newer is needed, and this is {sys.version.split()[0]}; start it with a newer one.")
    if not LOCK.exists():
        from lms_core.cli import main as lms

        lms()
        return
    if not is_made():
        with LOCK.open() as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not is_made():
                make()
    if sys.dont_write_bytecode:
        # Somebody wants no caches beside sources; without any, each process compiles for some seconds at its start.
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
        os.environ["PYTHONPYCACHEPREFIX"] = str(ENVIRONMENT / "bytecode")
    os.execv(PYTHON, [str(PYTHON), "-m", "lms_core.cli", *sys.argv[1:]])


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
