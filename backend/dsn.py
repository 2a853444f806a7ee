"""PostgreSQL connection strings as people paste them, Neon's included, made into what asyncpg connects with."""

from __future__ import annotations

import re
import ssl
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

from errors import SettingError

SCHEMES = ("postgresql", "postgres")


@dataclass(frozen=True)
class Address:
    """Where a database is. `pooled`: a transaction pooler stands before it, so a session keeps no state."""

    url: str = field(repr=False)
    host: str
    pooled: bool
    tls: ssl.SSLContext | None = field(default=None, repr=False)
    notes: tuple[str, ...] = ()

    def connect_arguments(self) -> dict[str, Any]:
        return {"dsn": self.url} if self.tls is None else {"dsn": self.url, "ssl": self.tls}


def parse(text: str, variable: str = "NEON_DATABASE_URL", pooled: bool = False) -> Address:
    """Read `text`: a URL, or a whole pasted `psql '…'` line. SettingError, without the password, where it cannot be."""
    parts = _split(_unwrap(text), variable)
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    notes = []
    if query.pop("channel_binding", None) == "require" and query.get("sslmode") in (None, "require", "prefer"):
        query["sslmode"] = "verify-full"
        notes.append("channel_binding=require is answered by verifying the server's certificate (verify-full).")
    host = parts.hostname or query.get("host", "")
    tls = None
    if query.get("sslmode") in ("verify-ca", "verify-full") and query.get("sslrootcert", "system") == "system":
        tls = _system_trust(query)
    url = urlunsplit(("postgresql", parts.netloc, parts.path, urlencode(query, quote_via=quote), ""))
    return Address(url, host, pooled or _is_neon_pooler(host), tls, tuple(notes))


def direct(address: Address) -> Address:
    """The same database without Neon's pooler: its host without `-pooler`. Any other address is returned as it is."""
    if not _is_neon_pooler(address.host):
        return address
    straight = address.host.replace("-pooler.", ".", 1)
    return Address(address.url.replace(address.host, straight, 1), straight, False, address.tls, address.notes)


def _unwrap(text: str) -> str:
    text = text.strip()
    pasted = re.fullmatch(r"psql\s+(.*)", text, re.DOTALL)
    return (pasted[1] if pasted else text).strip().strip("'\"")


def _split(text: str, variable: str) -> Any:
    example = "it must look like postgresql://user:password@host/database?sslmode=require"
    try:
        parts = urlsplit(text)
        _ = parts.port
    except ValueError:
        raise SettingError(f"{variable} cannot be read as a URL; {example}.") from None
    scheme = parts.scheme.partition("+")[0]
    if scheme not in SCHEMES:
        shown = f"starts with {parts.scheme!r}" if parts.scheme and "@" not in parts.scheme else "has no scheme"
        raise SettingError(f"{variable} {shown}; it must start with 'postgresql://'.")
    if not parts.hostname and "host=" not in parts.query:
        raise SettingError(f"{variable} names no host; {example}.")
    return parts


def _is_neon_pooler(host: str) -> bool:
    return "-pooler." in host


def _system_trust(query: dict[str, str]) -> ssl.SSLContext:
    """Trust what the machine trusts. asyncpg alone would look only for ~/.postgresql/root.crt and fail without it."""
    context = ssl.create_default_context()
    context.check_hostname = query.pop("sslmode") == "verify-full"
    query.pop("sslrootcert", None)
    certificate, key = query.pop("sslcert", None), query.pop("sslkey", None)
    if certificate:
        context.load_cert_chain(certificate, key, query.pop("sslpassword", None))
    return context
