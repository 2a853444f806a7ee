"""Chromium, to see what a browser does by itself: keep answers, and ask whether they still are so."""

from __future__ import annotations

import json
import os
import queue
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from string import Template
from threading import Thread
from typing import Any

ORIGIN = "localhost:3000"  # whom a server allows that is told nothing else; here it leads to a port of ours
SECONDS = 30

PAGE = Template("""<!doctype html><script type="module">
const report = (result) => fetch("/report", { method: "POST", body: JSON.stringify(result) });
try {
  await report({ result: await (async () => { $script })() });
} catch (error) {
  await report({ error: String(error) });
}
</script>""")


def program() -> str | None:
    return (
        shutil.which("chromium")
        or shutil.which("chromium-browser")
        or shutil.which("google-chrome")
    )


def run(script: str, profile: Path) -> Any:
    """What `script` returns: the body of an async function, on a page of http://localhost:3000."""
    reports: queue.Queue[dict[str, Any]] = queue.Queue()
    with _serving(PAGE.substitute(script=script), reports) as port, _browsing(port, profile):
        report = reports.get(timeout=SECONDS)
    assert "error" not in report, report
    return report["result"]


@contextmanager
def _serving(page: str, reports: queue.Queue[dict[str, Any]]) -> Iterator[int]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(page.encode() if self.path == "/" else b"")

        def do_POST(self) -> None:
            reports.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self._answer(b"")

        def _answer(self, body: bytes) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def _browsing(port: int, profile: Path) -> Iterator[None]:
    binary = program()
    assert binary is not None
    options = [
        *(
            "--headless",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--no-proxy-server",
        ),
        *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
        *(f"--user-data-dir={profile}", f"--host-resolver-rules=MAP {ORIGIN} 127.0.0.1:{port}"),
        *(["--no-sandbox"] if os.geteuid() == 0 else []),
    ]
    process = subprocess.Popen(
        [binary, *options, f"http://{ORIGIN}/"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield
    finally:
        process.terminate()
        process.wait(10)
