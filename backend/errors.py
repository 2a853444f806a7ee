"""Everything that can go wrong, with its code and status."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, ClassVar, NamedTuple


class Problem(NamedTuple):
    """One thing wrong with what was sent: which field, and a sentence that says what would be
    right."""

    field: str
    message: str
    column: int | None = None  # where in a query, counted in code points from 1

    def members(self) -> dict[str, Any]:
        return {name: value for name, value in self._asdict().items() if value is not None}


class ApiError(Exception):
    """An answer that is not 2xx. The message is a sentence for a person, `code` a constant for a
    program."""

    status: ClassVar[int] = 500
    code: ClassVar[str] = "SERVER_ERROR"
    sentence: ClassVar[str] = "Something went wrong on our side"

    def __init__(
        self, sentence: str | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(sentence or self.sentence)
        self.headers: dict[str, str] = dict(headers or {})

    def members(self) -> dict[str, Any]:
        """What this error adds to the body beside the members that every error has."""
        return {}

    def body(self) -> dict[str, Any]:
        """Clients written against FastAPI's default read `detail`, those against Express's habits
        `message`."""
        sentence = str(self)
        return {
            "error": sentence,
            "code": self.code,
            "detail": sentence,
            "message": sentence,
            **self.members(),
        }

    def problem_details(self) -> dict[str, Any]:
        """The same as RFC 9457 `application/problem+json`."""
        title = HTTPStatus(self.status).phrase
        about = {"type": "about:blank", "title": title, "status": self.status, "detail": str(self)}
        return {**about, "code": self.code, **self.members()}


class Invalid(ApiError):
    """The body, the query, the path or a header is invalid; `error` is the first problem."""

    status, code = 400, "VALIDATION_ERROR"

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__(problems[0].message)
        self.problems = problems

    def members(self) -> dict[str, Any]:
        return {"errors": [problem.members() for problem in self.problems]}


ADVICE = {  # what to check, by the reason of a 401. It is the same for every token, so it repeats nothing of one.
    "missing_token": "Send `Authorization: Bearer <token>` in one header. Cookies and query parameters are not read.",
    "malformed_token": "Send the JWT of GET /api/auth/token, not the session token of the sign-in reply or the cookie.",
    "unsupported_algorithm": "HS256 needs BETTER_AUTH_SECRET in the backend. Otherwise use Better Auth's jwt() plugin.",
    "unsupported_type": "This is another kind of token. Send the one of GET /api/auth/token.",
    "unknown_key": "Check that BETTER_AUTH_URL (or AUTH_JWKS_URL) leads to the frontend that issued this token.",
    "bad_signature": "Check that BETTER_AUTH_SECRET is the same on both sides, to the last character.",
    "token_expired": 'Get a new token. If all are expired, set expirationTime of jwt() to a text such as "15m".',
    "token_not_yet_valid": "Check the clocks of both machines.",
    "wrong_issuer": "Set BETTER_AUTH_URL to the same value on both sides, or AUTH_ISSUER to what the token says.",
    "wrong_audience": "Set BETTER_AUTH_URL to the same value on both sides, or AUTH_AUDIENCE to what the token says.",
    "missing_subject": "The claim `sub` must be the user's id; `id`, `userId` and `email` are not read. "
    "E-mail links and session cookies have no `sub`; use GET /api/auth/token.",
}


MILLISECONDS = (
    "Divide by 1000: Math.floor(Date.now() / 1000) in JavaScript. "
    'expirationTime of jwt() must be a text such as "15m".'
)


class Unauthorized(ApiError):
    """The token is missing or invalid; `reason` says which of the causes in docs/tokens.md it is.

    The challenge follows RFC 6750 section 3: without a token it carries no error code, and the
    description is a fixed ASCII text, never anything of the token.
    """

    status, code = 401, "UNAUTHORIZED"

    def __init__(self, reason: str, description: str, hint: str = "") -> None:
        missing = reason == "missing_token"
        challenge = 'Bearer realm="todo"'
        if not missing:
            challenge += f', error="invalid_token", error_description="{description}"'
        super().__init__(
            "Missing token" if missing else "Invalid token", {"WWW-Authenticate": challenge}
        )
        self.reason = reason
        self.description = description
        self.hint = (
            hint or description
        )  # for the log: may quote the token's header and origin, cleaned

    def members(self) -> dict[str, Any]:
        return {"reason": self.reason, "hint": self.advice}  # `self.hint` is for the log only

    @property
    def advice(self) -> str:
        return MILLISECONDS if "milliseconds" in self.description else ADVICE[self.reason]


class Forbidden(ApiError):
    status, code, sentence = 403, "FORBIDDEN", "Access denied"


class NotFound(ApiError):
    status, code, sentence = 404, "NOT_FOUND", "Not found"


class MethodNotAllowed(ApiError):
    status, code, sentence = 405, "METHOD_NOT_ALLOWED", "Method not allowed"

    def __init__(self, allow: Sequence[str]) -> None:
        methods = ", ".join(allow)
        super().__init__(f"Method not allowed; this path answers {methods}", {"Allow": methods})


class CursorExpired(ApiError):
    """A position beyond the end of the change log. The client has it from before the database was
    restored."""

    status, code = 410, "CURSOR_EXPIRED"

    def __init__(self, since: int, last: int) -> None:
        super().__init__(
            f"since={since} is beyond your last change, which is {last}. The database was restored, or is a new one. "
            "Read everything again, and the changes from since=0"
        )


class UidInTrash(ApiError):
    status, code = 409, "UID_IN_TRASH"

    def __init__(self, entity: str) -> None:
        super().__init__(
            f"The {entity} with this uid is in the trash; restore that {entity}, or choose another uid"
        )


class LimitReached(ApiError):
    status, code = 409, "LIMIT_REACHED"


class PositionExhausted(ApiError):
    """No key of the allowed length is left there. A key at the other end is short again."""

    status, code = 409, "POSITION_EXHAUSTED"

    def __init__(self, way_out: str = "first") -> None:
        super().__init__(
            f'There is no room left for a key there; move it to "{way_out}", then the others to where they belong'
        )


class UndoConflict(ApiError):
    """Undoing would overwrite newer values of these fields. Without fields, the object was deleted
    for good, unless `sentence` says otherwise."""

    status, code = 409, "UNDO_CONFLICT"

    def __init__(self, fields: Sequence[str], sentence: str = "") -> None:
        self.problems = [
            Problem(name, f"{name.capitalize().replace('_', ' ')} has changed since")
            for name in fields
        ]
        gone = sentence or "What was changed was deleted for good, so this cannot be undone"
        newer = f"{', '.join(problem.message for problem in self.problems)}; undoing this would overwrite it"
        super().__init__(newer if fields else gone)

    def members(self) -> dict[str, Any]:
        return {"errors": [problem.members() for problem in self.problems]} if self.problems else {}


class PreconditionFailed(ApiError):
    """`If-Match` does not name the current version (RFC 9110 section 13.1.1). Nothing was changed."""

    status, code = 412, "PRECONDITION_FAILED"

    def __init__(self, current: Mapping[str, Any] | None = None, entity: str = "task") -> None:
        sentence = "Your tasks have changed since. Read them again and try again"
        if current:
            sentence = f"The {entity} has changed since (version {current['version']} now). Review it and try again"
        super().__init__(sentence)
        self.current = current

    def members(self) -> dict[str, Any]:
        return {"data": self.current}


class IdempotencyInProgress(ApiError):
    status, code = 409, "IDEMPOTENCY_IN_PROGRESS"
    sentence = "A request with this Idempotency-Key is still running; send the same request again to get its answer"

    def __init__(self) -> None:
        super().__init__(headers={"Retry-After": "1"})


class IdempotencyKeyReused(ApiError):
    status, code = 422, "IDEMPOTENCY_KEY_REUSED"
    sentence = "This Idempotency-Key was used for another request; a new request needs a new key"


class PayloadTooLarge(ApiError):
    status, code = 413, "PAYLOAD_TOO_LARGE"

    def __init__(self, limit_bytes: int) -> None:
        super().__init__(f"Request body must not exceed {limit_bytes // 1024} KiB")


class UriTooLong(ApiError):
    status, code, sentence = 414, "URI_TOO_LONG", "Request URI must not exceed 8 KiB"


class UnsupportedMediaType(ApiError):
    status, code = 415, "UNSUPPORTED_MEDIA_TYPE"


class RateLimited(ApiError):
    status, code = 429, "RATE_LIMITED"

    def __init__(self, retry_after_seconds: int) -> None:
        sentence = f"Too many requests; try again in {retry_after_seconds} s"
        super().__init__(sentence, {"Retry-After": str(retry_after_seconds)})


class HeadersTooLarge(ApiError):
    status, code, sentence = 431, "HEADERS_TOO_LARGE", "Request headers must not exceed 32 KiB"


class ServerError(ApiError):
    """A bug of ours. The caller gets this generic text, the log the cause."""


class Unavailable(ApiError):
    """The database or the signing keys are out of reach, or the server has too much work."""

    status, code = 503, "SERVICE_UNAVAILABLE"

    def __init__(self, sentence: str, retry_after_seconds: int = 2) -> None:
        super().__init__(sentence, {"Retry-After": str(retry_after_seconds)})


class BadRequest(ApiError):
    """A request whose framing or head cannot be read."""

    status, code = 400, "VALIDATION_ERROR"


class SettingError(Exception):
    """A setting is wrong. One line names the variable, what is wrong and what would be right."""


class Unfit(Exception):
    """The database cannot be used as it is. The message says why, and what would be right."""
