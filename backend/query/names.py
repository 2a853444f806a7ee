"""Which lists and labels a name in a query means. Case does not matter, accents do."""

from __future__ import annotations

import texts
from query.tree import Name

INBOX = "inbox"  # is no list, but is named like one


def matches(name: Name, key: str) -> bool:
    """Whether `name` means what has `key`, which texts.fold() has made."""
    first, *rest = folded(name)
    if not rest:
        return key == first
    *middle, last = rest
    if len(key) < len(first) + len(last) or not (key.startswith(first) and key.endswith(last)):
        return False
    return _follow_each_other(middle, key[len(first) : len(key) - len(last)])


def folded(name: Name) -> list[str]:
    return [texts.fold(part) for part in name.parts]


def pattern(name: Name) -> str:
    """The same for LIKE."""
    return "%".join(_escaped(part) for part in folded(name))


def _follow_each_other(parts: list[str], text: str) -> bool:
    at = 0
    for part in parts:
        found = text.find(part, at)
        if found < 0:
            return False
        at = found + len(part)
    return True


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
