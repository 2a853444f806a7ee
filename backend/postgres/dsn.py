"""PostgreSQL connection strings as people paste them, Neon's included, made into what asyncpg
connects with."""

from __future__ import annotations

import os
import re
import ssl
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlencode, urlsplit, urlunsplit

from errors import SettingError

SCHEMES = ("postgresql", "postgres")
SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
ASK_FOR_VERIFICATION = (
    ("channel_binding", "require"),
    ("sslaccept", "strict"),
)  # the second is Prisma's
FILES = ("sslrootcert", "sslcert", "sslkey", "sslcrl")
NEEDS_A_ROOT_FILE = ("sslcrl", "ssl_min_protocol_version", "ssl_max_protocol_version")
OF_ASYNCPG = frozenset(
    {
        *(
            "host",
            "port",
            "user",
            "password",
            "passfile",
            "dbname",
            "database",
            "service",
            "krbsrvname",
            "gsslib",
        ),
        *("sslmode", "sslcert", "sslkey", "sslpassword", "sslrootcert", "sslcrl", "sslnegotiation"),
        *("ssl_min_protocol_version", "ssl_max_protocol_version", "target_session_attrs"),
    }
)
# What PostgreSQL takes from a client, by name or by family. A test asks a server for the names of
# its settings.
OF_POSTGRESQL = re.compile(
    r"\w+\.\w+|options|application_name|role|search_path|row_security|timezone"
    r"|timezone_abbreviations|datestyle|intervalstyle|bytea_output|extra_float_digits"
    r"|xml(binary|option)|array_nulls|exit_on_error|tcp_keepalives_\w+"
    r"|(statement|lock|transaction|wal_sender|idle_session|idle_in_transaction_session)_timeout"
    r"|synchronous_commit|(default_)?transaction_(isolation|read_only|deferrable)"
    r"|default_(statistics_target|table\w+|text\w+|toast\w+)"
    r"|(work|hash|logical_decoding_work|maintenance_work)_mem\w*"
    r"|(temp|local_preload|effective|backend|client)_\w+|(max|min)_parallel_\w+"
    r"|(cpu|seq|random|parallel|cursor|recursive)_\w+|(from|join)_collapse_limit"
    r"|commit_siblings|(enable|debug|geqo|gin|jit|lc|log|stats|trace|vacuum)_\w+|geqo|jit"
    r"|(plan_cache|constraint|escape_string)_\w+"
    r"|(check_function|createrole|file_copy|icu|io|maintenance_io|md5|restrict|synchronize|wal_skip)_\w+"
    r"|password_encryption|scram_iterations|quote_all_identifiers|backslash_quote"
    r"|standard_conforming_strings|transform_null_equals",
    re.IGNORECASE,
)
NOT_FOR_POSTGRESQL = frozenset(
    {"client_encoding"}
)  # asyncpg speaks UTF-8, whatever other clients speak
THROUGH_A_POOLER = frozenset(
    {"options", "application_name", "timezone", "datestyle", "standard_conforming_strings"}
)
SEARCH_PATHS = ("search_path", "currentSchema", "schema")  # as PostgreSQL, JDBC and Prisma name it
ASKS_FOR_SECURITY = re.compile(r"ssl|tls|channel|require|auth", re.IGNORECASE)
ASKS_FOR_NOTHING = frozenset(
    {"sslcompression", "sslsni", "sslidentity", "sslcertmode", "sslkeylogfile"}
)
SECRETS = frozenset({"password", "sslpassword"})
YES = ("true", "1", "yes", "on")
HOST = r"(?:\[[0-9A-Fa-f:.]+\]|[^:\[\],]*)(?::[0-9]{0,5})?"
PORT = r":([0-9]*)(?=,|$)"
EXAMPLE = "it must look like postgresql://user:password@host/database?sslmode=require"
ENCODING = "special characters of user and password must be percent-encoded (@ as %40, / as %2F, # as %23, ? as %3F)"


