"""The child process that opens one untrusted file, limited in memory, time and output: `python -m` and a job file."""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import re
import resource
import signal
import sys
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any
from zipfile import is_zipfile

from lms_files import content_types
from lms_files.extraction_jobs import Derived, Limits, Reason, Refused

PR_SET_PDEATHSIG = 1
NICENESS = 10
# The share of the address space that is hardly ever used up to the last byte.
NEAR_MEMORY_LIMIT = 0.9
# NUL and lone surrogates can't be stored in PostgreSQL; the other control characters can't be seen.
UNWANTED = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff\ufffe\uffff]")

Result = dict[str, Any]


def limit_this_process(limits: Limits, parent_pid: int) -> None:
    """Gives up, for good, what one file must not take. Comes before the modules that read files are imported."""
    if sys.platform == "linux":
        # Whoever kills the parent ends us too.
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent_pid:
        # The parent died before the line above.
        sys.exit("the parent is gone")
    resource.setrlimit(resource.RLIMIT_AS, (limits.memory_bytes, limits.memory_bytes))
    # SIGXCPU at the first, SIGKILL at the second.
    resource.setrlimit(resource.RLIMIT_CPU, (limits.cpu_seconds, limits.cpu_seconds + 1))
    resource.setrlimit(resource.RLIMIT_FSIZE, (limits.output_bytes, limits.output_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.nice(NICENESS)


def found(name: str) -> Callable[..., Any]:
    """The function at `package.module:function`."""
    module, _, function = name.partition(":")
    return getattr(importlib.import_module(module), function)  # type: ignore[no-any-return]


def inspect(path: Path, content_type: str, limits: Limits, check: str | None) -> Result:
    """Raises Refused if the file isn't what it is declared to be, isn't whole, or is dangerous to open."""
    if check is not None:
        if not found(check)(path):
            raise Refused("type_mismatch")
    elif not content_types.matches(content_type, path):
        # An office document with a password is no zip file any more.
        if content_type in content_types.OPEN_XML_TYPES and content_types.is_locked_open_xml(path):
            raise Refused("encrypted")
        raise Refused("type_mismatch")
    if content_type in content_types.ZIP_TYPES or (check is not None and is_zipfile(path)):
        from lms_files.archives import check_archive

        check_archive(path, limits)
    elif content_type in content_types.IMAGE_TYPES:
        from lms_files.images import check_image

        check_image(path, content_type, limits)
    elif content_type in content_types.PDF_TYPES:
        from lms_files.text_pdf import check_pdf

        check_pdf(path)
    return {}


def process(path: Path, content_type: str, function: str, folder: Path, limits: Limits) -> Result:
    """What a processor makes of the file. Raises whatever it does."""
    derived: Derived = found(function)(path, content_type, folder, limits)
    if len(json.dumps(derived.facts)) > limits.facts_bytes:
        raise Refused("facts_too_large")
    pages, truncated = (None, False) if derived.pages is None else cut(derived.pages, limits)
    return {
        "facts": derived.facts,
        "pages": pages,
        "truncated": truncated,
        "picture": None if derived.picture is None else derived.picture.name,
    }


def cut(pages: Iterable[str | Iterable[str]], limits: Limits) -> tuple[list[str], bool]:
    """Pages that PostgreSQL takes, read as they are asked for, and whether the limit on characters cut them."""
    kept: list[str] = []
    left = limits.text_characters
    for page in pages:
        pieces: list[str] = []
        for piece in (page,) if isinstance(page, str) else page:
            clean = UNWANTED.sub("", piece)
            pieces.append(clean[:left])
            if len(clean) > left:
                return [*kept, "".join(pieces).strip()], True
            left -= len(clean)
        kept.append("".join(pieces).strip())
        # A page costs a character, or a million empty ones were free.
        left = max(left - 1, 0)
    return kept, False


def run(job: dict[str, Any], limits: Limits) -> Result:
    """Does the job; every failure of a reader becomes a reason."""
    path, content_type = Path(job["path"]), content_types.normalise(job["content_type"])
    try:
        if job["kind"] == "inspect":
            return {"ok": True, **inspect(path, content_type, limits, job["check"])}
        return {"ok": True, **process(path, content_type, job["function"], Path(job["folder"]), limits)}
    except Refused as refused:
        return failure(refused.reason, str(refused))
    except MemoryError:
        # Without a traceback: making one takes memory too.
        return failure("out_of_memory")
    except Exception:  # noqa: BLE001 — see below
        # Readers raise anything on damaged files: KeyError, struct.error, RecursionError, ... lxml's error doesn't
        # even say when it was memory that it lacked.
        return failure("out_of_memory" if near_memory_limit(limits) else "broken", traceback.format_exc(limit=-3))


def near_memory_limit(limits: Limits) -> bool:
    """Did this process come so near to its limit that whatever failed probably failed for that?"""
    status = Path("/proc/self/status")
    if not status.exists():
        # Not on Linux: nobody knows.
        return False
    peak = re.search(r"VmPeak:\s+(\d+) kB", status.read_text())
    return peak is not None and int(peak[1]) * 1024 > NEAR_MEMORY_LIMIT * limits.memory_bytes


def failure(reason: Reason, detail: str = "") -> Result:
    """A result without a result."""
    return {"ok": False, "reason": reason, "detail": detail}


def main() -> None:
    """Reads the job from the file named on the command line, and writes the result where the job says."""
    job = json.loads(Path(sys.argv[1]).read_bytes())
    limits = Limits(**job["limits"])
    limit_this_process(limits, job["parent_pid"])
    result = json.dumps(run(job, limits), ensure_ascii=False).encode("utf-8", errors="replace")
    if len(result) > limits.output_bytes:
        result = json.dumps(failure("too_large")).encode()
    Path(job["result_path"]).write_bytes(result)


if __name__ == "__main__":
    main()
