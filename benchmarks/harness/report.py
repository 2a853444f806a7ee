"""RESULTS.md: each program writes its own section and leaves the others'."""

from __future__ import annotations

import os
import platform
import re
import statistics
from collections.abc import Iterable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

RESULTS = Path(__file__).resolve().parent.parent / "RESULTS.md"
TITLE = "# Results\n\nWritten by `compare.py` and `growth.py`; [performance.md](../docs/performance.md) says how, and what it means.\n"


def spread(values: list[float], digits: int = 2) -> str:
    """Median (min–max)."""
    return f"{statistics.median(values):,.{digits}f} ({min(values):,.{digits}f}–{max(values):,.{digits}f})"


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    cells = [list(head), *map(list, rows)]
    lines = [f"| {' | '.join(row)} |" for row in cells]
    lines.insert(1, f"|{'---|' * len(cells[0])}")
    return "\n".join(lines)


def machine() -> str:
    model = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    packages = ", ".join(f"{name} {version(name)}" for name in ("uvicorn", "fastapi", "asyncpg"))
    cores = f"{os.cpu_count()} cores ({model[1] if model else platform.machine()}), which the load shares"
    return (
        f"{datetime.now(UTC):%Y-%m-%d}, {cores}, load average before {os.getloadavg()[0]:.1f}; "
        f"Python {platform.python_version()}, {packages}."
    )


def write(heading: str, text: str) -> None:
    old = RESULTS.read_text(encoding="utf-8") if RESULTS.exists() else TITLE
    title, *sections = re.split(r"^(?=## )", old, flags=re.MULTILINE)
    section = f"## {heading}\n\n{text.strip()}\n"
    others = {part.partition("\n")[0]: part.strip() + "\n" for part in sections}
    others[f"## {heading}"] = section
    RESULTS.write_text("\n".join([title.strip() + "\n", *others.values()]), encoding="utf-8")
