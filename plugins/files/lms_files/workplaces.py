"""Folders for the files that a process looks at; those of a process that was killed are removed by the next one."""

import os
import re
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir

import psutil

NAME = re.compile(r"lms-files-(\d+)-.+")
# The kernel says when a process began to a hundredth of a second, by a clock of its own.
CLOCKS_DIFFER_SECONDS = 5.0


def workplace() -> "TemporaryDirectory[str]":
    """A folder that goes at the end of a `with`."""
    return TemporaryDirectory(prefix=f"lms-files-{os.getpid()}-")


def remove_left_over() -> None:
    """Remove the folders of processes that are no more."""
    for folder in Path(gettempdir()).glob("lms-files-*"):
        if is_left_over(folder):
            shutil.rmtree(folder, ignore_errors=True)


def is_left_over(folder: Path) -> bool:
    """Whether its process has ended; another one with the same pid began after the folder was used."""
    named = NAME.fullmatch(folder.name)
    if named is None:
        return False
    try:
        began = psutil.Process(int(named[1])).create_time()
        return began > folder.stat().st_mtime + CLOCKS_DIFFER_SECONDS
    except psutil.NoSuchProcess:
        return True
    except (psutil.Error, OSError):
        # Somebody else's, or gone by now.
        return False
