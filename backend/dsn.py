"""PostgreSQL connection strings as people paste them, Neon's included, made into what asyncpg connects with."""

from __future__ import annotations

import os
import re
import ssl
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlencode, urlsplit, urlunsplit

from errors import SettingError

SCHEMES = ("postgresql", "postgres")
SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
FILES = ("sslrootcert", "sslcert", "sslkey", "sslcrl")
NEEDS_A_ROOT_FILE = ("sslcrl", "ssl_min_protocol_version", "ssl_max_protocol_version")
# Meant for other clients. asyncpg would send them to the server, which refuses what it does not know.
FOR_OTHERS = frozenset(
    {
        *("connect_timeout", "keepalives", "keepalives_idle", "keepalives_interval", "keepalives_count"),
        *("tcp_user_timeout", "gssencmode", "sslcompression", "sslsni"),
        *("pgbouncer", "connection_limit", "pool_timeout", "statement_cache_size", "prepared_statement_cache_size"),
    }
)
HOST = r"(?:\[[0-9A-Fa-f:.]+\]|[^:\[\],]*)(?::[0-9]{0,5})?"
PORT = r":([0-9]*)(?=,|$)"
EXAMPLE = "it must look like postgresql://user:password@host/database?sslmode=require"
ENCODING = "special characters of user and password must be percent-encoded (@ as %40, / as %2F, # as %23, ? as %3F)"


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
    user, at, place = parts.netloc.rpartition("@")
    query = dict(parse_qsl(parts.query.replace("+", "%2B"), keep_blank_values=True))  # a plus is no blank to libpq
    host = re.sub(PORT, "", unquote(place)).strip("[]") or ("" if place else query.get("host", ""))
    _check_place(host, [*re.findall(PORT, place), *query.get("port", "").split(",")], variable)
    pooled = pooled or _is_neon_pooler(host) or query.get("pgbouncer") == "true"
    notes: list[str] = []
    _forget_what_is_for_others(query, notes)
    _choose_ssl_mode(query, variable, notes)
    tls = _system_trust(query, variable) if _asks_for_the_system(query) else None
    netloc = f"{user.replace('@', '%40')}{at}{place}"
    url = urlunsplit(("postgresql", netloc, parts.path, urlencode(query, quote_via=quote), ""))
    return Address(url, host, pooled, tls, tuple(notes))


def direct(address: Address) -> Address:
    """The same database without Neon's pooler: its host without `-pooler`. Any other address is returned as it is."""
    if not _is_neon_pooler(address.host):
        return address
    before, at, after = address.url.rpartition("@")  # the only one: `parse` lets no other through
    return Address(before + at + _straight(after), _straight(address.host), False, address.tls, address.notes)


def _unwrap(text: str) -> str:
    text = text.strip()
    pasted = re.fullmatch(r"psql\s+(.*)", text, re.DOTALL)
    text = pasted[1] if pasted else text
    quoted = re.fullmatch(r"""(['"])(.*)\1""", text, re.DOTALL)
    return (quoted[2] if quoted else text).strip()


def _split(text: str, variable: str) -> SplitResult:
    scheme = re.match(r"([A-Za-z][A-Za-z0-9.-]*)(\+[A-Za-z0-9_]+)?://", text)  # SQLAlchemy's names a driver
    if not scheme:
        raise SettingError(f"{variable} {'has no scheme' if text else 'is empty'}; it must start with 'postgresql://'.")
    if scheme[1].lower() not in SCHEMES:
        raise SettingError(f"{variable} starts with {scheme[0]!r}; it must start with 'postgresql://'.")
    try:
        parts = urlsplit("postgresql://" + text[scheme.end() :])
    except ValueError:
        raise SettingError(f"{variable} cannot be read as a URL; {ENCODING}.") from None
    if re.search(r"\s|#", text) or "@" in parts.path + parts.query:
        raise SettingError(f"{variable} has a blank, '#' or '@' where none may be; {ENCODING}.")
    if not re.fullmatch(f"{HOST}(?:,{HOST})*", parts.netloc.rpartition("@")[2]):
        raise SettingError(f"{variable} has no readable host and port; {EXAMPLE}, and {ENCODING}.")
    return parts


def _check_place(host: str, ports: list[str], variable: str) -> None:
    if not all(host.split(",")):
        raise SettingError(f"{variable} names no host; {EXAMPLE}.")
    if not all(port == "" or (port.isdecimal() and 0 < int(port) < 65536) for port in ports):
        raise SettingError(f"{variable} has a port that cannot be; it must be a number from 1 to 65535.")


def _forget_what_is_for_others(query: dict[str, str], notes: list[str]) -> None:
    unused = sorted(FOR_OTHERS & query.keys())
    for name in unused:
        del query[name]
    if unused:
        notes.append(f"not used here, so left out of the URL: {', '.join(unused)}.")


def _choose_ssl_mode(query: dict[str, str], variable: str, notes: list[str]) -> None:
    if "ssl" in query:  # how SQLAlchemy and JDBC say it
        mode = query.pop("ssl")
        query.setdefault("sslmode", "require" if mode.lower() in ("true", "1") else mode)
    mode = query.get("sslmode", "prefer")
    if mode not in SSL_MODES:
        raise SettingError(f"{variable} has an sslmode that does not exist; it must be one of {', '.join(SSL_MODES)}.")
    if query.pop("channel_binding", None) == "require" and mode != "verify-full":
        if mode == "disable":
            raise SettingError(f"{variable} has channel_binding=require, which needs TLS; remove sslmode=disable.")
        query["sslmode"] = "verify-full"
        notes.append("channel_binding=require is answered by verifying the server's certificate (verify-full).")
    for name in FILES:
        path = query.get(name, "")
        if path and (name, path) != ("sslrootcert", "system") and not os.access(path, os.R_OK):
            raise SettingError(f"{variable}: {name} must name a file that can be read.")


def _asks_for_the_system(query: dict[str, str]) -> bool:
    root = query.get("sslrootcert", "")
    return root == "system" or (not root and query.get("sslmode", "").startswith("verify-"))


def _system_trust(query: dict[str, str], variable: str) -> ssl.SSLContext:
    """Trust what the machine trusts. asyncpg alone would look only for ~/.postgresql/root.crt and fail without it.

    The host name is always checked, as in libpq: anybody can get a certificate from a public authority for some name.
    """
    for name in NEEDS_A_ROOT_FILE:
        if name in query:
            raise SettingError(f"{variable} has {name}, which works only with sslrootcert=<file>; add that file.")
    given = {name: query.pop(name, "") for name in ("sslmode", "sslrootcert", "sslcert", "sslkey", "sslpassword")}
    context = ssl.create_default_context()
    if given["sslcert"]:
        try:
            context.load_cert_chain(given["sslcert"], given["sslkey"] or None, given["sslpassword"])
        except OSError:
            raise SettingError(f"{variable}: sslcert and sslkey must be a certificate and its key (PEM).") from None
    return context


def _is_neon_pooler(host: str) -> bool:
    return "-pooler." in host.lower()


def _straight(text: str) -> str:
    return re.sub(r"-pooler\.", ".", text, count=1, flags=re.IGNORECASE)
