"""Settings: read once and checked once. If one is wrong, the server does not start, and says what
to set."""

from __future__ import annotations

import hashlib
import ipaddress
import logging
import re
from functools import cached_property
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

import secret_file
from errors import SettingError
from secret_file import MINIMUM_SECRET_BYTES

log = logging.getLogger("todo.config")

BACKEND = Path(__file__).resolve().parent
EXAMPLE_VALUES = frozenset(  # of .env.example: a copy of it counts as unset
    {"postgresql://user:pass@host/db?sslmode=require", "your-32-char-secret-here"}
)
PUBLIC_SECRETS = frozenset(  # known to everybody, so worth nothing
    {"better-auth-secret-12345678901234567890", "better-auth-secret-123456789012345678901234567890"}
)
DEFAULT_FRONTEND = "http://localhost:3000"  # also .env.example's
MOST_REQUESTS_PER_MINUTE = 1_000_000
_EXAMPLES = {
    "AUTH_JWKS_URL": "a URL like https://app.example.com/api/auth/jwks",
    "CORS_ORIGINS": "origins like https://app.example.com, http://localhost:3000 or capacitor://localhost",
}
DEFAULT_PORTS = {"http": "80", "https": "443"}
_URL = re.compile(
    r"(?P<scheme>https?)://(?P<host>[a-z0-9._-]+|\[[0-9a-f:.]+\])(?::(?P<port>[0-9]{1,5}))?(?P<path>/[^\s?#@]*)?",
    re.I,
)
# Origins of apps and browser extensions: they have no default port, and their host is compared
# letter by letter.
_APP_ORIGIN = re.compile(
    r"(?P<scheme>[a-z][a-z0-9+.-]*)(?P<rest>://[a-z0-9._~-]+(?::(?P<port>[0-9]{1,5}))?)(?P<path>/[^\s?#@]*)?",
    re.I,
)
_NO_APPS = frozenset(
    {"http", "https", "ws", "wss", "ftp", "file"}
)  # of http and https there is more to check
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


class Settings(BaseSettings):
    """The environment wins over `backend/.env`; docs/settings.md lists every variable."""

    model_config = SettingsConfigDict(
        env_file=BACKEND / ".env",
        env_file_encoding="utf-8",
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        hide_input_in_errors=True,
    )

    neon_database_url: SecretStr | None = None
    other_database_url: SecretStr | None = Field(None, validation_alias="DATABASE_URL")
    neon_direct_database_url: SecretStr | None = None
    database_pooled: bool = False
    row_security: Literal["on", "off"] = "on"
    better_auth_secret: SecretStr | None = None
    better_auth_secret_previous: SecretStr | None = None
    better_auth_url: str = DEFAULT_FRONTEND
    cors_origins: str | None = None
    auth_issuer: str | None = None
    auth_audience: str | None = None
    auth_jwks_url: str | None = None
    auth_strict: bool = False
    environment: Literal["development", "production"] = "development"
    host: str = "127.0.0.1"
    port: int = Field(8000, ge=0, le=65535)
    web_concurrency: int = Field(1, ge=1, le=1024)
    rate_limit: int | Literal["off"] | None = None
    changes_kept_days: int = Field(90, ge=1, le=36_500)
    trash_kept_days: int = Field(30, ge=1, le=36_500)
    keep_alive_seconds: int = Field(75, ge=1, le=3600)
    data_dir: Path = BACKEND.parent / ".data"

    @field_validator(
        *("neon_database_url", "other_database_url", "neon_direct_database_url"),
        *("better_auth_secret", "better_auth_secret_previous"),
        mode="before",
    )
    @classmethod
    def _example_is_unset(cls, value: Any) -> Any:
        return None if isinstance(value, str) and value.strip() in EXAMPLE_VALUES else value

    @field_validator("data_dir")
    @classmethod
    def _same_from_every_folder(cls, value: Path) -> Path:
        try:
            return (BACKEND.parent / value.expanduser()).resolve()
        except RuntimeError:
            raise ValueError("no home folder") from None

    @property
    def production(self) -> bool:
        return self.environment == "production"

    @property
    def database_url(self) -> SecretStr | None:
        return self.neon_database_url or self.other_database_url

    @property
    def database_variable(self) -> str:
        """Which of the two names the database was set by."""
        return (
            "DATABASE_URL"
            if self.other_database_url and not self.neon_database_url
            else "NEON_DATABASE_URL"
        )

    @cached_property
    def secret(self) -> bytes:
        """The HS256 key: raw UTF-8 bytes. In development without a setting, a random one that
        outlives restarts."""
        if self.better_auth_secret is not None:
            return self.better_auth_secret.get_secret_value().encode()
        if self.production:
            return b""
        file = self.data_dir / "secret"
        try:
            return secret_file.read_or_make(file)
        except OSError as error:
            raise SettingError(
                f"The file {file}, which keeps the development secret, cannot be used ({error.strerror}); "
                "set DATA_DIR to a folder that can be written, or BETTER_AUTH_SECRET to the frontend's own."
            ) from None

    @property
    def previous_secret(self) -> bytes:
        """The HS256 key before a rotation, whose tokens are still accepted; empty if there is none."""
        if self.better_auth_secret_previous is None:
            return b""
        return self.better_auth_secret_previous.get_secret_value().encode()

    @cached_property
    def cursor_keys(self) -> tuple[bytes, ...]:
        """Seal page cursors, the first one new ones. The same on every server that has the same
        secret, or else the same database. With a previous secret its cursors are opened too, so
        that a rotation interrupts no list."""
        source = self.secret or (
            self.database_url.get_secret_value().encode() if self.database_url else b""
        )
        sources = [source, self.previous_secret] if self.previous_secret else [source]
        return tuple(hashlib.sha256(b"todo page cursors\0" + one).digest() for one in sources)

    @cached_property
    def origin(self) -> str:
        """scheme://host[:port] of the frontend: what its tokens name as issuer and audience."""
        return _origin("BETTER_AUTH_URL", self.better_auth_url)

    @property
    def issuer(self) -> str:
        return self.auth_issuer or self.origin

    @property
    def audience(self) -> str:
        return self.auth_audience or self.origin

    @cached_property
    def jwks_url(self) -> str:
        """Where the frontend publishes its signing keys. Better Auth takes a path in its base URL
        for its own."""
        if self.auth_jwks_url is not None:
            return self.auth_jwks_url
        path = urlsplit(self.better_auth_url).path.rstrip("/") or "/api/auth"
        return f"{self.origin}{path}/jwks"

    @cached_property
    def allowed_origins(self) -> frozenset[str]:
        if self.cors_origins is None:
            return frozenset({self.origin})
        origins = [part.strip() for part in self.cors_origins.split(",")]
        return frozenset(_cors_origin(origin) for origin in origins if origin)

    @cached_property
    def requests_per_minute(self) -> int | None:
        """Of one user in one process; None: no limit."""
        if self.rate_limit is None:
            return 600 if self.production else None
        return None if self.rate_limit == "off" else self.rate_limit


