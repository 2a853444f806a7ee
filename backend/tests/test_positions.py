"""Positions are the keys of npm's fractional-indexing, and there is room between any two."""

from __future__ import annotations

import random
import string
from itertools import count, pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import positions
from tests import javascript

Pair = tuple[str | None, str | None]

SMALLEST = "A00000000000000000000000000"
LARGEST = "zzzzzzzzzzzzzzzzzzzzzzzzzzz"
VALID = [
    *[
        "a0",
        "a1",
        "az",
        "b00",
        "b10",
        "bzz",
        "c000",
        "Zz",
        "Z0",
        "Yzz",
        "Y00",
        "a0V",
        "a01",
        "a00V",
    ],
    *["zzzzzzzzzzzzzzzzzzzzzzzzzzy", LARGEST, f"{LARGEST}V", f"{SMALLEST}1", f"{SMALLEST}0001"],
    *["A00000000000000000000000001", "A00000000000000000000000001V", "a0" + 126 * "z"],
]
INVALID = ["", "5", "0", "a", "b0", "Y0", "c00", "a00", "a010", "b000", "zz", "A", SMALLEST]
BETWEEN: dict[Pair, str] = {
    (None, None): "a0",
    (None, "a0"): "Zz",
    (None, "Zz"): "Zy",
    (None, "Z0"): "Yzz",
    (None, "Y00"): "Xzzz",
    (None, "a0V"): "a0",
    (None, "b00"): "az",
    (None, "b127"): "b12",
    (None, f"{SMALLEST}V"): f"{SMALLEST}G",
    (None, f"{SMALLEST}1"): f"{SMALLEST}0V",
    ("a0", None): "a1",
    ("a0V", None): "a1",
    ("az", None): "b00",
    ("bzz", None): "c000",
    ("Zz", None): "a0",
    ("Yzz", None): "Z0",
    ("Xzzz", None): "Y00",
    (LARGEST, None): f"{LARGEST}V",
    (f"{LARGEST}V", None): f"{LARGEST}l",
    (f"{LARGEST}z", None): f"{LARGEST}zV",
    ("a0", "a1"): "a0V",
    ("a0", "a2"): "a1",
    ("a0", "b00"): "a1",
    ("a1", "a1V"): "a1G",
    ("a0", "a01"): "a00V",
    ("a0V", "a1"): "a0l",
    ("a0V", "a0W"): "a0VV",
    ("a0V", "a0W1"): "a0W",
    ("a04", "a05V"): "a05",
    ("a0z", "a1"): "a0zV",
    ("a0zz", "a1"): "a0zzV",
    ("a01", "a1"): "a0W",
    ("a0001", "a0002"): "a0001V",
    ("Zz", "a0"): "ZzV",
    ("Zz", "a0V"): "a0",
    ("Zz", "a1"): "a0",
    ("az", "b00"): "azV",
    ("az", "b01"): "b00",
    ("a5", "b12"): "a6",
}


def order(pair: tuple[str, str]) -> Pair:
    return min(pair), max(pair)


DIGITS = string.digits + string.ascii_uppercase + string.ascii_lowercase


def some_key(chance: random.Random) -> str:
    """One of those whose neighbours are made in different ways."""
    head = chance.choice("AAYZabzz")
    length = positions._length(head) - 1
    whole = chance.choice("0z5") * (length - 1) + chance.choice("01yz")
    fraction = "".join(chance.choices("01Vyz" + DIGITS, k=chance.randint(0, 4))).rstrip("0")
    key = head + whole + fraction
    return f"{SMALLEST}1" if key == SMALLEST else key


keys = st.integers(0, 2**32).map(lambda seed: some_key(random.Random(seed)))
pairs = st.tuples(keys, keys).filter(lambda pair: pair[0] != pair[1]).map(order)
open_pairs = pairs | st.tuples(st.none(), keys) | st.tuples(keys, st.none())


@pytest.mark.parametrize("key", VALID)
def test_a_key_of_the_scheme_is_taken(key: str) -> None:
    assert positions.check(key) == key


@pytest.mark.parametrize("key", INVALID)
def test_what_the_scheme_cannot_make_is_refused(key: str) -> None:
    with pytest.raises(ValueError):
        positions.check(key)


@pytest.mark.parametrize(
    "key", ["a-", "a0!", "a0 ", "a0\n", "ä0", "a０", "a0é", " a0", "a0\0", "a0" + 127 * "z", "a0.5"]
)
def test_what_the_package_takes_by_mistake_is_refused(key: str) -> None:
    """It looks at no digit, and knows no longest key."""
    with pytest.raises(ValueError):
        positions.check(key)


