"""Whatever connection string is pasted is understood, or refused in one line that does not hold the
password."""

from __future__ import annotations

import inspect
import os
import ssl
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from asyncpg.connect_utils import _parse_connect_dsn_and_args
from hypothesis import given, settings
from hypothesis import strategies as st

from errors import SettingError
from postgres import dsn
from tests.conftest import sql

NEON = "ep-cool-darkness-123456.eu-central-1.aws.neon.tech"
POOLER = "ep-cool-darkness-123456-pooler.eu-central-1.aws.neon.tech"
URL = f"postgresql://ada:s3cret@{NEON}/neondb?sslmode=require"


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith(("PG", "SSL_CERT"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))  # no root.crt, no .pgpass


def understood(address: dsn.Address) -> tuple[Any, Any]:
    """Where asyncpg goes with it, and with what."""
    names = inspect.signature(_parse_connect_dsn_and_args).parameters
    return _parse_connect_dsn_and_args(**{**dict.fromkeys(names), **address.connect_arguments()})  # type: ignore[no-any-return]


def tls_of(parameters: Any) -> str:
    if not parameters.ssl:
        return "none"
    if parameters.sslmode.name == "prefer":
        return "if offered"
    if parameters.ssl.verify_mode is ssl.CERT_NONE:
        return "unverified"
    return "name verified" if parameters.ssl.check_hostname else "verified"


