"""How texts are compared: words for a search, folded names, and the order of titles.

What is made here is stored beside a task, so that PostgreSQL only compares, and needs no ICU.
"""

from __future__ import annotations

import re
import unicodedata

SORT_KEY_MAX = 512  # characters, which are at most 2,048 bytes: an index of PostgreSQL takes 2,704

_WORD = re.compile(r"[^\W_]+")


def fold(text: str) -> str:
    """`text` as names of lists and labels are compared: case does not matter, but accents do."""
    return unicodedata.normalize("NFC", text.casefold())


def words(text: str) -> list[str]:
    """The runs of letters and digits, without case and accents."""
    return _WORD.findall(_plain(text))


def searchable(text: str | None) -> str:
    """The words of `text`, each once and after a blank, so that ` mil` finds what begins so. "" if
    there are none."""
    found = dict.fromkeys(words(text or ""))
    return f" {' '.join(found)} " if found else ""


def _plain(text: str) -> str:
    if text.isascii():
        return text.lower()
    # Folding can make new marks, and compatibility forms can hide capitals.
    folded = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text).casefold())
    return "".join(char for char in folded if not _is_mark(char))


def _is_mark(char: str) -> bool:
    return char > "\x7f" and unicodedata.category(char)[0] == "M"


# --- the order of titles ---


# A key has a first part, which is compared first, and, only if there are accents, a _LEVEL and a
# second part. In the first part
# - white space or a symbol is one of _ROOM;
# - a number is a _NUMBER, how many digits it has, and the digits;
# - a letter is itself. One that the alphabet has right after another letter is that letter and an
#   _AFTER, which is greater than all that could follow.

_LEVEL = "\x01"
_NUMBER = "`"
_AFTER = "\U0010ffff"

_WHITE = "\t\n\v\f\r\x85\u2028\u2029 "
_SYMBOLS = "_-‐–—,;:!¡?¿.·'‹›\"«»()[]{}§¶@*/\\&#%‰†‡•`^°©®←→↑↓+±÷×<=>¬|¦~"
_MONEY = "¤¢$£¥€"
_ROOM = [chr(code) for code in range(0x02, 0x60) if chr(code) not in "0123456789"]
_OTHER_SYMBOL, _OTHER_MONEY = "other symbol", "other money"
_SLOTS: dict[str, str] = dict(
    zip([*_WHITE, *_SYMBOLS, _OTHER_SYMBOL, *_MONEY, _OTHER_MONEY], _ROOM, strict=False)
)

# Accents from the lightest to the heaviest. The code point of any other accent is its weight.
# _LIGATURE stands for what makes `ß` more than `ss`.

_PLAIN = "!"
_MARKS = "\u0332\u0313\u0301\u0300\u0306\u0302\u030c\u030a\u0342\u0308\u030b\u0303\u0307\u0338\u0327\u0328\u0304\u0335"
_WEIGHTS = {mark: chr(ord(_PLAIN) + 1 + n) for n, mark in enumerate(_MARKS)}
_LIGATURE = "\u036f"

_SPELLED = {
    "ß": f"s{_LIGATURE}s",
    "æ": f"a{_LIGATURE}e",
    "œ": f"o{_LIGATURE}e",
    "ð": f"d{_LIGATURE}",
    "ø": "o\u0338",
    "đ": "d\u0335",
    "ħ": "h\u0335",
    "ł": "l\u0335",
    "‘": "'\u0301",
    "’": "'\u0300",
    "‚": "'\u0306",
    "“": '"\u0301',
    "”": '"\u0300',
    "„": '"\u0306',
}
_FOLLOWERS = {
    "e": "ə",
    "f": "ƒ",
    "i": "ı",
    "n": "ŋ",
    "q": "ĸ",
    "t": "ŧ",
    "z": "þ",
    "д": "ђ",
    "е": "є",
    "и": "ійј",
    "л": "љ",
    "н": "њ",
    "т": "ћ",
    "ч": "џ",
}
_SPELLING = str.maketrans(
    _SPELLED
    | {"ґ": "г\u0301", "ї": f"и{_AFTER}\u0308"}
    | {
        char: base + _AFTER * (n + 1)
        for base, followers in _FOLLOWERS.items()
        for n, char in enumerate(followers)
    }
)


class _Places(dict[int, str]):
    """Where each character stands. What is missing is looked up in Unicode's data."""

    def __missing__(self, code: int) -> str:
        char = chr(code)
        category = unicodedata.category(char)
        if category in ("Cc", "Cf"):
            return ""
        if category == "Sc":
            return _SLOTS[_OTHER_MONEY] + char
        if category[0] in "PS":
            return _SLOTS[_OTHER_SYMBOL] + char
        return _SLOTS[" "] if category[0] == "Z" else char


_PLACES = _Places({ord(char): slot for char, slot in _SLOTS.items() if len(char) == 1})
_PLACES |= {ord(char): char for char in "abcdefghijklmnopqrstuvwxyz0123456789"}
_DIGITS = re.compile(r"\d+")


def sort_key(title: str) -> str:
    """A text by which titles are ordered as by ICU's root collation, case ignored and numbers by
    their value.

    It is compared by code point: COLLATE "C". Exact: all of ASCII, and the letters of Latin-1 and
    Latin Extended-A (but for ŀ, ŉ and ſ). The base letters decide first, then the first accent that
    differs. Approximate: Greek and Cyrillic are in the order of their alphabets, other scripts and
    rare symbols in that of their code points. A digit like ² counts as the digit. Only the first
    characters count: 256, which is more than a title has, unless it is full of ligatures.
    """
    most = SORT_KEY_MAX // 2
    if title.isascii():
        return _placed(title[:most].lower())[:most]
    placed = _placed(_decomposed(title)[:most])
    letters = "".join(char for char in placed if not _is_mark(char))
    accents = "".join(map(_weight, placed)).rstrip(_PLAIN)
    return letters[:most] + (_LEVEL + accents[: most - 1] if accents else "")


def _decomposed(title: str) -> str:
    """Lower case, every accent as a mark of its own."""
    spelled = unicodedata.normalize("NFKC", title).lower().translate(_SPELLING)
    return unicodedata.normalize("NFKD", spelled).casefold()


def _placed(text: str) -> str:
    return _DIGITS.sub(_number, text.translate(_PLACES))


def _number(digits: re.Match[str]) -> str:
    value = str(int(digits[0]))
    return f"{_NUMBER}{chr(0x21 + len(value))}{value}"


def _weight(char: str) -> str:
    return _WEIGHTS.get(char, char) if _is_mark(char) else _PLAIN