@dataclass(frozen=True)
class Address:
    """Where a database is, and which variable says so. `pooled`: a transaction pooler stands before
    it, so a session keeps no state. `search_path`: where the URL wants its tables to be; empty if
    it does not say."""

    url: str = field(repr=False)
    host: str
    pooled: bool
    tls: ssl.SSLContext | None = field(default=None, repr=False)
    notes: tuple[str, ...] = ()
    variable: str = "NEON_DATABASE_URL"
    search_path: str = ""

    def connect_arguments(self) -> dict[str, Any]:
        return {"dsn": self.url} if self.tls is None else {"dsn": self.url, "ssl": self.tls}


def parse(text: str, variable: str = "NEON_DATABASE_URL", pooled: bool = False) -> Address:
    """Read `text`: a URL, or a whole pasted `psql '…'` line. SettingError, without the password,
    where it cannot be."""
    parts = _split(_unwrap(text), variable)
    user, at, place = parts.netloc.rpartition("@")
    query = _parameters(parts.query)
    host = re.sub(PORT, "", unquote(place)).strip("[]") or ("" if place else query.get("host", ""))
    _check_place(host, [*re.findall(PORT, place), *query.get("port", "").split(",")], variable)
    pooled = pooled or _is_pooler(host) or query.get("pgbouncer", "").lower() in YES
    notes: list[str] = []
    _choose_ssl_mode(query, variable, notes)
    search_path = _take_search_path(query, pooled)
    _leave_out_unknown(query, pooled, variable, notes)
    tls = _system_trust(query, variable) if _asks_for_the_system(query) else None
    netloc = f"{user.replace('@', '%40')}{at}{place}"
    url = urlunsplit(("postgresql", netloc, parts.path, urlencode(query, quote_via=quote), ""))
    return Address(url, host, pooled, tls, tuple(notes), variable, search_path)


def direct(address: Address) -> Address:
    """The same database without Neon's pooler: its host without `-pooler`. Any other address is
    returned as it is."""
    if not _is_neon_pooler(address.host):
        return address
    before, at, after = address.url.rpartition("@")  # the only one: `parse` lets no other through
    return replace(
        address, url=before + at + _straight(after), host=_straight(address.host), pooled=False
    )


def _unwrap(text: str) -> str:
    text = text.strip()
    pasted = re.fullmatch(r"psql\s+(.*)", text, re.DOTALL)
    text = pasted[1] if pasted else text
    quoted = re.fullmatch(r"""(['"])(.*)\1""", text, re.DOTALL)
    return (quoted[2] if quoted else text).strip()


def _split(text: str, variable: str) -> SplitResult:
    scheme = re.match(
        r"([A-Za-z][A-Za-z0-9.-]*)(\+[A-Za-z0-9_]+)?://", text
    )  # SQLAlchemy's names a driver
    if not scheme:
        raise SettingError(
            f"{variable} {'has no scheme' if text else 'is empty'}; it must start with 'postgresql://'."
        )
    if scheme[1].lower() not in SCHEMES:
        raise SettingError(
            f"{variable} starts with {scheme[0]!r}; it must start with 'postgresql://'."
        )
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
        raise SettingError(
            f"{variable} has a port that cannot be; it must be a number from 1 to 65535."
        )


def _parameters(text: str) -> dict[str, str]:
    """By name; the last one counts. A URL copied out of a web page's source has `&amp;` for `&`."""
    text = text.replace("&amp;", "&").replace("+", "%2B")  # a plus is no blank to libpq
    return dict(parse_qsl(text, keep_blank_values=True))


def _take_search_path(query: dict[str, str], pooled: bool) -> str:
    """Where the tables are to be. A session may be told as it starts, but a transaction pooler
    would refuse that."""
    found = {name: query.pop(name) for name in SEARCH_PATHS if name in query}
    if found.get("schema"):
        found["schema"] = _quoted(found["schema"])  # one name, where the others are lists
    search_path = next(filter(None, found.values()), "")
    if search_path == '"public"':  # Prisma always says so; a login may have its tables elsewhere
        return ""
    if search_path and not pooled:
        query["search_path"] = search_path
    return search_path


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _leave_out_unknown(
    query: dict[str, str], pooled: bool, variable: str, notes: list[str]
) -> None:
    """PostgreSQL would refuse what is meant for another client. But a misspelt `sslmode` must not
    go unnoticed."""
    unknown = sorted(name for name in query if not _is_known(name, pooled))
    for name in unknown:
        del query[name]
    asking = [
        name for name in unknown if ASKS_FOR_SECURITY.search(name) and name not in ASKS_FOR_NOTHING
    ]
    if asking:
        names = _names(asking, query)
        raise SettingError(
            f"{variable} asks for a protection that is unknown here: {names}. Correct or remove it."
        )
    if unknown:
        notes.append(f"not used here, so left out of the URL: {_names(unknown, query)}.")


