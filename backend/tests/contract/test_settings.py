"""Contract, section "Settings": defaults, what is refused and how, and what production refuses on
top."""

from __future__ import annotations

import logging
import os
import re
import shutil
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import config
import database
from errors import SettingError
from tests import servers
from web.limits import RateLimiter

CANARY = "hunter2"  # in every secret below; never in what is printed
DATABASE = f"postgresql://ada:{CANARY}@db.example.com/todo"
STRONG = f"k9fJ3mQ8xZ2vB7nL5pR1tY6wC4hD0sGa-{CANARY}"
PEM = f"-----BEGIN PUBLIC KEY-----\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE{CANARY}\n-----END PUBLIC KEY-----"
EXAMPLE = config.BACKEND / ".env.example"

Load = Callable[..., config.Settings]


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Load:
    """Loads with these environment variables and no others, and with `env_file`, a text, as
    backend/.env."""

    def load_with(env_file: str | bytes = "", **variables: str) -> config.Settings:
        for name in set(os.environ) - set(servers.clean_environment()):
            monkeypatch.delenv(name)
        for name, value in {"DATA_DIR": str(tmp_path / "data"), **variables}.items():
            monkeypatch.setenv(name, value)
        path = tmp_path / ".env"
        path.write_bytes(env_file.encode() if isinstance(env_file, str) else env_file)
        return config.load(_env_file=path)

    return load_with


def refusal(load: Load, **variables: Any) -> str:
    """The sentence with which the start stops. The database's address is read at the start too."""

    def start() -> None:
        settings = load(**variables)
        if settings.database_url is not None:
            database.address(settings)
            database.direct_address(settings)

    with pytest.raises(SettingError) as caught:
        start()
    return str(caught.value)


def names(text: str, variable: str) -> bool:
    """Whether `text` names it, and not only one whose name ends like it."""
    return re.search(rf"(?<![A-Z_]){variable}(?![A-Z_])", text) is not None


def test_the_defaults(load: Load) -> None:
    settings = load()
    assert settings.database_url is None
    assert settings.better_auth_secret is None
    assert settings.better_auth_url == "http://localhost:3000"
    assert settings.allowed_origins == {"http://localhost:3000"}
    assert (settings.issuer, settings.audience) == (
        "http://localhost:3000",
        "http://localhost:3000",
    )
    assert settings.auth_strict is False
    assert settings.environment == "development"
    assert settings.row_security == "on"
    assert settings.database_pooled is False
    assert (settings.host, settings.port) == ("127.0.0.1", 8000)
    assert settings.requests_per_minute is None
    assert settings.keep_alive_seconds == 75


BAD = {
    "NEON_DATABASE_URL": [
        f"mysql://ada:{CANARY}@db.example.com/todo",
        f"ada:{CANARY}@db.example.com/todo",
        "postgresql://",
        CANARY,
    ],
    "DATABASE_URL": [f"mysql://ada:{CANARY}@db.example.com/todo"],
    "NEON_DIRECT_DATABASE_URL": [f"mysql://ada:{CANARY}@db.example.com/todo", CANARY],
    "BETTER_AUTH_SECRET": ["\udcff" * 40],
    "BETTER_AUTH_SECRET_PREVIOUS": ["\udcff" * 40, PEM],
    "BETTER_AUTH_URL": [
        *(
            "app.example.com",
            "localhost:3000",
            "ftp://app.example.com",
            "https://",
            "*",
            "http://[::1",
            "http://localhost:port",
        ),
        *(
            "http://localhost:99999",
            "http://a b.example.com",
            f"https://ada:{CANARY}@app.example.com",
        ),
    ],
    "CORS_ORIGINS": [
        *(
            "*",
            "https://app.example.com, *",
            "app.example.com",
            "https://app.example.com/path",
            "null",
            "http://[::1",
        ),
        *(
            "https://app.example.com https://b.example.com",
            "http://localhost:port",
            "https://*.example.com",
        ),
        *(f"https://ada:{CANARY}@app.example.com", f"https://app.example.com?key={CANARY}"),
        *(
            "capacitor://localhost/path",
            "tauri://",
            "chrome-extension://*",
            f"capacitor://ada:{CANARY}@localhost",
        ),
        *(
            "capacitor:localhost",
            "capacitor://localhost:99999",
            "app://a b",
            "file:///",
            "ws://localhost:3000",
        ),
    ],
    "AUTH_STRICT": ["maybe", "2"],
    "ENVIRONMENT": ["prod", "staging", "PRODUCTION ", "production,"],
    "DATABASE_POOLED": ["maybe", "2"],
    "ROW_SECURITY": ["maybe", "of", "disabled"],
    "PORT": ["http", "-1", "65536", "80.5", "9" * 400],
    "KEEP_ALIVE_SECONDS": ["0", "-1", "3601", "1.5", "75s", "off", "9" * 400],
    "RATE_LIMIT": ["0", "-1", "many", "600.5", "600/min", "inf", "9" * 400],
}


