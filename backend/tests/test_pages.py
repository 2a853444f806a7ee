"""What a person sees: `/` greets, `/docs` documents, and neither asks any other host for anything."""

from __future__ import annotations

import asyncio
import gzip
import re
from collections.abc import Callable
from html.parser import HTMLParser
from typing import Any
from urllib.parse import urljoin

import httpx
import pytest
from fastapi import FastAPI

from routes import pages
from web import foreign
from web.doors import Door
from web.front import Front

HOST = "http://todo.test"
BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
PAGES = ("/", "/docs")

Ask = Callable[..., httpx.Response]


class CountingAPI(FastAPI):
    described = 0

    def openapi(self) -> dict[str, Any]:
        self.described += 1
        return super().openapi()


@pytest.fixture
def app() -> CountingAPI:
    app = CountingAPI(
        title="Todo <API>", version="1.2.3", docs_url=None, redoc_url=None, openapi_url=None
    )

    @app.post(
        "/api/{user_id}/tasks", tags=["tasks"], operation_id="create_task", summary="Create <task>"
    )
    async def create_task(user_id: str) -> None: ...

    @app.get("/untagged", operation_id="untagged")
    async def untagged() -> None: ...

    app.include_router(pages.router)
    doors = [route for route in pages.router.routes if isinstance(route, Door)]
    app.add_middleware(Front, doors=doors, origins=["http://localhost:3000"])
    foreign.translate(app)
    return app


@pytest.fixture
def ask(app: FastAPI) -> Ask:
    def ask(path: str, method: str = "GET", **headers: str) -> httpx.Response:
        async def exchange() -> httpx.Response:
            async with httpx.AsyncClient(
                transport=httpx.ASGITransport(app), base_url=HOST
            ) as client:
                sent = {
                    "accept-encoding": "identity",
                    **{name.replace("_", "-"): text for name, text in headers.items()},
                }
                return await client.request(method, path, headers=sent)

        return asyncio.run(exchange())

    return ask


class Markup(HTMLParser):
    """Elements with their attributes, and the text inside of `script` and `style`; links as from
    the page at `path`."""

    def __init__(self, html: str, path: str = "/") -> None:
        super().__init__()
        self.path = path
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.inline = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.elements and self.elements[-1][0] in ("script", "style"):
            self.inline += data.strip()

    def written(self) -> list[str]:
        return [
            text
            for _, own in self.elements
            for name, text in own.items()
            if name in ("href", "src") and text
        ]

    def links(self) -> list[str]:
        return [urljoin(self.path, link) for link in self.written()]

    def loaded(self) -> list[str]:
        """The addresses that the browser fetches by itself."""
        return [
            urljoin(self.path, own.get("src") or own.get("href") or "")
            for tag, own in self.elements
            if tag in ("link", "script", "img")
        ]


def assets(ask: Ask) -> dict[str, httpx.Response]:
    paths = {
        path for page in PAGES for path in Markup(ask(page, accept=BROWSER).text, page).loaded()
    }
    return {path: ask(path) for path in paths}


@pytest.mark.parametrize("page", PAGES)
def test_a_page_names_no_other_host(ask: Ask, page: str) -> None:
    markup = Markup(ask(page, accept=BROWSER).text)
    assert markup.loaded()
    for link in markup.written():
        assert re.match(r"\./(?!/)", link), link
    assert ("link", "icon") in [
        (tag, own.get("rel")) for tag, own in markup.elements
    ]  # else /favicon.ico is asked for


def test_everything_a_page_loads_is_served_here_under_its_own_type(ask: Ask) -> None:
    types = {
        "css": "text/css; charset=utf-8",
        "js": "text/javascript; charset=utf-8",
        "svg": "image/svg+xml",
    }
    served = assets(ask)
    assert len(served) == 7
    for path, answer in served.items():
        assert answer.status_code == 200, path
        assert answer.headers["content-type"] == types[path.rpartition(".")[2]]
        assert answer.headers["x-content-type-options"] == "nosniff"


def test_styles_and_scripts_of_ours_name_no_other_host(ask: Ask) -> None:
    served = assets(ask)
    for path, answer in served.items():
        if path.endswith(".css"):
            assert not re.search(r"""@import|url\((?!["']?data:)""", answer.text), path
        if re.match(r"/static/(home|docs)\.", path):
            assert "//" not in re.sub(r"(^|\s)// .*", "", answer.text), path


