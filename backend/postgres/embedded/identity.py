"""Whom PostgreSQL runs as: it refuses to run as root, and initdb refuses a user without a name."""

import os
import pwd
import subprocess
import sys
from pathlib import Path

from postgres.embedded.error import EmbeddedError

LAUNCHER = str(Path(__file__).with_name("launch.py"))


def command(identity: str, program: list[str]) -> list[str]:
    """The command line that runs `program` as `identity`, for as long as this process lives."""
    return [sys.executable, "-I", "-S", LAUNCHER, identity, str(os.getpid()), *program]


def choose(data_dir: Path, postgres: str) -> str:
    """`data_dir` exists. Where it has an owner other than us, that stays its owner."""
    ours, owner = os.geteuid(), data_dir.stat()
    if ours not in (0, owner.st_uid):
        raise EmbeddedError(
            f"{data_dir} belongs to user {_name(owner.st_uid)}, and this process runs as {_name(ours)}; "
            "run it as that user, or give the folder to this one."
        )
    if ours != 0 and _has_name(ours):
        return "self"
    candidates = (
        [f"user:{owner.st_uid}:{owner.st_gid}"] if owner.st_uid != ours else _candidates(ours)
    )
    for identity in candidates:
        if _works(identity, data_dir, postgres):
            return identity
    who = (
        "root, which PostgreSQL refuses"
        if ours == 0
        else "a user without a name, which PostgreSQL refuses"
    )
    raise EmbeddedError(
        f"The embedded PostgreSQL cannot start: this process is {who}, and the system lets it become nobody else; "
        "run it as a normal user, or set NEON_DATABASE_URL to a server."
    )


def give(path: Path, identity: str) -> None:
    """Hand a folder of ours, with what is in it, to the user whom `identity` becomes."""
    kind, *ids = identity.split(":")
    if kind != "user" or path.stat().st_uid == int(ids[0]):
        return
    for inside in (*path.rglob("*"), path):  # the folder last: its owner says that all is done
        os.chown(inside, int(ids[0]), int(ids[1]), follow_symlinks=False)


def _candidates(ours: int) -> list[str]:
    user = _unprivileged()
    ids = f"{user.pw_uid}:{user.pw_gid}"
    if sys.platform != "linux":
        return []
    return [f"namespace:{ids}", f"user:{ids}"] if ours == 0 else [f"namespace:{ids}"]


def _unprivileged() -> pwd.struct_passwd:
    """`nobody`, or in a very small container whoever else has a name."""
    users = sorted(pwd.getpwall(), key=lambda user: user.pw_name != "nobody")
    for user in users:
        if user.pw_uid != 0:
            return user
    raise EmbeddedError(
        "This system has no user but root, which PostgreSQL refuses; set NEON_DATABASE_URL to a server."
    )


def _works(identity: str, data_dir: Path, postgres: str) -> bool:
    """Try it on a harmless program: can it reach the folder and PostgreSQL?"""
    program = ["/bin/sh", "-c", 'cd "$1" && exec "$2" --version', "sh", str(data_dir), postgres]
    return (
        subprocess.run(
            command(identity, program), capture_output=True, cwd="/", check=False
        ).returncode
        == 0
    )


def _has_name(uid: int) -> bool:
    return _name(uid) != str(uid)


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
