"""An SQL function, named by its text, so that servers of several releases can work at the same
time."""

from __future__ import annotations

import hashlib
from typing import NamedTuple


class Function(NamedTuple):
    """`text` creates it, under `name`."""

    name: str
    text: str

    @classmethod
    def of(cls, stem: str, text: str) -> Function:
        """`text` begins with CREATE FUNCTION, and the name `stem`."""
        name = f"{stem}_{hashlib.sha256(text.encode()).hexdigest()[:10]}"
        return cls(name, text.replace(f"CREATE FUNCTION {stem}(", f"CREATE FUNCTION {name}(", 1))
