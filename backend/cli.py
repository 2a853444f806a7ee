"""The command line: `todo serve`, `todo token`, `todo migrate`, `todo openapi`."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sys
import time
from pathlib import Path

try:
    import jwt

    import config
    import database
    import logs
    import streams
    from errors import SettingError
    from postgres import functions, migrate
    from postgres.pool import OUT_OF_REACH
    from tokens import verification
except (ImportError, SyntaxError, ValueError) as error:  # not there, or emptied by a power cut
    if sys.flags.safe_path:
        sys.exit(
            "PYTHONSAFEPATH (or -P) hides the modules beside cli.py: unset it, or start with python3 run.py."
        )
    if (Path(sys.prefix) / "run.lock").exists():
        sys.exit(
            f"The environment is broken ({error}): remove {sys.prefix}, and python3 run.py makes it again."
        )
    sys.exit(
        f"A package is missing or broken ({error}): start with python3 run.py, or install requirements.txt again."
    )

OPENAPI_FILE = Path(__file__).resolve().parent / "openapi.json"
SECONDS_PER_HOUR = 3600
MOST_HOURS = 24 * 366


def main(arguments: list[str] | None = None) -> int:
    _mend_surroundings()
    options = _parser().parse_args(arguments)
    try:
        options.run(options)
    except SettingError as error:
        streams.remark(str(error))
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def serve(options: argparse.Namespace) -> None:
    """Start the embedded database, if it is used, and the server. All workers then share that
    database."""
    import server

    given = {
        name: getattr(options, name)
        for name in ("host", "port")
        if getattr(options, name) is not None
    }
    settings = config.load(**given, web_concurrency=options.workers)
    logs.configure(settings.production)
    listeners = server.bind(
        settings.host, settings.port
    )  # before a database is started for nothing
    address = database.address(settings)
    _ = settings.secret  # where it can be neither read nor made, that is said now
    # For the processes that answer:
    os.environ.update(
        HOST=settings.host, PORT=str(settings.port), WEB_CONCURRENCY=str(options.workers)
    )
    if settings.database_url is None:
        os.environ["NEON_DATABASE_URL"] = address.url
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    base = f"http://{host}:{listeners[0].getsockname()[1]}"
    banner = [
        f"Todo API listens on {base}",
        f"  documentation  {base}/docs",
        "  a token        python3 run.py token --user ada",
    ]
    if settings.database_url is None:
        banner.append(
            f"  tasks are in   {_shown(settings.data_dir / 'postgres')} (an embedded PostgreSQL)"
        )
    if not settings.production:  # there, stderr is one JSON object a line
        streams.remark("\n".join(banner))
    server.run(listeners, workers=options.workers, reload=options.reload)


def token(options: argparse.Namespace) -> None:
    """Make an HS256 token to try the API with, signed with the frontend's secret; or explain one."""
    settings = config.load()
    if options.inspect is not None:
        asyncio.run(_inspect(options.inspect, settings))
        return
    if options.user is None:
        raise SettingError(
            "todo token needs --user ID to make a token, or --inspect TOKEN to explain one."
        )
    if not 1 <= len(options.user) <= verification.SUBJECT_MAX or not options.user.isprintable():
        raise SettingError(f"--user must be 1 to {verification.SUBJECT_MAX} printable characters.")
    if not 0 < options.hours <= MOST_HOURS:
        raise SettingError(f"--hours must be more than 0 and at most {MOST_HOURS}.")
    if not settings.secret:
        raise SettingError(
            "BETTER_AUTH_SECRET is not set; set it, because the token is signed with it."
        )
    now = int(time.time())
    claims = {
        "sub": options.user,
        "iss": settings.issuer,
        "aud": settings.audience,
        "iat": now,
        "exp": now + int(options.hours * SECONDS_PER_HOUR),
    }
    if options.email:
        claims["email"] = options.email
    streams.write(jwt.encode(claims, settings.secret, algorithm="HS256"))


