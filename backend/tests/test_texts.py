"""How texts are compared: words, folded names, and the order of titles."""

from __future__ import annotations

from itertools import pairwise
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

import texts
from tests import javascript


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Buy milk", ["buy", "milk"]),
        ("tax-return 2026, v2.1", ["tax", "return", "2026", "v2", "1"]),
        ("snake_case", ["snake", "case"]),
        ("Crème BRÛLÉE", ["creme", "brulee"]),
        ("Straße STRASSE", ["strasse", "strasse"]),
        ("İstanbul", ["istanbul"]),
        ("ﬁnd ™ №4", ["find", "tm", "no4"]),
        ("Άλφα ΣΊΣΥΦΟΣ", ["αλφα", "σισυφοσ"]),
        ("Ёлка", ["елка"]),
        ("日本語 テスト", ["日本語", "テスト"]),
        ("e\u0301te\u0301", ["ete"]),
        ("— … 🎉 !", []),
        ("", []),
    ],
)
def test_words(text: str, found: list[str]) -> None:
    assert texts.words(text) == found


@given(st.text())
def test_words_of_words_are_the_same(text: str) -> None:
    found = texts.words(text)
    assert texts.words(" ".join(found)) == found


@pytest.mark.parametrize(
    ("text", "searched"),
    [
        ("Milk, more milk", " milk more "),
        ("!", ""),
        ("", ""),
        (None, ""),
    ],
)
def test_what_is_searched(text: str | None, searched: str) -> None:
    assert texts.searchable(text) == searched


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("Work", "wORK", True),
        ("Straße", "STRASSE", True),
        ("Σίσυφος", "ΣΊΣΥΦΟΣ", True),
        ("caf\u00e9", "CAFE\u0301", True),
        ("café", "cafe", False),
        ("a b", "ab", False),
    ],
)
def test_folding(one: str, other: str, same: bool) -> None:
    assert (texts.fold(one) == texts.fold(other)) is same


# --- the order of titles ---

ASCII = [chr(code) for code in (9, 10, *range(0x20, 0x7F))]
# Spacing accents and superscript digits are approximate, as the docstring says.
LATIN = [chr(code) for code in range(0xA1, 0x180) if chr(code) not in "¨¯´¸²³¹¼½¾\xadĿŀŉſ"]
TYPOGRAPHIC = list("ẞ–—‘’‚“”„•†‡€←→↑↓")
ALPHABETS = [*"αβγδεζηθικλμνξοπρσςτυφχψωάέή", *"абвгґдђеёєжзиіїйјклљмнњопрстћуўфхцчџшщъыьэюя"]
TYPED = [
    "item 9",
    "item 10",
    "Item 010",
    "item",
    "item -1",
    "v1.9",
    "v1.10",
    "v1.10.1",
    "2026-01-02",
    "2026-1-2",
    "99999999999999999999999999",
    "100000000000000000000000000",
    "item ٣",
    "cote",
    "côte",
    "coté",
    "côté",
    "Cote b",
    "COTE a",
    "re-sign",
    "resign",
    "re sign",
    "Milk",
    "milk",
    "MILK & eggs",
    "(milk)",
    "“milk”",
    '"milk"',
    "don’t",
    "don't",
    "dont",
    "Straße",
    "strasse",
    "STRASSE 2",
    "Æther",
    "aether",
    "Ångström",
    "angstrom",
    "日本語",
    "テスト",
    "🎉 party",
    "party 🎉",
    "",
]


def titles() -> list[str]:
    random = Random(5)
    mixed = ["".join(random.choices(ASCII + LATIN, k=random.randint(2, 5))) for _ in range(300)]
    close = ["".join(random.choices("aAbéèeßsø019 -.", k=random.randint(1, 7))) for _ in range(300)]
    inside = [f"a{char}b" for char in ASCII]
    return [*ASCII, *LATIN, *TYPOGRAPHIC, *ALPHABETS, *TYPED, *inside, *mixed, *close]


def test_titles_are_in_the_order_of_icu() -> None:
    ordered = javascript.run("titles.mjs", titles())
    for (before, _), (title, comparison) in pairwise(ordered):
        before_key, key = texts.sort_key(before), texts.sort_key(title)
        assert (before_key > key) - (before_key < key) == comparison, (before, title)


@pytest.mark.parametrize(
    ("first", "then"),
    [
        ("~", "🎉"),
        ("🎉", "$"),
        ("€", "₿"),
        ("₿", "0"),
        ("9", "a"),
        ("z", "α"),
        ("ω", "а"),
        ("я", "א"),
        ("א", "日"),
        ("item 9 ①", "item 10"),
        ("a", "aa"),
        ("á", "aa"),
    ],
)
def test_titles_in_order(first: str, then: str) -> None:
    assert texts.sort_key(first) < texts.sort_key(then)


@given(st.text(alphabet=st.characters(max_codepoint=0x7F)))
def test_case_does_not_matter(title: str) -> None:
    assert texts.sort_key(title.upper()) == texts.sort_key(title.lower())


@given(st.text(max_size=300))
def test_keys_are_bounded(title: str) -> None:
    key = texts.sort_key(title)
    assert len(key) <= texts.SORT_KEY_MAX
    assert "\x00" not in key


@pytest.mark.parametrize(
    "title", ["\ufdfa" * 200, "ß" * 200, "é" * 200, "9" * 200, "\U0001f389" * 200]
)
def test_long_keys_fit_an_index(title: str) -> None:
    assert len(texts.sort_key(title).encode()) <= 2_048
