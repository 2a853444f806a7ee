"""Just enough of PostgreSQL's protocol to see whether a server answers, and to run one statement."""

import socket
import struct
from pathlib import Path

PROTOCOL_3_0 = 196608
TIMEOUT_SECONDS = 10

STARTING_OR_STOPPING = "57P03"
NO_SUCH_DATABASE = "3D000"


class ServerRefusal(Exception):
    """The server answered, with an error."""

    def __init__(self, sqlstate: str, message: str) -> None:
        super().__init__(message)
        self.sqlstate = sqlstate


def run(socket_file: Path, database: str, statement: str) -> None:
    """Run one statement as `postgres`, which the socket's owner may be without a password.

    Raises ServerRefusal; ConnectionRefusedError or FileNotFoundError where nobody listens; another
    OSError where somebody listens and does not answer.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(TIMEOUT_SECONDS)
        connection.connect(str(socket_file))
        parameters = b"".join(
            word.encode() + b"\0" for word in ("user", "postgres", "database", database)
        )
        connection.sendall(_framed(struct.pack("!i", PROTOCOL_3_0) + parameters + b"\0"))
        _read_until_ready(connection)
        connection.sendall(b"Q" + _framed(statement.encode() + b"\0"))
        _read_until_ready(connection)
        connection.sendall(b"X" + _framed(b""))


def _framed(body: bytes) -> bytes:
    return struct.pack("!i", len(body) + 4) + body


def _read_until_ready(connection: socket.socket) -> None:
    while True:
        kind, length = struct.unpack("!ci", _read(connection, 5))
        body = _read(connection, length - 4)
        if kind == b"E":
            raise _refusal(body)
        if kind == b"Z":
            return


def _read(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        part = connection.recv(size - len(data))
        if not part:
            raise ConnectionResetError("the server closed the connection")
        data += part
    return data


def _refusal(body: bytes) -> ServerRefusal:
    fields = {part[:1]: part[1:].decode(errors="replace") for part in body.split(b"\0") if part}
    return ServerRefusal(fields.get(b"C", ""), fields.get(b"M", "unknown error"))