@pytest.mark.parametrize(
    ("pasted", "place", "user", "password", "database", "tls"),
    [
        (URL, (NEON, 5432), "ada", "s3cret", "neondb", "unverified"),
        (f"{URL}&channel_binding=require", (NEON, 5432), "ada", "s3cret", "neondb", "name verified"),
        (f"{URL}&channel_binding=prefer", (NEON, 5432), "ada", "s3cret", "neondb", "unverified"),
        (URL.replace("sslmode", "channel_binding"), (NEON, 5432), "ada", "s3cret", "neondb", "name verified"),
        (URL.replace("=require", "=verify-full"), (NEON, 5432), "ada", "s3cret", "neondb", "name verified"),
        (URL.replace("=require", "=verify-ca"), (NEON, 5432), "ada", "s3cret", "neondb", "name verified"),
        (f"{URL}&sslrootcert=system", (NEON, 5432), "ada", "s3cret", "neondb", "name verified"),
        (URL.replace("=require", "=disable"), (NEON, 5432), "ada", "s3cret", "neondb", "none"),
        (URL.replace("?sslmode=require", ""), (NEON, 5432), "ada", "s3cret", "neondb", "if offered"),
        (URL.replace("sslmode", "ssl"), (NEON, 5432), "ada", "s3cret", "neondb", "unverified"),
        (URL.replace("sslmode=require", "ssl=true"), (NEON, 5432), "ada", "s3cret", "neondb", "unverified"),
        (URL.replace(NEON, POOLER), (POOLER, 5432), "ada", "s3cret", "neondb", "unverified"),
        (URL.replace("postgresql:", "postgres:"), (NEON, 5432), "ada", "s3cret", "neondb", "unverified"),
        (URL.replace("postgresql:", "POSTGRES:"), (NEON, 5432), "ada", "s3cret", "neondb", "unverified"),
        (URL.replace("postgresql:", "postgresql+asyncpg:"), (NEON, 5432), "ada", "s3cret", "neondb", "unverified"),
        (URL.replace("postgresql:", "postgresql+psycopg2:"), (NEON, 5432), "ada", "s3cret", "neondb", "unverified"),
        (URL.replace("ql:", "ql+psycopg_async:"), (NEON, 5432), "ada", "s3cret", "neondb", "unverified"),
        (f"psql '{URL}'", (NEON, 5432), "ada", "s3cret", "neondb", "unverified"),
        (f'psql "{URL}"', (NEON, 5432), "ada", "s3cret", "neondb", "unverified"),
        (f"psql {URL}", (NEON, 5432), "ada", "s3cret", "neondb", "unverified"),
        (f"'{URL}'", (NEON, 5432), "ada", "s3cret", "neondb", "unverified"),
        (f"  {URL} \r\n", (NEON, 5432), "ada", "s3cret", "neondb", "unverified"),
        (f"psql  '{URL} '\n", (NEON, 5432), "ada", "s3cret", "neondb", "unverified"),
        (f"{URL}&connect_timeout=10&pgbouncer=true", (NEON, 5432), "ada", "s3cret", "neondb", "unverified"),
        (f"{URL}&schema=public", (NEON, 5432), "ada", "s3cret", "neondb", "unverified"),
        (f"{URL}&sslaccept=accept_invalid_certs", (NEON, 5432), "ada", "s3cret", "neondb", "unverified"),
        (f"{URL}&sslaccept=strict", (NEON, 5432), "ada", "s3cret", "neondb", "name verified"),
        (f"{URL}&load_balance_hosts=random&connection_limit=5", (NEON, 5432), "ada", "s3cret", "neondb", "unverified"),
        (f"{URL}&amp;channel_binding=require", (NEON, 5432), "ada", "s3cret", "neondb", "name verified"),
        (f"{URL}&amp;schema=public&amp;pool_timeout=20", (NEON, 5432), "ada", "s3cret", "neondb", "unverified"),
        (f"{URL}&client_encoding=utf8&charset=utf8mb4", (NEON, 5432), "ada", "s3cret", "neondb", "unverified"),
        (f"{URL}&supa=base-pooler.x", (NEON, 5432), "ada", "s3cret", "neondb", "unverified"),
        (f"{URL}&pool_max_conns=4&binary_parameters=yes", (NEON, 5432), "ada", "s3cret", "neondb", "unverified"),
        (f"{URL}&sslsni=0&sslcompression=0&hostaddr=::1", (NEON, 5432), "ada", "s3cret", "neondb", "unverified"),
        (URL.replace("=require", "=no-verify"), (NEON, 5432), "ada", "s3cret", "neondb", "unverified"),
        ("postgres://ada:p%40s%3As%2F%3F%23%25w@db:6543/todo", ("db", 6543), "ada", "p@s:s/?#%w", "todo", "if offered"),
        ("postgresql://ada:p@ss@db/todo", ("db", 5432), "ada", "p@ss", "todo", "if offered"),
        ("postgresql://ada%40corp:x+y@db/todo", ("db", 5432), "ada@corp", "x+y", "todo", "if offered"),
        ("postgresql://db/todo?user=ada&password=x+y%26z", ("db", 5432), "ada", "x+y&z", "todo", "if offered"),
        ("postgresql://ada:'quoted'@db/todo", ("db", 5432), "ada", "'quoted'", "todo", "if offered"),
        ("postgresql://ada:%D0%BA%D0%BE%D1%82@db/%D0%B1%D0%B4", ("db", 5432), "ada", "кот", "бд", "if offered"),
        ("postgresql://ada:x@[2001:db8::1]:6543/todo", ("2001:db8::1", 6543), "ada", "x", "todo", "if offered"),
        ("postgresql://ada:x@[::1]/todo", ("::1", 5432), "ada", "x", "todo", "if offered"),
        ("postgresql://ada@%2Frun%2Fpg/todo", "/run/pg/.s.PGSQL.5432", "ada", None, "todo", "none"),
        ("postgresql://ada@/todo?host=/run/pg&port=6543", "/run/pg/.s.PGSQL.6543", "ada", None, "todo", "none"),
        ("postgresql:///todo?host=%2Frun%2Fpg&user=ada", "/run/pg/.s.PGSQL.5432", "ada", None, "todo", "none"),
    ],
)  # fmt: skip
def test_a_pasted_string_leads_where_it_says(
    pasted: str, place: Any, user: str, password: str | None, database: str, tls: str
) -> None:
    address = dsn.parse(pasted)
    [found], parameters = understood(address)
    assert (found, parameters.user, parameters.password) == (place, user, password)
    assert (parameters.database, tls_of(parameters)) == (database, tls)
    assert not parameters.server_settings
    assert address.host == (place[0] if isinstance(place, tuple) else os.path.dirname(place))
    assert "s3cret" not in repr(address)


