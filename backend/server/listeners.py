"""Where the server listens. We bind ourselves, because uvicorn reads HOST differently with one
worker and with more."""

from __future__ import annotations

import errno
import logging
import os
import socket
from typing import Any

from errors import SettingError

log = logging.getLogger("todo.server")

BACKLOG = 2048  # connections that wait to be accepted; the kernel may allow fewer
_NOT_OURS = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)


def bind(host: str, port: int) -> list[socket.socket]:
    """One socket for each address that `host` stands for. `::` is every address of this machine,
    IPv4 included.

    Of a name's addresses, those that this machine does not have are left out.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (socket.gaierror, UnicodeError):
        raise _no_address(host) from None
    bound: list[socket.socket] = []
    for family, address in dict.fromkeys((info[0], info[4]) for info in found):
        if bound:  # port 0 is chosen once
            address = (address[0], bound[0].getsockname()[1], *address[2:])
        try:
            bound.append(_bind_one(family, address))
        except OSError as error:
            if error.errno not in _NOT_OURS:
                raise _refused(host, port, error) from None
    if not bound:
        raise _no_address(host)
    return bound


def listen(listeners: list[socket.socket]) -> None:
    """Fails if another program has begun to listen there since `bind`."""
    for listener in listeners:
        host, port = listener.getsockname()[:2]
        try:
            listener.listen(BACKLOG)
        except OSError as error:
            raise _refused(host, port, error) from None
        log.info("listening on %s port %d", host, port)


def _bind_one(family: int, address: Any) -> socket.socket:
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        if os.name == "posix":  # elsewhere it would let two programs share the port
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, address[0] != "::")
        listener.bind(address)
    except OSError:
        listener.close()
        raise
    return listener


def _no_address(host: str) -> SettingError:
    return SettingError(f"HOST {host} is no address of this machine; try 127.0.0.1 or 0.0.0.0.")


def _refused(host: str, port: int, error: OSError) -> SettingError:
    reason = f"cannot be used ({error.strerror})"
    if error.errno == errno.EADDRINUSE:
        reason = "is taken by another program"
    another = port + 1 if 1024 <= port < 65535 else 8000  # below 1024 a port needs rights
    return SettingError(
        f"PORT {port} on HOST {host} {reason}; choose another, as in --port {another}."
    )
