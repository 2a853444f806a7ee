"""The standard streams: opened where they were closed, and written to with a sentence when that
fails."""

from __future__ import annotations

import os
import sys
from contextlib import suppress

from errors import SettingError

NAMES = ("stdin", "stdout", "stderr")


def open_closed() -> None:
    """Cron, supervisors and `<&- >&- 2>&-` close streams. The next socket would get such a number,
    and what is printed.

    uvloop ends the process when it closes a socket that has the number of a standard stream.
    `run.py` does the same.
    """
    for number, name in enumerate(NAMES):
        try:
            os.fstat(number)
        except OSError:
            _open_nowhere(number)
            setattr(sys, name, open(number, "w" if number else "r", closefd=False))  # noqa: SIM115  # as long as we live


def write(text: str) -> None:
    """What a command was asked for, to standard output, in UTF-8 wherever the locale has no letter
    for it."""
    try:
        _in_utf_8(text)
        print(text, flush=True)
    except OSError as error:
        _open_nowhere(1)  # Python would try once more at its end, and complain in its own words
        raise SettingError(
            f"Standard output cannot be written ({error.strerror}); send it to another place."
        ) from None


def remark(text: str) -> None:
    """To standard error, for whoever looks there; if nobody can, nothing is lost."""
    with suppress(OSError):
        print(text, file=sys.stderr, flush=True)


def _in_utf_8(text: str) -> None:
    try:
        text.encode(sys.stdout.encoding)
    except UnicodeEncodeError:
        sys.stdout.reconfigure(encoding="utf-8", errors="surrogateescape")  # type: ignore[union-attr]  # a TextIOWrapper


def _open_nowhere(number: int) -> None:
    nowhere = os.open(os.devnull, os.O_RDWR)
    if nowhere != number:
        os.dup2(nowhere, number)
        os.close(nowhere)
    os.set_inheritable(number, True)