def test_several_hosts_are_tried_in_turn() -> None:
    places, _ = understood(
        dsn.parse("postgresql://ada:x@one:5432,two:6543/todo?target_session_attrs=read-write")
    )
    assert places == [("one", 5432), ("two", 6543)]


def test_what_is_for_the_server_reaches_it() -> None:
    address = dsn.parse(f"{URL}&options=endpoint%3Dep-cool-darkness-123456&application_name=a+b")
    _, parameters = understood(address)
    assert parameters.server_settings == {
        "options": "endpoint=ep-cool-darkness-123456",
        "application_name": "a+b",
    }


@pytest.mark.parametrize(
    ("parameters", "search_path"),
    [
        ("schema=todo", '"todo"'),
        ("schema=My%20Tasks", '"My Tasks"'),
        ("search_path=todo,public", "todo,public"),
        ("currentSchema=todo", "todo"),
        ("sslmode=prefer&amp;schema=todo", '"todo"'),
        ("schema=public", ""),
        ("schema=", ""),
        ("sslmode=require", ""),
    ],
)
def test_the_schema_that_other_clients_name_is_searched_for_tables(
    parameters: str, search_path: str
) -> None:
    direct = dsn.parse(f"postgresql://ada:x@db/todo?{parameters}")
    pooled = dsn.parse(f"postgresql://ada:x@db/todo?{parameters}&pgbouncer=true")
    assert direct.search_path == pooled.search_path == search_path
    assert understood(direct)[1].server_settings == (
        {"search_path": search_path} if search_path else None
    )
    assert understood(pooled)[1].server_settings is None  # a transaction pooler would refuse it


def test_every_setting_that_postgresql_takes_from_a_client_reaches_it(database_url: str) -> None:
    names = [
        row["name"]
        for row in sql(database_url, "SELECT name FROM pg_settings WHERE context = 'user'")
    ]
    assert len(names) > 100
    unknown = {
        name
        for name in names
        if not dsn.parse(f"postgresql://db/todo?{name}=1").url.endswith(f"?{name}=1")
    }
    assert unknown == {
        "client_encoding",
        "tcp_user_timeout",
    }  # the second means the client's own in a URL


def test_every_parameter_that_asyncpg_knows_is_left_to_it() -> None:
    known = sorted(dsn.OF_ASYNCPG - {"service"})  # names an entry in a file
    values = {
        "port": "5432",
        "sslnegotiation": "postgres",
        "target_session_attrs": "any",
        "gsslib": "gssapi",
    }
    values |= {
        "sslmode": "disable",
        "ssl_min_protocol_version": "TLSv1.2",
        "ssl_max_protocol_version": "TLSv1.3",
    }
    for name in known:
        url = f"postgresql://db/todo?sslmode=disable&{name}={values.get(name, 'x')}"
        _, parameters = understood(dsn.Address(url, "db", False))
        assert parameters.server_settings is None, name


