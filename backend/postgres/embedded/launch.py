"""Become a user whom PostgreSQL accepts, tie this process to its parent's life, and turn into the
given program.

Run as a script (`python -I -S launch.py IDENTITY PARENT_PID PROGRAM …`), because the steps must
happen in a process of one thread. IDENTITY is `self`; `namespace:UID:GID`, to be called that in a
user namespace of our own, where the files stay ours; or `user:UID:GID`, to become that user, still
able to pass through folders that only root may enter.
"""

import ctypes
import os
import signal
import struct
import sys

CLONE_NEWUSER = 0x10000000
PR_SET_PDEATHSIG = 1
PR_SET_SECUREBITS = 28
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_RAISE = 2
SECBIT_NO_SETUID_FIXUP = 1 << 2
LINUX_CAPABILITY_VERSION_3 = 0x20080522
CAP_DAC_OVERRIDE = 1


def main(identity: str, parent_pid: int, command: list[str]) -> None:
    kind, *ids = identity.split(":")
    if kind == "namespace":
        enter_user_namespace(int(ids[0]), int(ids[1]))
    elif kind == "user":
        become_user(int(ids[0]), int(ids[1]))
    if sys.platform == "linux":
        # After the change of user, which clears it. SIGINT is PostgreSQL's fast shutdown.
        system_call("prctl", PR_SET_PDEATHSIG, signal.SIGINT, 0, 0, 0)
        if os.getppid() != parent_pid:
            sys.exit("the parent process ended first")
    os.execv(command[0], command)


def enter_user_namespace(uid: int, gid: int) -> None:
    outer_uid, outer_gid = os.geteuid(), os.getegid()
    system_call("unshare", CLONE_NEWUSER)
    write("/proc/self/setgroups", "deny")
    write("/proc/self/uid_map", f"{uid} {outer_uid} 1")
    write("/proc/self/gid_map", f"{gid} {outer_gid} 1")


def become_user(uid: int, gid: int) -> None:
    # Without this bit access(2), which initdb calls, would look at the user alone and forget the
    # capability.
    system_call("prctl", PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP, 0, 0, 0)
    os.setgroups([])
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    keep_only(CAP_DAC_OVERRIDE)


def keep_only(capability: int) -> None:
    header = struct.pack("Ii", LINUX_CAPABILITY_VERSION_3, 0)
    only = 1 << capability
    system_call(
        "capset", header, struct.pack("6I", only, only, only, 0, 0, 0)
    )  # effective, permitted, inheritable
    system_call("prctl", PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, capability, 0, 0)


def system_call(name: str, *arguments: int | bytes) -> None:
    library = ctypes.CDLL(None, use_errno=True)
    words = [ctypes.c_ulong(value) if isinstance(value, int) else value for value in arguments]
    if getattr(library, name)(*words) != 0:
        raise OSError(ctypes.get_errno(), f"{name}: {os.strerror(ctypes.get_errno())}")


def write(path: str, text: str) -> None:
    with open(path, "w") as file:
        file.write(text)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3:])