AROUND = {
    "NEON_DIRECT_DATABASE_URL": {"NEON_DATABASE_URL": DATABASE},
    "BETTER_AUTH_SECRET_PREVIOUS": {"BETTER_AUTH_SECRET": STRONG},
}


@pytest.mark.parametrize(
    ("variable", "value"),
    [(name, value) for name, values in BAD.items() for value in values],
    ids=lambda text: ascii(text)[1:40],
)
def test_a_wrong_setting_stops_the_start_with_one_line_that_names_it(
    load: Load, variable: str, value: str
) -> None:
    around = AROUND.get(variable, {})
    sentence = refusal(load, **{**around, variable: value})
    assert sentence.count("\n") == 0
    assert names(sentence, variable)
    assert len(sentence) > len(variable) + 20  # it also says what would be right
    assert CANARY not in sentence


def test_a_folder_that_cannot_be_made_stops_the_start_with_one_line_too(load: Load) -> None:
    settings = load(DATA_DIR="/dev/null/folder")
    with pytest.raises(SettingError) as caught:
        _ = settings.secret
    assert names(str(caught.value), "DATA_DIR")
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_utf_8_stops_the_start_with_a_sentence(load: Load) -> None:
    sentence = refusal(load, env_file=b"BETTER_AUTH_SECRET=\xff\xfe\n")
    assert ".env" in sentence
    assert "\n" not in sentence


WRONG_STARTS = {
    "a database that is not there": ("NEON_DATABASE_URL", {"NEON_DATABASE_URL": "{cluster}"}),
    "a public key": (
        "BETTER_AUTH_SECRET",
        {"BETTER_AUTH_SECRET": PEM, "NEON_DATABASE_URL": "{reachable}"},
    ),
    "an impossible host": ("HOST", {"HOST": "999.1.1.1"}),
}


@pytest.fixture(scope="module")
def wrong_starts(
    tmp_path_factory: pytest.TempPathFactory, database_url: str
) -> dict[str, tuple[int | None, str]]:
    """The exit code and all that is printed of each, started side by side."""
    folder = tmp_path_factory.mktemp("wrong")
    places = {"{cluster}": database_url.replace("/todo?", "/missing?"), "{reachable}": database_url}
    started = {
        name: servers.start(
            folder, **{variable: places.get(value, value) for variable, value in settings.items()}
        )
        for name, (_, settings) in WRONG_STARTS.items()
    }
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and any(
        one.process.poll() is None for one in started.values()
    ):
        time.sleep(0.02)
    for one in started.values():
        one.stop()
    return {name: (one.process.returncode, one.printed()) for name, one in started.items()}


@pytest.mark.parametrize("name", WRONG_STARTS)
def test_the_server_itself_stops_with_that_line(
    wrong_starts: dict[str, tuple[int | None, str]], name: str
) -> None:
    code, printed = wrong_starts[name]
    assert code not in (0, -15)
    assert [names(line, WRONG_STARTS[name][0]) for line in printed.splitlines()].count(True) == 1, (
        printed
    )
    assert "Traceback" not in printed
    assert CANARY not in printed


# --- where settings come from ---


def test_a_copy_of_the_example_starts_in_development(load: Load) -> None:
    settings = load(env_file=EXAMPLE.read_bytes())
    assert (settings.environment, settings.database_url, settings.better_auth_secret) == (
        "development",
        None,
        None,
    )
    assert len(settings.secret) >= 32


def test_placeholders_of_the_example_count_as_unset_in_production(load: Load) -> None:
    example = EXAMPLE.read_bytes()
    assert "NEON_DATABASE_URL is not set" in refusal(
        load, env_file=example, ENVIRONMENT="production"
    )
    sentence = refusal(load, env_file=example, ENVIRONMENT="production", NEON_DATABASE_URL=DATABASE)
    assert sentence.startswith("BETTER_AUTH_SECRET")