@pytest.mark.parametrize(
    ("pasted", "said"),
    [
        ("", "X is empty; it must start with 'postgresql://'."),
        (" \n", "X is empty; it must start with 'postgresql://'."),
        ("psql ''", "X is empty; it must start with 'postgresql://'."),
        ("s3cret", "X has no scheme; it must start with 'postgresql://'."),
        ("ada:s3cret@db/todo", "X has no scheme; it must start with 'postgresql://'."),
        ("host=db user=ada password=s3cret", "X has no scheme; it must start with 'postgresql://'."),
        ("psql -h db -U ada todo", "X has no scheme; it must start with 'postgresql://'."),
        ("http://ada:s3cret@db/todo", "X starts with 'http://'; it must start with 'postgresql://'."),
        ("mysql+pymysql://ada:s3cret@db/todo", "X starts with 'mysql+pymysql://'; it must start with 'postgresql://'."),
        ("postgresql://", "X names no host"),
        ("postgresql:///todo", "X names no host"),
        ("postgresql://ada:s3cret@/todo?ghost=db", "X names no host"),
        ("postgresql://ada:s3cret@:5432/todo", "X names no host"),
        ("postgresql://ada:s3cret@one,,two/todo", "X names no host"),
        ("postgresql://ada:s3cret@/todo?host=one,", "X names no host"),
        ("postgresql://ada:s3cret@db:port/todo", "X has no readable host and port"),
        ("postgresql://ada:s3cret@::1/todo", "X has no readable host and port"),
        ("postgresql://ada:s3cret@[::1/todo", "X cannot be read as a URL"),
        ("postgresql://ada:s3cret@db:70000/todo", "X has a port that cannot be"),
        ("postgresql://ada:s3cret@/todo?host=db&port=s3", "X has a port that cannot be"),
        ("postgresql://ada:12#s3cret@db/todo", "X has a blank, '#' or '@' where none may be"),
        ("postgresql://ada:12/s3cret@db/todo", "X has a blank, '#' or '@' where none may be"),
        ("postgresql://ada:12?s3cret@db/todo", "X has a blank, '#' or '@' where none may be"),
        ("postgresql://ada@corp:12/s3cret@db/todo", "X has a blank, '#' or '@' where none may be"),
        ("postgresql://ada:s3 cret@db/todo", "X has a blank, '#' or '@' where none may be"),
        ("psql 'postgresql://ada:s3cret@db/todo' -c 'select 1'", "X has a blank, '#' or '@' where none may be"),
        (f"{URL}\n{URL}", "X has a blank, '#' or '@' where none may be"),
        ("postgresql://ada:s3cret@db/todo?sslmode=s3cret", "X has an sslmode that does not exist"),
        ("postgresql://ada:s3cret@db/todo?sslmode=disable&channel_binding=require", "X has channel_binding=require"),
        ("postgresql://ada:s3cret@db?sslmode=verify-full&sslrootcert=/none/ca.pem", "X: sslrootcert must name a file"),
        ("postgresql://ada:s3cret@db?sslmode=verify-full&sslcert=/none/ada.pem", "X: sslcert must name a file"),
        (f"postgresql://ada:s3cret@db?sslmode=verify-full&sslcert={__file__}", "X: sslcert and sslkey must be"),
        ("postgresql://ada:s3cret@db?sslmode=verify-full&ssl_min_protocol_version=TLSv1.3", "X has ssl_min_protocol"),
        ("postgresql://ada:s3cret@db/todo?sslmod=verify-full", "X asks for a protection that is unknown here: sslmod."),
        ("postgresql://ada:s3cret@db/todo?require_auth=none", "X asks for a protection that is unknown here: require"),
        ("postgresql://db/todo?user=ada&password=x&s3cretssl", "X asks for a protection that is unknown here: 1 par"),
        ("postgresql://ada:s3cret@db/todo?sslmode=disable&sslaccept=strict", "X has sslaccept=strict, which needs TLS"),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_refused_in_one_line(pasted: str, said: str) -> None:
    with pytest.raises(SettingError) as refusal:
        dsn.parse(pasted, "X")
    sentence = str(refusal.value)
    assert sentence.startswith(said)
    assert "\n" not in sentence
    assert "s3cret" not in sentence
    assert refusal.value.__cause__ is None
    assert refusal.value.__suppress_context__ or refusal.value.__context__ is None


@pytest.mark.parametrize(
    ("pasted", "settings", "pooled"),
    [
        (URL, {}, False),
        (URL, {"pooled": True}, True),
        (URL.replace(NEON, POOLER), {}, True),
        (URL.replace(NEON, POOLER.upper()), {}, True),
        (f"{URL}&pgbouncer=true", {}, True),
        (f"{URL}&amp;pgbouncer=TRUE", {}, True),
        (f"{URL}&pgbouncer=false", {}, False),
        (URL.replace(NEON, "aws-0-eu-central-1.pooler.supabase.com:6543"), {}, True),
        ("postgresql://ada-pooler.x:s3cret@db/todo", {}, False),
        (f"postgresql://ada:s3cret@/todo?host={POOLER}", {}, True),
    ],
)
def test_a_transaction_pooler_is_recognised(
    pasted: str, settings: dict[str, bool], pooled: bool
) -> None:
    assert dsn.parse(pasted, **settings).pooled is pooled  # type: ignore[arg-type]  # only `pooled` is given


@pytest.mark.parametrize(
    ("pasted", "straight"),
    [
        (URL.replace(NEON, POOLER), NEON),
        (URL.replace(NEON, POOLER.upper()), NEON.upper()),
        (URL.replace(NEON, POOLER).replace("ada", f"ada%40{POOLER}"), NEON),
        (f"postgresql://ada:s3cret@/todo?host={POOLER}", NEON),
        (f"{URL.replace(NEON, POOLER)}&channel_binding=require", NEON),
        (URL, NEON),
        ("postgresql://ada:x@db/todo", "db"),
    ],
)
def test_migrations_go_past_the_pooler(pasted: str, straight: str) -> None:
    pooled = dsn.parse(pasted)
    address = dsn.direct(pooled)
    [(host, _)], parameters = understood(address)
    _, before = understood(pooled)
    assert (host, address.host, address.pooled) == (straight, straight, False)
    assert (parameters.user, parameters.password) == (before.user, before.password)
    assert tls_of(parameters) == tls_of(before)


def test_a_pooler_that_its_name_does_not_show_has_no_other_door() -> None:
    address = dsn.parse("postgresql://ada:x@db/todo", pooled=True)
    assert dsn.direct(address) is address


def test_what_is_changed_in_the_string_is_said() -> None:
    assert dsn.parse(URL).notes == ()
    [binding] = dsn.parse(f"{URL}&channel_binding=require").notes
    assert "verify-full" in binding
    [unused] = dsn.parse(f"{URL}&connect_timeout=10&pgbouncer=true").notes
    assert "connect_timeout, pgbouncer" in unused


@pytest.mark.parametrize(
    ("parameters", "note"),
    [
        (
            "supa=base-pooler.x&connection_limit=1",
            "not used here, so left out of the URL: connection_limit, supa.",
        ),
        ("a%0Ab=1&pool_timeout=2", "not used here, so left out of the URL: pool_timeout, 1 more."),
        (
            "pgbouncer=true&work_mem=1MB",
            "not used here, so left out of the URL: pgbouncer, work_mem.",
        ),
        ("password=half&half=1&other", "not used here, so left out of the URL: 2 parameters."),
        ("work_mem=1MB&options=-cjit%3Doff&app.color=red", None),
    ],
)
def test_what_is_left_out_is_named_unless_it_may_be_half_a_password(
    parameters: str, note: str | None
) -> None:
    assert dsn.parse(f"postgresql://ada@db/todo?{parameters}").notes == ((note,) if note else ())


MARK = "Zx9QwK"  # nowhere else, so that even a part of the password would be seen
texts = st.text(max_size=12) | st.text(alphabet="@:/?#[]%&=+ '\"\\,.;\n1", max_size=12)
shapes = st.sampled_from(
    [
        "postgresql://ada:{}@db/todo",
        "postgres://{}@db/todo",
        "postgresql://ada:{}@/todo",
        "postgresql://ada:{}@[::1]:5432/todo?sslmode=require&channel_binding=require",
        "postgresql://ada:{}@db:port/todo",
        "postgresql://:{}@db",
        "psql 'postgresql://ada:{}@db/todo?sslmode=none'",
        "http://ada:{}@db/todo",
        "ada:{}@db/todo",
        "postgresql://db/todo?user=ada&password={}",
        "host=db password={}",
    ]
)


@settings(deadline=None)  # the machine's certificates are read
@given(shape=shapes, before=texts, after=texts, encoded=st.booleans())
def test_no_password_is_ever_printed(shape: str, before: str, after: str, encoded: bool) -> None:
    password = f"{before}{MARK}{after}"
    if encoded:
        password = quote(password.encode("utf-8", "surrogatepass"), safe="")
    try:
        shown = (
            repr(address := dsn.parse(shape.replace("{}", password)))
            + address.host
            + "".join(address.notes)
        )
    except SettingError as refusal:
        shown = str(refusal)
        assert "\n" not in shown
    assert MARK.lower() not in shown.lower()


@settings(deadline=None)
@given(password=st.text(min_size=1, max_size=20).filter(lambda text: text.isprintable()))
def test_every_encoded_password_arrives(password: str) -> None:
    _, parameters = understood(dsn.parse(f"postgresql://ada:{quote(password, safe='')}@db/todo"))
    assert parameters.password == password
