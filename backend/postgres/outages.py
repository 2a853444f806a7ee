"""Why the database did not do it: what the caller is told, and whether the log needs to know."""

from __future__ import annotations

import logging
import re

import asyncpg

import logs
from errors import Unavailable
from postgres.sessions import SessionRefused

log = logging.getLogger("todo.database")

OWN_WRITES = "Your other writes are still under way; try again shortly"
OUT_OF_REACH = "The database is out of reach; try again shortly"

OF_OURS = re.compile(r"_[0-9a-f]{10}\(")  # how the names of our functions end: storage/function.py


class FunctionGone(Exception):
    """An SQL function of ours, or the one that a prepared statement has found, is not there any
    more."""


# The first that fits. Each sentence must be true of whatever raises the error.
SENTENCES: tuple[tuple[type[Exception], str], ...] = (
    (
        SessionRefused,
        "The database is not set up as it must be, so it is not used; the server's log says why",
    ),
    (FunctionGone, "The database is being brought up to date; try again shortly"),
    (asyncpg.LockNotAvailableError, "The database is being changed; try again shortly"),
    (asyncpg.QueryCanceledError, "The database stopped this before it was done; try again shortly"),
    (asyncpg.CannotConnectNowError, "The database is starting or stopping; try again shortly"),
    (asyncpg.AdminShutdownError, "The database is starting or stopping; try again shortly"),
    (asyncpg.CrashShutdownError, "The database is starting or stopping; try again shortly"),
    (asyncpg.TooManyConnectionsError, "The database has no free connection; try again shortly"),
    (asyncpg.DiskFullError, "The database has no room to store this; try again later"),
    (asyncpg.InsufficientResourcesError, "The database is overloaded; try again shortly"),
    (
        asyncpg.ReadOnlySQLTransactionError,
        "The database takes no changes at the moment; try again shortly",
    ),
    (asyncpg.InvalidCachedStatementError, "The database is being changed; try again shortly"),
    (
        asyncpg.FeatureNotSupportedError,
        "The database takes no changes at the moment; try again shortly",
    ),
    (asyncpg.SerializationError, "Other changes came in between; try again"),
    (asyncpg.DeadlockDetectedError, "Other changes came in between; try again"),
    (
        asyncpg.InvalidAuthorizationSpecificationError,
        "The database refuses this server's login; try again later",
    ),
    (TimeoutError, "The database took too long to answer; try again shortly"),
)

_warnings = logs.OnceAMinute()  # an outage is one line a minute, not one a request


def unavailable(error: BaseException | None) -> Unavailable:
    """What the caller is told. It is logged, unless the caller's own writes are the cause."""
    if waits_for_a_turn(error):
        return Unavailable(OWN_WRITES)
    cause = type(error).__name__
    if _warnings.allows(cause):
        log.warning("database: %s: %s", cause, error)
    return Unavailable(
        next((sentence for kind, sentence in SENTENCES if isinstance(error, kind)), OUT_OF_REACH)
    )


def is_function_gone(error: BaseException) -> bool:
    """A statement that was prepared before knows the function by a number only."""
    if isinstance(error, asyncpg.InternalServerError):
        return "cache lookup failed for function" in str(error)
    return isinstance(error, asyncpg.UndefinedFunctionError) and bool(OF_OURS.search(str(error)))


def waits_for_a_turn(error: BaseException | None) -> bool:
    """Whether the lock that was waited for is one of those that the writes of one user take, and
    not a table's."""
    if not isinstance(error, asyncpg.LockNotAvailableError):
        return False
    return "pg_advisory_xact_lock" in (error.context or "")