async def _inspect(token: str, settings: config.Settings) -> None:
    from tokens.report import explain

    sent = sys.stdin.read() if token == "-" else token  # noqa: S105  # standard input, by custom
    bearer = sent.strip().removeprefix("Bearer ").strip()
    async for line in explain(bearer.encode("utf-8", "replace"), verification.verifier(settings)):
        streams.write(line)


def migrate_schema(options: argparse.Namespace) -> None:
    if options.sql:
        known = migrate.versions()
        if options.sql not in ("base", *known):
            raise SettingError(
                f"todo migrate --sql takes one of these versions: base, {', '.join(known)}."
            )
        text = migrate.script(options.sql if options.sql != "base" else None)
        streams.write(text + functions.script(migrate.FUNCTIONS))
        return
    settings = config.load()
    logs.configure(settings.production)
    address = database.direct_address(settings)
    try:
        database.create_tables(settings, adopting=options.adopt)
        schema = asyncio.run(migrate.inspect(address))
    except OUT_OF_REACH as error:
        raise SettingError(
            f"{address.variable}: the database is out of reach ({migrate.said(error)})."
        ) from None
    security = "proven" if schema.row_security_proven else "NOT in force"
    streams.write(f"Schema {schema.version}; row-level security {security}.")


def openapi(options: argparse.Namespace) -> None:
    from main import app

    text = json.dumps(app.openapi(), indent=2, ensure_ascii=False)
    if options.write:
        OPENAPI_FILE.write_text(text + "\n", encoding="utf-8")
    else:
        streams.write(text)


def _mend_surroundings() -> None:
    """The process that starts us may have closed our streams, or set a umask that lets others write
    our files."""
    streams.open_closed()
    os.umask(os.umask(0o022) & 0o077 | 0o022)  # nobody else may write what we make; we may
    if sys.platform != "win32":
        # Ignored, it takes the exit codes of child processes away: a PostgreSQL that failed would
        # seem to succeed.
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="todo", description="The task backend for Better Auth apps."
    )
    commands = parser.add_subparsers(required=True, metavar="command")

    command = commands.add_parser("serve", help="run the server")
    command.add_argument("--host", help="address to listen on (default: HOST, or 127.0.0.1)")
    command.add_argument("--port", type=int, help="port to listen on (default: PORT, or 8000)")
    command.add_argument(
        "--workers",
        type=int,
        choices=range(1, 65),
        default=1,
        metavar="N",
        help="number of processes that answer requests (default: 1)",
    )
    command.add_argument("--reload", action="store_true", help="restart when the code changes")
    command.set_defaults(run=serve)

    command = commands.add_parser("token", help="print a token to try the API with")
    command.add_argument("--user", help="the user's id (the token's sub)")
    command.add_argument("--email", help="the user's e-mail address")
    command.add_argument(
        "--hours", type=float, default=24.0, help="for how many hours it is valid (24)"
    )
    command.add_argument(
        "--inspect",
        metavar="TOKEN",
        help="say why TOKEN is accepted or refused; - reads it from standard input",
    )
    command.set_defaults(run=token)

    command = commands.add_parser("migrate", help="bring the database's schema up to date")
    how = command.add_mutually_exclusive_group()
    how.add_argument(
        "--sql",
        metavar="FROM",
        nargs="?",
        const="base",
        help="only print the SQL, from version FROM on (default: an empty database)",
    )
    how.add_argument(
        "--adopt",
        action="store_true",
        help="take over the tasks of a plain FastAPI + SQLModel backend",
    )
    command.set_defaults(run=migrate_schema)

    command = commands.add_parser("openapi", help="print the OpenAPI document")
    command.add_argument(
        "--write", action="store_true", help=f"write it to {OPENAPI_FILE.name} instead"
    )
    command.set_defaults(run=openapi)
    return parser


def _shown(path: Path) -> str:
    try:
        return str(path.relative_to(Path.cwd()))
    except (ValueError, FileNotFoundError):  # it is elsewhere, or the current folder was deleted
        return str(path)


if __name__ == "__main__":
    sys.exit(main())
