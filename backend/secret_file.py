"""The secret of a development server: made once, and kept in its data folder."""

from __future__ import annotations

import logging
import os
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from errors import SettingError

if sys.platform != "win32":
    import fcntl

log = logging.getLogger("todo.config")

MINIMUM_SECRET_BYTES = 32  # RFC 7518 section 3.2


def read_or_make(path: Path) -> bytes:
    """Read the secret at `path`, or make one: 32 random bytes in hex, readable by this user only
    (0600)."""
    secret = _kept_secret(path)
    if secret:
        return secret
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _alone_in(path.parent):
        if secret := _kept_secret(path):  # another process was first: we use its secret
            return secret
        if path.exists():
            log.warning(
                "%s was empty, as after a power cut; a new secret was made, so earlier tokens are refused",
                path,
            )
        return _keep_secret(path, secrets.token_hex(32))


def _kept_secret(path: Path) -> bytes:
    """Empty where there is none: everybody knows the empty secret."""
    try:
        secret = path.read_bytes()
    except FileNotFoundError:
        return b""
    if secret.strip(b"\0 \t\r\n") == b"":
        return b""
    if len(secret.strip(b"\0 \t\r\n")) < MINIMUM_SECRET_BYTES:
        raise SettingError(
            f"{path} holds fewer than {MINIMUM_SECRET_BYTES} bytes, which can be guessed; "
            "remove it, and the next start makes a new one."
        )
    return secret


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Two first starts at once take turns. A file system without locks, or Windows, has to do
    without."""
    if sys.platform == "win32":
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
        with suppress(OSError):
            os.fsync(descriptor)  # the name, too, outlives a power cut
    finally:
        os.close(descriptor)


def _keep_secret(path: Path, secret: str) -> bytes:
    """Whole or not at all: written beside it, to the disk, and then renamed."""
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(secret)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    return secret.encode()