@pytest.mark.parametrize("place", ["file", "environment", "both"])
def test_a_placeholder_does_not_hide_the_other_name_of_a_setting(load: Load, place: str) -> None:
    example = EXAMPLE.read_text()
    if place == "file":
        settings = load(env_file=f"{example}\nDATABASE_URL={DATABASE}\n")
    elif place == "environment":
        settings = load(
            NEON_DATABASE_URL="postgresql://user:pass@host/db?sslmode=require",
            DATABASE_URL=DATABASE,
        )
    else:
        settings = load(env_file=example, DATABASE_URL=DATABASE)
    assert settings.database_url is not None
    assert settings.database_url.get_secret_value() == DATABASE


@pytest.mark.parametrize("name", ["NEON_DATABASE_URL", "DATABASE_URL"])
def test_the_database_url_has_two_names(load: Load, name: str) -> None:
    url = load(**{name: DATABASE}).database_url
    assert url is not None
    assert url.get_secret_value() == DATABASE


def test_the_environment_wins_over_the_file_and_empty_is_unset(load: Load) -> None:
    assert load(env_file="PORT=8001\nHOST=0.0.0.0\n", PORT="8002").port == 8002
    assert load(env_file="PORT=8001\n").port == 8001
    assert (
        load(
            PORT="", RATE_LIMIT="", CORS_ORIGINS="", NEON_DATABASE_URL="", BETTER_AUTH_SECRET=""
        ).port
        == 8000
    )


def test_a_file_is_read_as_editors_write_it(load: Load) -> None:
    assert (
        load(
            env_file=b"\xef\xbb\xbfPORT=8001\r\nHOST='::1'\r\n# a comment\r\nexport RATE_LIMIT=7\r\n"
        ).port
        == 8001
    )


def test_a_secret_is_its_raw_utf_8_bytes(load: Load) -> None:
    assert load(BETTER_AUTH_SECRET="schlüssel-" + STRONG).secret == ("schlüssel-" + STRONG).encode()
    assert load(BETTER_AUTH_SECRET=" " + STRONG).secret == (" " + STRONG).encode()


def test_a_development_secret_is_random_made_once_and_only_its_owners(
    load: Load, tmp_path: Path
) -> None:
    first = load().secret
    assert len(first) >= 32
    assert load().secret == first
    [file] = [path for path in (tmp_path / "data").iterdir() if path.is_file()]
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    shutil.rmtree(tmp_path / "data")
    assert load().secret != first


def test_no_representation_of_the_settings_shows_a_secret(load: Load) -> None:
    settings = load(
        NEON_DATABASE_URL=DATABASE, NEON_DIRECT_DATABASE_URL=DATABASE, BETTER_AUTH_SECRET=STRONG
    )
    assert (
        CANARY
        not in f"{settings!r} {settings} {settings.model_dump()} {settings.model_dump_json()}"
    )


# --- the frontend ---


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://app.example.com", "https://app.example.com"),
        ("https://app.example.com/", "https://app.example.com"),
        ("https://app.example.com/api/auth", "https://app.example.com"),
        ("https://App.Example.com:443", "https://app.example.com"),
        ("http://localhost:80", "http://localhost"),
        ("http://[::1]:3000", "http://[::1]:3000"),
    ],
)
def test_origin_issuer_and_audience_follow_from_the_frontends_url(
    load: Load, url: str, origin: str
) -> None:
    settings = load(BETTER_AUTH_URL=url)
    assert settings.allowed_origins == {origin}
    assert (settings.issuer, settings.audience) == (origin, origin)


def test_cors_origins_are_exactly_those_listed(
    load: Load, caplog: pytest.LogCaptureFixture
) -> None:
    listed = "https://app.example.com, http://localhost:5173,https://b.example.com:8443"
    with caplog.at_level(logging.WARNING):
        settings = load(CORS_ORIGINS=listed, BETTER_AUTH_URL="https://frontend.example.com")
    assert settings.allowed_origins == {
        "https://app.example.com",
        "http://localhost:5173",
        "https://b.example.com:8443",
    }
    assert settings.issuer == "https://frontend.example.com"
    assert caplog.text == ""