def test_the_package_takes_the_same_keys() -> None:
    made = javascript.run("positions.mjs", [[key, None] for key in VALID + INVALID])
    assert [key is not None for key in made] == [True] * len(VALID) + [False] * len(INVALID)


@pytest.mark.parametrize(("pair", "key"), BETWEEN.items())
def test_the_key_between(pair: Pair, key: str) -> None:
    assert positions.between(*pair) == key


def test_the_package_makes_the_same_keys() -> None:
    assert (
        dict(zip(BETWEEN, javascript.run("positions.mjs", list(BETWEEN)), strict=True)) == BETWEEN
    )


def test_the_package_makes_the_same_keys_between_any_two() -> None:
    chance = random.Random(5545)
    some = sorted({some_key(chance) for _ in range(3000)} - {"A00000000000000000000000001"})
    found: list[Pair] = [*pairwise(some), *((None, key) for key in some)]
    found += [(key, None) for key in some]
    found += [order((one, other)) for one, other in zip(some, some[7:], strict=False)]
    assert len(found) > 5000
    ours = [positions.between(*pair) for pair in found]
    assert ours == javascript.run("positions.mjs", found)
    assert [positions.check(key) for key in ours] == ours


def test_there_is_room_before_the_second_smallest_number() -> None:
    """The package makes the smallest of it, which it then refuses."""
    second = "A00000000000000000000000001"
    assert javascript.run("positions.mjs", [[None, second], [SMALLEST, second]]) == [SMALLEST, None]
    assert positions.between(None, second) == f"{SMALLEST}V"


@given(open_pairs)
@settings(database=None, deadline=None, max_examples=1000)
def test_a_key_is_between_its_neighbours_and_has_room_on_both_sides(pair: Pair) -> None:
    key = positions.check(positions.between(*pair))
    before, after = pair
    assert before is None or before < key
    assert after is None or key < after
    assert positions.check(positions.between(before, key)) < key
    assert key < positions.check(positions.between(key, after))


@pytest.mark.parametrize(("before", "after"), [("a1", "a0"), ("a0", "a0"), ("a0V", "a0")])
def test_neighbours_in_the_wrong_order_are_refused(before: str, after: str) -> None:
    with pytest.raises(ValueError):
        positions.between(before, after)


def default(seq: int) -> str:
    """The key of a task that nobody moved, as SQL makes it."""
    return chr(96 + len(str(seq))) + str(seq)


def test_keys_made_from_numbers_are_of_the_scheme_and_in_its_order() -> None:
    numbers = sorted(
        {*range(1, 1200), 2**63 - 1}
        | {10**digits + step for digits in range(3, 19) for step in (-1, 0, 1)}
    )
    made = [positions.check(default(seq)) for seq in numbers]
    assert made == sorted(made)
    gaps: list[Pair] = [(None, made[0]), *pairwise(made), (made[-1], None)]
    between = [positions.between(*gap) for gap in gaps]
    assert between == javascript.run("positions.mjs", gaps)
    assert between[0] == "a0"
    every = [key for pair in zip(between, [*made, ""], strict=True) for key in pair][:-1]
    assert every == sorted(set(every))


@given(st.integers(1, 2**63 - 1), st.integers(1, 2**63 - 1))
@settings(database=None)
def test_keys_made_from_numbers_sort_as_the_numbers(one: int, other: int) -> None:
    assert positions.check(default(one)) == default(one)
    assert (default(one) < default(other)) is (one < other)


def test_ten_thousand_moves_keep_keys_short_and_the_order_exact() -> None:
    chance = random.Random(5545)
    items = list(range(1, 301))
    position = {item: default(item) for item in items}
    longest = 0
    for _ in range(10_000):
        item = items.pop(chance.randrange(len(items)))
        place = chance.randint(0, len(items))
        before = position[items[place - 1]] if place > 0 else None
        after = position[items[place]] if place < len(items) else None
        position[item] = positions.between(before, after)
        items.insert(place, item)
        longest = max(longest, len(position[item]))
        assert sorted(items, key=position.__getitem__) == items
    assert longest <= positions.LONGEST / 4


def moves_until_exhausted(side: str) -> int:
    before, after = "a0", "a1"
    for moves in count():
        try:
            key = positions.check(positions.between(before, after))
        except positions.Exhausted:
            return moves
        before, after = (before, key) if side == "before" else (key, after)
    raise AssertionError


@pytest.mark.parametrize("side", ["before", "after"])
def test_hundreds_of_moves_to_one_place_exhaust_it(side: str) -> None:
    assert moves_until_exhausted(side) > 600


def test_the_longest_key_is_still_made() -> None:
    before = "a0" + 125 * "z"
    assert positions.between(before, "a1") == f"{before}V"
    with pytest.raises(positions.Exhausted):
        positions.between(f"{before}z", "a1")
