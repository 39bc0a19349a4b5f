"""Become another program that dies with its parent: `python launch.py PARENT IDENTITY PROGRAM [ARGUMENT ...]`.

PARENT is the parent's pid. IDENTITY says who the program runs as: `same`, the caller; `namespace`, root that counts
as nobody inside a user namespace of its own; `nobody`, that user. Standard library only, and run by path (see
child.py), so that it costs little. The parent-death signal belongs to the parent's thread, not to its process.
"""

import ctypes
import os
import pwd
import signal
import sys
from pathlib import Path

CLONE_NEWUSER = 0x10000000
PR_SET_PDEATHSIG = 1
NOBODY_INSIDE = 65534


def call(name: str, *arguments: int) -> None:
    """Call a function of the C library; raises OSError when it fails."""
    library = ctypes.CDLL(None, use_errno=True)
    if getattr(library, name)(*arguments) != 0:
        raise OSError(ctypes.get_errno(), f"{name}: {os.strerror(ctypes.get_errno())}")


def enter_namespace() -> None:
    """Become nobody inside a new user namespace, and stay who we are outside of it."""
    user, group = os.geteuid(), os.getegid()
    call("unshare", CLONE_NEWUSER)
    for file, text in (
        ("setgroups", "deny"),
        ("uid_map", f"{NOBODY_INSIDE} {user} 1"),
        ("gid_map", f"{NOBODY_INSIDE} {group} 1"),
    ):
        Path("/proc/self", file).write_text(text)


def become_nobody() -> None:
    """Give up root for good."""
    nobody = pwd.getpwnam("nobody")
    os.setgroups([])
    os.setgid(nobody.pw_gid)
    os.setuid(nobody.pw_uid)


def die_with_parent(parent: int) -> None:
    """Have this process killed when its parent's thread ends, and end it at once when `parent` has gone already."""
    if sys.platform == "linux":
        call("prctl", PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def main() -> None:
    """Take the identity, bind our life to the parent's, and become the program."""
    parent, identity, program = int(sys.argv[1]), sys.argv[2], sys.argv[3:]
    if identity == "namespace":
        enter_namespace()
    elif identity == "nobody":
        become_nobody()
    # After the change of identity, which would undo it.
    die_with_parent(parent)
    os.execvp(program[0], program)


if __name__ == "__main__":
    main()