@pytest.mark.parametrize(
    ("listed", "origin"),
    [
        ("capacitor://localhost", "capacitor://localhost"),
        ("tauri://localhost", "tauri://localhost"),
        ("ionic://localhost", "ionic://localhost"),
        ("Capacitor://localhost/", "capacitor://localhost"),
        (
            "chrome-extension://abcdefghijklmnopabcdefghijklmnop",
            "chrome-extension://abcdefghijklmnopabcdefghijklmnop",
        ),
        ("safari-web-extension://0A1B2C3D-0000-4000-8000-0123456789AB",) * 2,
        ("app://.", "app://."),
        ("myapp+dev.1://host.example:8080", "myapp+dev.1://host.example:8080"),
    ],
)
def test_the_origin_of_an_app_or_an_extension_is_taken_as_it_is(
    load: Load, listed: str, origin: str
) -> None:
    assert load(CORS_ORIGINS=f"http://localhost:3000, {listed}").allowed_origins == {
        "http://localhost:3000",
        origin,
    }


@pytest.mark.parametrize("variable", ["BETTER_AUTH_URL", "AUTH_JWKS_URL"])
def test_what_is_fetched_is_on_the_web(load: Load, variable: str) -> None:
    assert refusal(load, **{variable: "capacitor://localhost"}).startswith(variable)