def _is_known(name: str, pooled: bool) -> bool:
    if name in OF_ASYNCPG:
        return True
    if pooled:
        return name.lower() in THROUGH_A_POOLER
    return OF_POSTGRESQL.fullmatch(name) is not None and name.lower() not in NOT_FOR_POSTGRESQL


def _names(names: list[str], query: dict[str, str]) -> str:
    """For the log. Beside an unencoded password, what looks like a name may be the password's
    second half."""
    if SECRETS & query.keys():
        return f"{len(names)} parameters"
    shown = [name for name in names if re.fullmatch(r"[A-Za-z_][\w.-]{0,40}", name, re.ASCII)]
    if len(shown) < len(names):
        shown.append(f"{len(names) - len(shown)} more")
    return ", ".join(shown)


def _choose_ssl_mode(query: dict[str, str], variable: str, notes: list[str]) -> None:
    if "ssl" in query:  # how SQLAlchemy and JDBC say it
        mode = query.pop("ssl")
        query.setdefault("sslmode", "require" if mode.lower() in ("true", "1") else mode)
    if query.get("sslmode") == "no-verify":  # how node-postgres says it
        query["sslmode"] = "require"
    mode = query.get("sslmode", "prefer")
    if mode not in SSL_MODES:
        raise SettingError(
            f"{variable} has an sslmode that does not exist; it must be one of {', '.join(SSL_MODES)}."
        )
    for name, value in ASK_FOR_VERIFICATION:
        if query.pop(name, None) == value and query.get("sslmode") != "verify-full":
            if mode == "disable":
                raise SettingError(
                    f"{variable} has {name}={value}, which needs TLS; remove sslmode=disable."
                )
            query["sslmode"] = "verify-full"
            notes.append(
                f"{name}={value} is answered by verifying the server's certificate (verify-full)."
            )
    for name in FILES:
        path = query.get(name, "")
        if path and (name, path) != ("sslrootcert", "system") and not os.access(path, os.R_OK):
            raise SettingError(f"{variable}: {name} must name a file that can be read.")


def _asks_for_the_system(query: dict[str, str]) -> bool:
    root = query.get("sslrootcert", "")
    return root == "system" or (not root and query.get("sslmode", "").startswith("verify-"))


def _system_trust(query: dict[str, str], variable: str) -> ssl.SSLContext:
    """Trust what the machine trusts. asyncpg alone would look only for ~/.postgresql/root.crt and
    fail without it.

    The host name is always checked, as in libpq: anybody can get a certificate from a public
    authority for some name.
    """
    for name in NEEDS_A_ROOT_FILE:
        if name in query:
            raise SettingError(
                f"{variable} has {name}, which works only with sslrootcert=<file>; add that file."
            )
    given = {
        name: query.pop(name, "")
        for name in ("sslmode", "sslrootcert", "sslcert", "sslkey", "sslpassword")
    }
    context = ssl.create_default_context()
    if given["sslcert"]:
        try:
            context.load_cert_chain(given["sslcert"], given["sslkey"] or None, given["sslpassword"])
        except OSError:
            raise SettingError(
                f"{variable}: sslcert and sslkey must be a certificate and its key (PEM)."
            ) from None
    return context


def _is_pooler(host: str) -> bool:
    return _is_neon_pooler(host) or host.lower().endswith(".pooler.supabase.com")


def _is_neon_pooler(host: str) -> bool:
    return "-pooler." in host.lower()


def _straight(text: str) -> str:
    return re.sub(r"-pooler\.", ".", text, count=1, flags=re.IGNORECASE)
