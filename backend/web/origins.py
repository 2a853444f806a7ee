"""Which pages may read the answers in a browser (CORS), and a hint in the log about a page that may
not."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping

import logs
from logs import quotable
from web.answers import Headers

log = logging.getLogger("todo.web")

EXPOSED = b"ETag, Idempotency-Replayed, Location, Retry-After, WWW-Authenticate, X-Request-Id"
LISTED_MAX = 300  # characters of the allowed origins in a hint
_THIS_MACHINE = re.compile(r"(?<=://)(localhost|127\.0\.0\.1|0\.0\.0\.0|\[::1\])(?=:|$)")


class Origins:
    """The origins that are allowed, each compared exactly, as browsers send it."""

    def __init__(self, allowed: Iterable[str]) -> None:
        self.allowed = sorted(allowed)
        self._fields = {origin.encode(): _fields(origin.encode()) for origin in self.allowed}
        self._hints = logs.OnceAMinute()

    def __contains__(self, origin: bytes | None) -> bool:
        return origin in self._fields

    def fields_for(self, origin: bytes, sent: Mapping[bytes, bytes]) -> Headers:
        """What lets a page of `origin` read the answer. Nothing for another, and then its browser
        refuses."""
        found = self._fields.get(origin)
        if found is None and not _is_our_own(origin, sent):
            self._hint(origin.decode("latin-1"))
        return found or []

    def _hint(self, origin: str) -> None:
        """The browser tells its user only that CORS failed; so the log says why, and what to set."""
        shown = quotable(origin)
        twin = next((one for one in self.allowed if _unnamed(one) == _unnamed(shown)), None)
        if not self._hints.allows("this machine" if twin else "another"):
            return
        if twin:
            text = f"for browsers {shown} is not {twin}, and CORS_ORIGINS allows only the second. "
            text += f"Open the frontend at {twin}, or {self._setting(shown)}"
        elif origin == "null":
            text = "a page that was opened from a file, or in a sandbox, has the origin 'null' and may not call. "
            text += f"Serve it from an origin that CORS_ORIGINS allows: {self._listed()}"
        else:
            text = f"a page of {shown or repr(shown)} may not call; CORS_ORIGINS allows {self._listed()}"
            text += (
                f". If it is your frontend, {self._setting(shown)}" if shown == origin != "" else ""
            )
        log.warning("a browser was refused: %s", text)

    def _listed(self) -> str:
        return ", ".join(self.allowed)[:LISTED_MAX] or "none"

    def _setting(self, shown: str) -> str:
        return f"set CORS_ORIGINS={','.join([*self.allowed, shown])[: 2 * LISTED_MAX]}"


def _fields(origin: bytes) -> Headers:
    return [
        (b"access-control-allow-origin", origin),
        (b"access-control-allow-credentials", b"true"),
        (b"access-control-expose-headers", EXPOSED),
    ]


def _is_our_own(origin: bytes, sent: Mapping[bytes, bytes]) -> bool:
    """Whether the page is one of this server's, such as /docs: it needs no permission."""
    return sent.get(b"sec-fetch-site") == b"same-origin" or origin.partition(b"://")[2] == sent.get(
        b"host"
    )


def _unnamed(origin: str) -> str:
    """The same for every name of this machine: localhost, 127.0.0.1, [::1]."""
    return _THIS_MACHINE.sub("(this machine)", origin)