def test_a_trailing_slash_of_an_origin_is_forgiven_with_a_warning(
    load: Load, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        assert load(CORS_ORIGINS="https://app.example.com/").allowed_origins == {
            "https://app.example.com"
        }
    assert "CORS_ORIGINS" in caplog.text
    assert "slash" in caplog.text


# --- a rotation of the secret ---

OLD = f"x2mQ7cV9bN4kL1zR8pT5wY3dF6gH0jSe-{CANARY}"


def test_the_secret_before_a_rotation_counts_beside_the_new_one(
    load: Load, caplog: pytest.LogCaptureFixture
) -> None:
    settings = load(BETTER_AUTH_SECRET=STRONG, BETTER_AUTH_SECRET_PREVIOUS=OLD)
    assert (settings.secret, settings.previous_secret) == (STRONG.encode(), OLD.encode())
    before, after = load(BETTER_AUTH_SECRET=OLD), load(BETTER_AUTH_SECRET=STRONG)
    assert settings.cursor_keys == (*after.cursor_keys, *before.cursor_keys)
    assert (before.previous_secret, len(before.cursor_keys)) == (b"", 1)
    example = "your-32-char-secret-here"
    assert (
        load(BETTER_AUTH_SECRET=STRONG, BETTER_AUTH_SECRET_PREVIOUS=example).previous_secret == b""
    )
    assert caplog.text == ""


def test_a_previous_secret_without_a_new_one_stops_the_start(load: Load) -> None:
    sentence = refusal(load, BETTER_AUTH_SECRET_PREVIOUS=OLD)
    assert names(sentence, "BETTER_AUTH_SECRET_PREVIOUS")
    assert names(sentence, "BETTER_AUTH_SECRET")
    assert CANARY not in sentence


@pytest.mark.parametrize(
    ("previous", "said"), [(STRONG, "the same as"), ("short-" + CANARY, "has 13 bytes")]
)
def test_a_doubtful_previous_secret_is_a_warning_in_development(
    load: Load, caplog: pytest.LogCaptureFixture, previous: str, said: str
) -> None:
    assert (
        load(BETTER_AUTH_SECRET=STRONG, BETTER_AUTH_SECRET_PREVIOUS=previous).previous_secret
        == previous.encode()
    )
    assert f"BETTER_AUTH_SECRET_PREVIOUS {said if said[0] == 'h' else 'is ' + said}" in caplog.text
    assert CANARY not in caplog.text


# --- production ---

SOUND = {
    "ENVIRONMENT": "production",
    "NEON_DATABASE_URL": DATABASE,
    "BETTER_AUTH_SECRET": STRONG,
    "BETTER_AUTH_URL": "https://app.example.com",
}

UNSOUND: list[tuple[str, dict[str, str]]] = [
    ("NEON_DATABASE_URL", {"NEON_DATABASE_URL": ""}),
    ("NEON_DATABASE_URL", {"NEON_DATABASE_URL": "postgresql://user:pass@host/db?sslmode=require"}),
    ("BETTER_AUTH_SECRET", {"BETTER_AUTH_SECRET": "", "BETTER_AUTH_URL": ""}),
    (
        "BETTER_AUTH_SECRET",
        {"BETTER_AUTH_SECRET": "your-32-char-secret-here", "BETTER_AUTH_URL": ""},
    ),
    ("BETTER_AUTH_SECRET", {"BETTER_AUTH_SECRET": "short-" + CANARY}),
    ("BETTER_AUTH_SECRET", {"BETTER_AUTH_SECRET": "é" * 15}),
    ("BETTER_AUTH_SECRET", {"BETTER_AUTH_SECRET": "a" * 64}),
    (
        "BETTER_AUTH_SECRET",
        {"BETTER_AUTH_SECRET": "better-auth-secret-123456789012345678901234567890"},
    ),
    ("BETTER_AUTH_SECRET", {"BETTER_AUTH_SECRET": "better-auth-secret-12345678901234567890"}),
    ("BETTER_AUTH_SECRET_PREVIOUS", {"BETTER_AUTH_SECRET_PREVIOUS": "short-" + CANARY}),
    ("BETTER_AUTH_SECRET_PREVIOUS", {"BETTER_AUTH_SECRET_PREVIOUS": "b" * 64}),
    (
        "BETTER_AUTH_SECRET_PREVIOUS",
        {"BETTER_AUTH_SECRET_PREVIOUS": "better-auth-secret-12345678901234567890"},
    ),
    ("BETTER_AUTH_SECRET_PREVIOUS", {"BETTER_AUTH_SECRET_PREVIOUS": OLD, "BETTER_AUTH_SECRET": ""}),
    ("BETTER_AUTH_URL", {"BETTER_AUTH_URL": "http://app.example.com"}),
    ("CORS_ORIGINS", {"CORS_ORIGINS": "*"}),
]


def test_production_starts_with_sound_settings(
    load: Load, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        settings = load(**SOUND)
    assert settings.requests_per_minute == 600
    assert caplog.text == ""


@pytest.mark.parametrize(("variable", "change"), UNSOUND, ids=str)
def test_production_refuses_what_is_weak_known_or_missing(
    load: Load, variable: str, change: dict[str, str]
) -> None:
    sentence = refusal(load, **{**SOUND, **change})
    assert sentence.startswith(variable)
    assert "\n" not in sentence
    assert all(value not in sentence for value in change.values() if value and "secret" in value)
    assert CANARY not in sentence


@pytest.mark.parametrize(
    "secret", ["short-" + CANARY, "a" * 64, "better-auth-secret-12345678901234567890"]
)
def test_development_warns_of_a_weak_secret_without_printing_it(
    load: Load, caplog: pytest.LogCaptureFixture, secret: str
) -> None:
    with caplog.at_level(logging.WARNING):
        assert load(BETTER_AUTH_SECRET=secret).secret == secret.encode()
    assert "BETTER_AUTH_SECRET" in caplog.text
    assert secret not in caplog.text


# --- the rate limit ---


@pytest.mark.parametrize(
    ("value", "environment", "per_minute"),
    [
        ("", "development", None),
        ("off", "development", None),
        ("7", "development", 7),
        ("off", "production", None),
        ("", "production", 600),
    ],
)
def test_the_rate_limit_is_off_in_development_and_600_in_production(
    load: Load, value: str, environment: str, per_minute: int | None
) -> None:
    settings = load(**{**SOUND, "ENVIRONMENT": environment, "RATE_LIMIT": value})
    assert settings.requests_per_minute == per_minute


def test_the_burst_of_the_default_is_a_sixth() -> None:
    assert RateLimiter(600).burst == 100


@pytest.mark.parametrize("url", ["foo", "ftp://keys.example.com/jwks", "https://"])
def test_a_key_address_that_is_no_url_stops_the_start(load: Load, url: str) -> None:
    assert refusal(load, AUTH_JWKS_URL=url).startswith("AUTH_JWKS_URL must be a URL like")


def test_production_fetches_keys_over_tls_only(load: Load) -> None:
    settings = {
        "ENVIRONMENT": "production",
        "NEON_DATABASE_URL": DATABASE,
        "BETTER_AUTH_URL": "https://app.example.com",
    }
    assert refusal(load, **settings, AUTH_JWKS_URL="http://app.example.com/jwks").startswith(
        "AUTH_JWKS_URL"
    )
    load(**settings, AUTH_JWKS_URL="http://127.0.0.1:3000/api/auth/jwks")


def test_a_relative_data_folder_is_the_same_from_everywhere(
    load: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir("/")
    assert load(DATA_DIR="data/here").data_dir == config.BACKEND.parent / "data" / "here"
    assert load(DATA_DIR="~/todo").data_dir == Path.home() / "todo"
