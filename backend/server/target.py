"""What a request is for: the forms of its target (RFC 9112 section 3.2) and of its host."""

from __future__ import annotations

import re

from errors import BadRequest

HOST = re.compile(
    rb"(?:\[[0-9A-Fa-f:.]+\]|(?:[A-Za-z0-9._~!$&'()*+,;=-]|%[0-9A-Fa-f]{2})+)(?::[0-9]{0,5})?"
)
_URL = re.compile(
    rb"https?://" + HOST.pattern + rb"(?P<path>/[^?]*)?(?:\?(?P<query>.*))?", re.IGNORECASE
)


def split(target: bytes, method: bytes) -> tuple[bytes, bytes]:
    """Path and query, of a path, of a whole URL, or of the `*` of OPTIONS.

    The host of a URL would count instead of the field Host. We serve all hosts alike.
    """
    if target.startswith(b"/") and b"#" not in target:
        path, _, query = target.partition(b"?")
        return path, query
    if target == b"*" and method == b"OPTIONS":
        return target, b""
    found = _URL.fullmatch(target)
    if found is None or b"#" in target:
        raise BadRequest(
            "The target of a request must be a path that starts with '/', or an http URL"
        )
    return found["path"] or b"/", found["query"] or b""