def load(**overrides: Any) -> Settings:
    """Read and check the settings; SettingError names the first that is wrong."""
    try:
        settings = Settings(**overrides)
    except ValidationError as error:
        raise SettingError(_sentence(error)) from None
    except (UnicodeDecodeError, OSError):
        raise SettingError(
            "backend/.env cannot be read: it must be a text file in UTF-8."
        ) from None
    _check(settings)
    return settings


def _sentence(error: ValidationError) -> str:
    problem = error.errors(include_input=False, include_url=False)[0]
    variable = str(problem["loc"][0]).upper()
    expected = {
        "ENVIRONMENT": "'development' or 'production'",
        "ROW_SECURITY": "'on' or 'off'",
        "KEEP_ALIVE_SECONDS": "a number of seconds from 1 to 3600",
        "RATE_LIMIT": "'off' or a number of requests per minute",
        "PORT": "a number from 0 to 65535",
        "WEB_CONCURRENCY": "a number of processes from 1 to 1024",
        "CHANGES_KEPT_DAYS": "a number of days from 1 to 36500",
        "TRASH_KEPT_DAYS": "a number of days from 1 to 36500",
        "DATA_DIR": "a full path, because the home folder (~) is not known here",
    }.get(variable)
    return (
        f"{variable} must be {expected}."
        if expected
        else f"{variable} cannot be used: {problem['msg']}."
    )


def _origin(variable: str, url: str) -> str:
    """scheme://host[:port] of `url`, which is not quoted in a complaint: it may hold a password."""
    if "*" in url:
        raise SettingError(
            f"{variable} must name each origin, like https://app.example.com; '*' would let any site in."
        )
    found = _URL.fullmatch(url)
    if found is None or int(found["port"] or 0) > 65535 or not _is_host(found["host"]):
        wanted = _EXAMPLES.get(
            variable, "an origin like https://app.example.com or http://localhost:3000"
        )
        raise SettingError(f"{variable} must be {wanted}.")
    scheme, host, port, path = (
        found["scheme"].lower(),
        found["host"].lower(),
        found["port"],
        found["path"],
    )
    origin = (
        f"{scheme}://{host}"
        if port in (None, DEFAULT_PORTS[scheme])
        else f"{scheme}://{host}:{port}"
    )
    if variable == "CORS_ORIGINS":
        _refuse_path(origin, path)
    return origin