def test_swagger_ui_is_a_version_5_and_keeps_the_document_to_itself(ask: Ask) -> None:
    by_name = {
        re.sub(r"\.[0-9a-f]{16}\.", ".", path): answer.text for path, answer in assets(ask).items()
    }
    assert re.search(r'PACKAGE_VERSION:"5\.[0-9.]+"', by_name["/static/swagger-ui-bundle.js"])
    settings = dict(re.findall(r"^  (\w+): ([^,\n]+),", by_name["/static/docs.js"], re.MULTILINE))
    assert settings["url"] == "openapi"
    assert 'const openapi = new URL("openapi.json", root)' in by_name["/static/docs.js"]
    assert settings["validatorUrl"] == "null"  # its default sends the document to another host
    for feature in ("deepLinking", "persistAuthorization", "tryItOutEnabled"):
        assert settings[feature] == "true"


@pytest.mark.parametrize("page", PAGES)
def test_a_page_runs_nothing_inline_and_cannot_be_framed(ask: Ask, page: str) -> None:
    answer = ask(page, accept=BROWSER)
    policy = dict(
        part.strip().split(" ", 1) for part in answer.headers["content-security-policy"].split(";")
    )
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert policy["frame-ancestors"] == policy["base-uri"] == policy["form-action"] == "'none'"
    assert (answer.headers["x-frame-options"], answer.headers["referrer-policy"]) == (
        "DENY",
        "no-referrer",
    )
    markup = Markup(answer.text)
    assert markup.inline == ""
    assert not [
        name
        for _, own in markup.elements
        for name in own
        if name.startswith("on") or name == "style"
    ]


@pytest.mark.parametrize("accept", ["*/*", "application/json", "text/html;q=0", "text/htmlx", ""])
def test_a_program_is_told_where_to_go_as_json(ask: Ask, accept: str) -> None:
    answer = ask("/", accept=accept)
    assert answer.headers["content-type"] == "application/json"
    assert answer.json() == {
        "name": "Todo <API>",
        "version": "1.2.3",
        "docs": "/docs",
        "openapi": "/openapi.json",
        "health": "/health",
        "ready": "/ready",
    }


@pytest.mark.parametrize("accept", [BROWSER, "TEXT/HTML", "application/json, text/html;q=0.1"])
def test_a_person_is_greeted_with_a_page(ask: Ask, accept: str) -> None:
    answer = ask("/", accept=accept)
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert {"/docs", "/openapi.json", "/ready"} <= set(Markup(answer.text).links())
    assert "python3 run.py token --user ada" in answer.text
    assert '-H "Authorization: Bearer $TOKEN"' in answer.text


@pytest.mark.parametrize("accept", [BROWSER, "*/*"])
def test_a_cache_never_gives_a_program_the_page_or_a_person_the_json(ask: Ask, accept: str) -> None:
    answer = ask("/", accept=accept)
    vary = {name.strip() for line in answer.headers.get_list("vary") for name in line.split(",")}
    assert vary == {"Accept", "Accept-Encoding", "Origin"}
    assert answer.headers["cache-control"] == "no-cache"


def test_the_greeting_lists_every_endpoint_with_its_place_in_the_documentation(ask: Ask) -> None:
    page = ask("/", accept=BROWSER).text
    assert {"/docs#/tasks/create_task", "/docs#/default/untagged"} <= set(Markup(page).links())
    assert "/api/{user_id}/tasks" in page.replace("<wbr>", "")
    assert page.count("<tr>") == 3


def test_the_document_cannot_put_markup_on_a_page(ask: Ask) -> None:
    for page in PAGES:
        text = ask(page, accept=BROWSER).text
        assert "Todo &lt;API&gt;" in text
        assert "<API>" not in text
    assert "Create &lt;task&gt;" in ask("/", accept=BROWSER).text


def test_the_address_asked_for_is_never_repeated_on_a_page(ask: Ask) -> None:
    for page in PAGES:
        assert "evil" not in ask(page, accept=BROWSER, host="evil.test").text


def test_openapi_json_is_the_document_and_is_made_once(ask: Ask, app: CountingAPI) -> None:
    answers = [ask("/openapi.json") for _ in range(3)]
    assert app.described == 1
    assert answers[0].headers["content-type"] == "application/json"
    assert {answer.content for answer in answers} == {answers[0].content}
    assert answers[0].json() == app.openapi()
    assert set(answers[0].json()["paths"]) == {
        "/api/{user_id}/tasks",
        "/untagged",
    }  # the pages are not in it


@pytest.mark.parametrize("path", [*PAGES, "/openapi.json", *pages.ASSETS])
def test_compressed_is_the_same_for_who_can_read_it_and_never_for_who_cannot(
    ask: Ask, path: str
) -> None:
    plain = ask(path, accept=BROWSER)
    zipped = ask(path, accept=BROWSER, accept_encoding="br;q=1.0, gzip;q=0.8")
    refused = ask(path, accept=BROWSER, accept_encoding="gzip;q=0, *")
    assert zipped.headers["content-encoding"] == "gzip"
    assert zipped.content == plain.content == refused.content
    assert "content-encoding" not in {**plain.headers, **refused.headers}
    assert plain.headers["etag"] != zipped.headers["etag"]
    assert "Accept-Encoding" in plain.headers.get_list("vary")


