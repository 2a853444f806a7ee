"""What a person sees: the greeting at `/` and the documentation at `/docs`. Nothing on them comes from another host."""

from __future__ import annotations

import gzip
import re
from collections.abc import Mapping
from functools import cached_property, lru_cache
from hashlib import sha256
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Annotated, Any, NamedTuple
from urllib.parse import quote

from fastapi import APIRouter, Depends, FastAPI
from starlette.requests import HTTPConnection

from call import Call
from strict_json import dumps
from web.admission import everybody
from web.answers import JSON, Answer, Headers, accepts, not_modified
from web.doors import Endpoint, IfNoneMatch, door
from web.fields import is_known

router = APIRouter(route_class=door(everybody), include_in_schema=False)

STATIC = Path(__file__).resolve().parent.parent / "static"
SWAGGER_UI = (
    files("fastapi_swagger") / "resources"
)  # Swagger UI as its makers publish it; nothing else of the package

HTML = b"text/html; charset=utf-8"
CONTENT_TYPES = {
    ".css": b"text/css; charset=utf-8",
    ".js": b"text/javascript; charset=utf-8",
    ".svg": b"image/svg+xml",
}
IMMUTABLE = b"public, max-age=31536000, immutable"
REVALIDATE = b"no-cache"
# Everything comes from files of this server, nothing inline; Swagger UI has its icons as data:
# URLs.
CONTENT_SECURITY_POLICY = (
    b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    b"connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
PAGE_HEADERS: Headers = [
    (b"content-security-policy", CONTENT_SECURITY_POLICY),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
]

SentHeaders = Mapping[bytes, bytes]


class Resource:
    """Bytes that stay the same while the process lives, compressed once, with their ETags."""

    def __init__(
        self, body: bytes, content_type: bytes, cache_control: bytes, headers: Headers | None = None
    ) -> None:
        self.content_type = content_type
        self.headers: Headers = [
            (b"cache-control", cache_control),
            (b"vary", b"Accept-Encoding"),
            *(headers or []),
        ]
        self.body = body
        self.digest = sha256(body).hexdigest()[:16]

    @cached_property
    def zipped(self) -> bytes:
        """Made when first asked for: 46 ms for the largest, which no start should wait for."""
        return gzip.compress(self.body, compresslevel=6, mtime=0)

    def reply(self, sent: SentHeaders, if_none_match: list[bytes] | None) -> Answer:
        """The bytes, or 304 to a client that has them."""
        zip_it = accepts(sent.get(b"accept-encoding", b""), b"gzip")
        etag = f'"{self.digest}{"-gzip" if zip_it else ""}"'.encode()
        headers = [*self.headers, (b"etag", etag)]
        if is_known(etag, if_none_match):
            return not_modified(*headers)
        if zip_it:
            return Answer(
                200, self.zipped, self.content_type, [*headers, (b"content-encoding", b"gzip")]
            )
        return Answer(200, self.body, self.content_type, headers)


def _assets() -> dict[str, Resource]:
    ours = {
        name: STATIC / name
        for name in ("favicon.svg", "home.css", "home.js", "docs.css", "docs.js")
    }
    theirs = {name: SWAGGER_UI / name for name in ("swagger-ui.css", "swagger-ui-bundle.js")}
    return {
        name: Resource(file.read_bytes(), CONTENT_TYPES[Path(name).suffix], IMMUTABLE)
        for name, file in {**ours, **theirs}.items()
    }


def _path(name: str, asset: Resource) -> str:
    """Of `name`, below the root. It changes with the bytes, so that a browser may keep them for a year."""
    return f"static/{Path(name).stem}.{asset.digest}{Path(name).suffix}"


NAMED = _assets()
ASSETS = {f"/{_path(name, asset)}": asset for name, asset in NAMED.items()}
PATHS = {
    re.sub("[.-]", "_", name): _path(name, asset) for name, asset in NAMED.items()
}  # $home_css in a template

# Links are relative, because only a proxy knows the prefix that it strips: $root in a template
# leads from the page up.
BESIDE, BELOW = "./", "../"  # for /docs and for /docs/


class Site(NamedTuple):
    """What is made of one application's OpenAPI document."""

    openapi: Resource
    docs: Resource
    docs_below: Resource  # the same at `/docs/`
    home: Resource
    directions: Resource  # the home of programs


@lru_cache(maxsize=1)
def render(app: FastAPI) -> Site:
    document = app.openapi()
    info = document["info"]
    directions = {
        "name": info["title"],
        "version": info["version"],
        "docs": "/docs",
        "openapi": "/openapi.json",
        "health": "/health",
        "ready": "/ready",
    }
    by_accept = (b"vary", b"Accept")
    return Site(
        openapi=Resource(dumps(document), JSON, REVALIDATE),
        docs=Resource(_page("docs.html", info), HTML, REVALIDATE, PAGE_HEADERS),
        docs_below=Resource(_page("docs.html", info, BELOW), HTML, REVALIDATE, PAGE_HEADERS),
        home=Resource(
            _page("home.html", info, BESIDE, endpoints=_endpoints(document)),
            HTML,
            REVALIDATE,
            [*PAGE_HEADERS, by_accept],
        ),
        directions=Resource(dumps(directions), JSON, REVALIDATE, [by_accept]),
    )


def _page(name: str, info: dict[str, Any], root: str = BESIDE, **markup: str) -> bytes:
    about = {key: escape(info.get(key) or "") for key in ("title", "version", "summary")}
    template = Template((STATIC / name).read_text(encoding="utf-8"))
    return template.substitute(PATHS, root=root, **about, **markup).encode()


def _endpoints(document: dict[str, Any]) -> str:
    """Rows of a table: every operation, with a link to its place in the documentation."""
    return "\n".join(
        _ROW.substitute(
            method=escape(method.upper()),
            path=escape(path).replace("/", "/<wbr>"),
            link=f"{BESIDE}docs#/{quote(operation.get('tags', ['default'])[0])}/{quote(operation['operationId'])}",
            summary=escape(operation.get("summary", "")),
        )
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
    )


_ROW = Template(
    '<tr><td><span class="method" data-method="$method">$method</span></td>'
    '<td><a href="$link"><code>$path</code></a></td><td>$summary</td></tr>'
)


def get_sent_headers(call: Call) -> SentHeaders:
    return call.fields


def get_pages(request: HTTPConnection) -> Site:
    return render(request.scope["app"])


def get_docs_page(request: HTTPConnection) -> Resource:
    pages = get_pages(request)
    return pages.docs_below if request.scope["path"].endswith("/") else pages.docs


Sent = Annotated[SentHeaders, Depends(get_sent_headers)]
Rendered = Annotated[Site, Depends(get_pages)]
DocsPage = Annotated[Resource, Depends(get_docs_page)]


@router.get("/", response_model=None)
async def home(sent: Sent, pages: Rendered, if_none_match: IfNoneMatch = None) -> Answer:
    """A page for people, a short JSON for programs."""
    for_a_person = accepts(sent.get(b"accept", b""), b"text/html")
    return (pages.home if for_a_person else pages.directions).reply(sent, if_none_match)


@router.get("/docs", response_model=None)
async def docs(sent: Sent, page: DocsPage, if_none_match: IfNoneMatch = None) -> Answer:
    """Swagger UI."""
    return page.reply(sent, if_none_match)


@router.get("/openapi.json", response_model=None)
async def openapi(sent: Sent, pages: Rendered, if_none_match: IfNoneMatch = None) -> Answer:
    return pages.openapi.reply(sent, if_none_match)


def _door_to(asset: Resource) -> Endpoint:
    async def send_asset(sent: Sent, if_none_match: IfNoneMatch = None) -> Answer:
        return asset.reply(sent, if_none_match)

    return send_asset


for path, asset in ASSETS.items():
    router.add_api_route(path, _door_to(asset), response_model=None)