def _cors_origin(text: str) -> str:
    """As a browser sends it: of a website, or of an app or an extension (`capacitor://localhost`)."""
    found = _APP_ORIGIN.fullmatch(text)
    if found is None or found["scheme"].lower() in _NO_APPS or int(found["port"] or 0) > 65535:
        return _origin("CORS_ORIGINS", text)
    origin = found["scheme"].lower() + found["rest"]
    _refuse_path(origin, found["path"])
    return origin


def _refuse_path(origin: str, path: str | None) -> None:
    if path == "/":
        log.warning("CORS_ORIGINS: ignoring the trailing slash of %s/", origin)
    elif path:
        raise SettingError(
            f"CORS_ORIGINS has a path after {origin}; remove it, because an origin has none."
        )


def _is_host(name: str) -> bool:
    try:
        return not name.startswith("[") or bool(ipaddress.IPv6Address(name[1:-1]))
    except ValueError:
        return False


def _check(settings: Settings) -> None:
    _ = settings.allowed_origins, settings.origin
    if settings.auth_jwks_url is not None:
        _origin("AUTH_JWKS_URL", settings.auth_jwks_url)
    if (
        isinstance(settings.rate_limit, int)
        and not 1 <= settings.rate_limit <= MOST_REQUESTS_PER_MINUTE
    ):
        raise SettingError(
            f"RATE_LIMIT must be 'off' or requests per minute, from 1 to {MOST_REQUESTS_PER_MINUTE}."
        )
    for flaw in [
        *_secret_flaws(settings.better_auth_secret, "BETTER_AUTH_SECRET"),
        *_rotation_flaws(settings),
    ]:
        if settings.production:
            raise SettingError(flaw)
        log.warning("%s", flaw)
    if settings.production:
        _check_production(settings)


def _rotation_flaws(settings: Settings) -> list[str]:
    previous = settings.better_auth_secret_previous
    if previous is None:
        return []
    if settings.better_auth_secret is None:
        raise SettingError(
            "BETTER_AUTH_SECRET_PREVIOUS is set, but BETTER_AUTH_SECRET is not; "
            "set BETTER_AUTH_SECRET to the new secret, and BETTER_AUTH_SECRET_PREVIOUS to the old one."
        )
    if previous == settings.better_auth_secret:
        log.warning(
            "BETTER_AUTH_SECRET_PREVIOUS is the same as BETTER_AUTH_SECRET; "
            "set BETTER_AUTH_SECRET to the new secret, or remove the previous one."
        )
    return _secret_flaws(previous, "BETTER_AUTH_SECRET_PREVIOUS")


def _secret_flaws(value: SecretStr | None, variable: str) -> list[str]:
    if value is None:
        return []
    secret = value.get_secret_value()
    advice = "set the frontend's own, at least 32 bytes (openssl rand -base64 32)."
    if not secret.isprintable():
        raise SettingError(f"{variable} has characters that cannot be printed; {advice}")
    if secret in PUBLIC_SECRETS:
        return [f"{variable} is Better Auth's public default, which everybody knows; {advice}"]
    if len(secret.encode()) < MINIMUM_SECRET_BYTES:
        return [f"{variable} has {len(secret.encode())} bytes; {advice}"]
    if len(set(secret)) < 8:
        return [f"{variable} repeats a few characters; {advice}"]
    return []


def _check_production(settings: Settings) -> None:
    if settings.database_url is None:
        raise SettingError(
            "NEON_DATABASE_URL is not set; ENVIRONMENT=production needs it, because the embedded database "
            "is for development: postgresql://user:password@host/database?sslmode=require."
        )
    if settings.better_auth_secret is None and settings.better_auth_url == DEFAULT_FRONTEND:
        raise SettingError(
            "BETTER_AUTH_SECRET and BETTER_AUTH_URL are not set; ENVIRONMENT=production needs the frontend's "
            "secret (openssl rand -base64 32), its URL, or both."
        )
    for variable, url in (
        ("BETTER_AUTH_URL", settings.better_auth_url),
        ("AUTH_JWKS_URL", settings.jwks_url),
    ):
        parts = urlsplit(url)
        if parts.scheme != "https" and parts.hostname not in LOOPBACK:
            raise SettingError(
                f"{variable} must start with 'https://' in production: signing keys fetched without TLS prove nothing."
            )