def test_the_largest_asset_travels_at_a_third_of_its_size() -> None:
    largest = max(pages.ASSETS.values(), key=lambda asset: len(asset.body))
    assert gzip.decompress(largest.zipped) == largest.body
    assert len(largest.zipped) < len(largest.body) / 3


@pytest.mark.parametrize("path", [*PAGES, "/openapi.json", *pages.ASSETS])
@pytest.mark.parametrize("encoding", ["identity", "gzip"])
def test_who_has_it_is_not_sent_it_again(ask: Ask, path: str, encoding: str) -> None:
    etag = ask(path, accept_encoding=encoding).headers["etag"]
    for known in (etag, f'"other", W/{etag}'):
        answer = ask(path, accept_encoding=encoding, if_none_match=known)
        assert (answer.status_code, answer.content, answer.headers["etag"]) == (304, b"", etag)
        assert "content-length" not in answer.headers
    assert ask(path, accept_encoding=encoding, if_none_match='"other"').status_code == 200


@pytest.mark.parametrize("path", [*PAGES, "/openapi.json", next(iter(pages.ASSETS))])
def test_pages_read_if_none_match_as_tasks_do(ask: Ask, path: str) -> None:
    etag = ask(path).headers["etag"]
    for known in ("*", f'"a,b", {etag}', f",, {etag} ,", f" {etag}\t"):
        assert ask(path, if_none_match=known).status_code == 304, known
    for known in ('"*"', f'"a,{etag[1:]}', f'"{etag[1:-1]},"', f'"{etag[1:-1].upper()}"'):
        assert ask(path, if_none_match=known).status_code == 200, known
    for malformed in (etag.strip('"'), f"w/{etag}", f"{etag} {etag}", f"*, {etag}", ""):
        answer = ask(path, if_none_match=malformed)
        assert (answer.status_code, answer.json()["code"]) == (400, "VALIDATION_ERROR"), malformed


def test_an_asset_is_kept_for_a_year_under_a_path_that_changes_with_it(ask: Ask) -> None:
    for path, answer in assets(ask).items():
        assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
        assert answer.headers["etag"].strip('"') in path
    one, other = (pages.Resource(body, b"text/css", pages.IMMUTABLE) for body in (b"a", b"b"))
    assert one.digest != other.digest


@pytest.mark.parametrize(
    "path",
    [
        "/redoc",
        "/static",
        "/static/",
        "/static/home.css",
        "/static/..%2fmain.py",
        "/static/%2e%2e/main.py",
        "/static/../main.py",
        "/docs/oauth2-redirect",
    ],
)
def test_what_is_not_there_is_the_ordinary_404(ask: Ask, path: str) -> None:
    answer = ask(path, accept=BROWSER)
    assert (answer.status_code, answer.json()["code"]) == (404, "NOT_FOUND")


@pytest.mark.parametrize("path", [*PAGES, "/openapi.json", *pages.ASSETS])
def test_pages_are_only_read(ask: Ask, path: str) -> None:
    answer = ask(path, "POST")
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD")
    assert ask(path, "HEAD").status_code == 200


def test_a_trailing_slash_is_the_same_page(ask: Ask) -> None:
    with_slash = ask("/docs/")
    assert with_slash.status_code == 200
    assert Markup(with_slash.text, "/docs/").links() == Markup(ask("/docs").text, "/docs").links()
    assert with_slash.text.replace("../", "./") == ask("/docs").text


@pytest.mark.parametrize("prefix", ["", "/todo", "/team/todo"])
@pytest.mark.parametrize("page", ["/", "/docs", "/docs/"])
def test_a_page_works_behind_a_proxy_that_strips_a_prefix(ask: Ask, prefix: str, page: str) -> None:
    markup = Markup(ask(page, accept=BROWSER).text, f"https://example.com{prefix}{page}")
    assert len(markup.loaded()) >= 4
    for link in markup.links():
        place = f"https://example.com{prefix}/"
        assert link.startswith(place), link
        path = "/" + link.removeprefix(place).partition("#")[0]
        assert path in ("/health", "/ready") or ask(path).status_code == 200, link


def test_scripts_ask_for_nothing_from_the_root_of_a_host(ask: Ask) -> None:
    """A proxy may have stripped a prefix, so they start from where they were loaded, or from the
    page."""
    for path, answer in assets(ask).items():
        if re.match(r"/static/(home|docs)\..*js$", path):
            assert not re.search(r"""["'`]/""", answer.text), path
