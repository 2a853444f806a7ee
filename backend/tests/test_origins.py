"""Which pages may call: origins of apps and extensions too, and a hint in the log about a page that
may not."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests import servers
from tests.contract.wire import ask
from web.origins import Origins

EXTENSION = "chrome-extension://abcdefghijklmnopabcdefghijklmnop"
LISTED = ["http://localhost:3000", "capacitor://localhost", "tauri://localhost", EXTENSION]
ASKS = {"Access-Control-Request-Method": "PUT", "Access-Control-Request-Headers": "authorization"}


@pytest.fixture(scope="module")
def listing(
    tmp_path_factory: pytest.TempPathFactory, database_url: str
) -> Iterator[servers.Running]:
    """A server that allows LISTED."""
    settings = {"NEON_DATABASE_URL": database_url, "CORS_ORIGINS": ",".join(LISTED)}
    with servers.running(tmp_path_factory.mktemp("origins"), **settings) as server:
        yield server


def preflight(server: servers.Running, origin: str) -> dict[str, str]:
    return ask(server.url, "OPTIONS", "/api/ada/tasks", None, {"Origin": origin, **ASKS}).headers


def hints(server: servers.Running) -> list[str]:
    return [line for line in server.printed().splitlines() if "CORS_ORIGINS" in line]


@pytest.mark.parametrize("origin", LISTED)
def test_an_app_or_an_extension_that_is_listed_may_call(
    listing: servers.Running, origin: str
) -> None:
    assert preflight(listing, origin)["access-control-allow-origin"] == origin
    answer = ask(listing.url, "GET", "/api/ada/tasks", None, {"Origin": origin})
    assert (answer.status, answer.headers["access-control-allow-origin"]) == (401, origin)


@pytest.mark.parametrize(
    "origin",
    [
        "capacitor://LOCALHOST",
        "capacitor://localhost:80",
        "capacitor://localhost/",
        "tauri://other",
        "null",
        "tauri://",
    ],
)
def test_nearly_the_origin_of_an_app_is_another(origin: str) -> None:
    origins = Origins(LISTED)
    assert origins.fields_for(origin.encode(), {}) == []
    assert origins.fields_for(LISTED[1].encode(), {}) != []


def test_a_page_that_may_not_call_leaves_a_hint_once_a_minute(listing: servers.Running) -> None:
    for origin in (
        "http://localhost:3000",
        listing.url,
    ):  # /docs on this server asks with its own origin
        preflight(listing, origin)
        ask(listing.url, "POST", "/api/ada/tasks", b"", {"Origin": origin})
    ask(
        listing.url,
        "GET",
        "/health",
        None,
        {"Origin": "https://app.example", "Sec-Fetch-Site": "same-origin"},
    )
    assert hints(listing) == []
    for _ in range(2):
        preflight(listing, "http://localhost:5173")
        ask(listing.url, "GET", "/health", None, {"Origin": "http://evil.example"})
    [line] = hints(listing)
    assert "http://localhost:5173" in line
    assert "set CORS_ORIGINS=" in line
    assert ",http://localhost:5173" in line
    preflight(listing, "http://127.0.0.1:3000")  # has a line of its own, whatever else is refused
    preflight(listing, "http://[::1]:3000")
    [_, line] = hints(listing)
    assert "Open the frontend at http://localhost:3000" in line


@pytest.mark.parametrize(
    ("origin", "parts", "missing"),
    [
        ("http://0.0.0.0:3000", ["Open the frontend at http://localhost:3000"], []),
        ("http://127.0.0.1:3001", ["http://127.0.0.1:3001"], ["Open the frontend"]),
        ("http://127.0.0.1:3000.evil.example", [], ["Open the frontend"]),
        (
            "https://localhost:3000",
            ["https://localhost:3000", "http://localhost:3000"],
            ["Open the frontend"],
        ),
        ("null", ["'null'", "http://localhost:3000"], ["CORS_ORIGINS="]),
        ("http://a\x1b[2J\r\nb\xe9", ["http://a?[2J??b?"], ["CORS_ORIGINS=", "\x1b", "\n"]),
        ("http://" + "a" * 5000, ["http://aaa"], ["CORS_ORIGINS=", "a" * 200]),
        ("http://ada:secret@localhost:3000", ["(not shown)"], ["secret", "CORS_ORIGINS="]),
        ("", ["''"], ["CORS_ORIGINS="]),
    ],
)
def test_a_hint_names_the_origin_cleaned_and_cut(
    caplog: pytest.LogCaptureFixture, origin: str, parts: list[str], missing: list[str]
) -> None:
    assert Origins(["http://localhost:3000"]).fields_for(origin.encode("latin-1"), {}) == []
    [line] = caplog.messages
    assert "CORS_ORIGINS" in line
    assert all(part in line for part in parts), line
    assert not any(part in line for part in missing), line
