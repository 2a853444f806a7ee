"""The words of the language, and what each stands for. They are lower case here, and typed in any."""

from __future__ import annotations

from query.tree import (
    Comparison,
    Dated,
    Day,
    FromToday,
    NoDate,
    NoLabels,
    NoParent,
    NoTime,
    Overdue,
    Priority,
    Status,
    Subtask,
    Term,
    Unit,
    Weekday,
    When,
)
from rules import PRIORITIES, Level

WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
DAYS: dict[str, Day] = {
    "today": FromToday(0),
    "tomorrow": FromToday(1),
    "yesterday": FromToday(-1),
    **{name: Weekday(number) for number, name in enumerate(WEEKDAYS)},
}
UNITS: dict[str, Unit] = {
    "day": "day",
    "days": "day",
    "week": "week",
    "weeks": "week",
    "month": "month",
    "months": "month",
}
WHENS: dict[str, When] = {":": "on", "on": "on", "before": "before", "after": "after"}

SHORT_LEVELS: dict[str, Level] = {"p1": "high", "p2": "medium", "p3": "low", "p4": "none"}
LEVELS: dict[str, Level] = {
    **{level: level for level in reversed(PRIORITIES)},
    **SHORT_LEVELS,
}
COMPARISONS: dict[str, Comparison] = {":": "=", ">": ">", ">=": ">=", "<": "<", "<=": "<="}

# Terms of one word. `completed` is one too, unless a day follows.
TERMS: dict[str, Term] = {
    "open": Status("open"),
    "all": Status("all"),
    "today": Dated("due", "on", FromToday(0)),
    "tomorrow": Dated("due", "on", FromToday(1)),
    "yesterday": Dated("due", "on", FromToday(-1)),
    "overdue": Overdue(),
    "subtask": Subtask(),
    **{name: Priority("=", level) for name, level in SHORT_LEVELS.items()},
}
AFTER_NO: dict[str, Term] = {
    "date": NoDate(),
    "time": NoTime(),
    "labels": NoLabels(),
    "parent": NoParent(),
}

# Not of the language, but typed by those who know another one.
SPOKEN_OPERATORS = {"and": "&", "or": "|", "not": "!"}
MEANT = {
    **SPOKEN_OPERATORS,
    **{name: f"due: {name}" for name in WEEKDAYS},
    **{level: f"priority: {level}" for level in ("high", "medium", "low")},
    "done": "completed",
    "inbox": "#Inbox",
}
EXAMPLES = [
    *TERMS,
    *(f"no {word}" for word in AFTER_NO),
    *("completed", "due: today", "due before: today", "next 7 days", "priority: high"),
]
