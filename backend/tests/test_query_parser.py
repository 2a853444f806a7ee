"""What people type, and the tree or the sentence that comes of it.

`python -m tests.test_query_parser 1000000` tries so many random texts; the suite tries some
thousands.
"""

from __future__ import annotations

import random
import re
import sys
from collections import Counter
from datetime import date
from typing import get_args
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import texts
import times
from query.days import FARTHEST
from query.errors import QueryError
from query.parser import DEPTH_MAX, LENGTH_MAX, TERMS_MAX, parse, with_default_status
from query.spelling import spell
from query.tokens import SIGNS
from query.tree import (
    And,
    At,
    Comparison,
    Dated,
    Day,
    Field,
    FromToday,
    InList,
    Label,
    Name,
    NextDays,
    NoDate,
    Node,
    NoLabels,
    NoParent,
    Not,
    NoTime,
    Or,
    Overdue,
    Parent,
    Priority,
    Search,
    Status,
    Subtask,
    Term,
    Unit,
    Weekday,
    When,
)
from rules import ID_MAX, Level

UID = "3f0e4cf2-8a0c-4b1f-9d5e-2f6b7a1c0d9e"

OPEN, COMPLETED, ALL = Status("open"), Status("completed"), Status("all")
TODAY = Dated("due", "on", FromToday(0))
TOMORROW = Dated("due", "on", FromToday(1))
YESTERDAY = Dated("due", "on", FromToday(-1))
HIGH = Priority("=", "high")
MILK = Search(("milk",))


def due(day: Day) -> Dated:
    return Dated("due", "on", day)


def label(*parts: str) -> Label:
    return Label(Name(parts))


def in_list(*parts: str) -> InList:
    return InList(Name(parts))


# --- what is understood ---

TREES: dict[str, Node] = {
    # one word, in any case
    "open": OPEN,
    "completed": COMPLETED,
    "all": ALL,
    "today": TODAY,
    "tomorrow": TOMORROW,
    "yesterday": YESTERDAY,
    "overdue": Overdue(),
    "subtask": Subtask(),
    "OPEN": OPEN,
    "Today": TODAY,
    "oVeRdUe": Overdue(),
    "  \t today \n": TODAY,
    "\u00a0today\u3000": TODAY,
    # two words and more
    "no date": NoDate(),
    "no time": NoTime(),
    "no labels": NoLabels(),
    "no parent": NoParent(),
    "NO   Date": NoDate(),
    "7 days": NextDays(7),
    "next 7 days": NextDays(7),
    "Next 7 Days": NextDays(7),
    "1 day": NextDays(1),
    "1 days": NextDays(1),
    "next 1 day": NextDays(1),
    "007 days": NextDays(7),
    "18250 days": NextDays(18_250),
    # every field, every relation
    "due: today": TODAY,
    "due on: today": TODAY,
    "due before: today": Dated("due", "before", FromToday(0)),
    "due after: today": Dated("due", "after", FromToday(0)),
    "start: today": Dated("start", "on", FromToday(0)),
    "start on: today": Dated("start", "on", FromToday(0)),
    "start before: today": Dated("start", "before", FromToday(0)),
    "start after: today": Dated("start", "after", FromToday(0)),
    "created: today": Dated("created", "on", FromToday(0)),
    "created on: today": Dated("created", "on", FromToday(0)),
    "created before: today": Dated("created", "before", FromToday(0)),
    "created after: today": Dated("created", "after", FromToday(0)),
    "updated: today": Dated("updated", "on", FromToday(0)),
    "updated on: today": Dated("updated", "on", FromToday(0)),
    "updated before: today": Dated("updated", "before", FromToday(0)),
    "updated after: today": Dated("updated", "after", FromToday(0)),
    "completed: today": Dated("completed", "on", FromToday(0)),
    "completed on: today": Dated("completed", "on", FromToday(0)),
    "completed before: today": Dated("completed", "before", FromToday(0)),
    "completed after: today": Dated("completed", "after", FromToday(0)),
    "due:today": TODAY,
    "due :today": TODAY,
    "DUE BEFORE :Today": Dated("due", "before", FromToday(0)),
    # every day
    "due: tomorrow": TOMORROW,
    "due: yesterday": YESTERDAY,
    "due: monday": due(Weekday(0)),
    "due: tuesday": due(Weekday(1)),
    "due: wednesday": due(Weekday(2)),
    "due: thursday": due(Weekday(3)),
    "due: friday": due(Weekday(4)),
    "due: saturday": due(Weekday(5)),
    "due: Sunday": due(Weekday(6)),
    "due: +3 days": due(FromToday(3)),
    "due: -2 weeks": due(FromToday(-2, "week")),
    "due: +1 month": due(FromToday(1, "month")),
    "due: +1 day": TOMORROW,
    "due: -1 week": due(FromToday(-1, "week")),
    "due: +6 Months": due(FromToday(6, "month")),
    "due: -0 days": TODAY,
    "due: +18250 days": due(FromToday(18_250)),
    "due: -18250 days": due(FromToday(-18_250)),
    "due: +2600 weeks": due(FromToday(2600, "week")),
    "due: -600 months": due(FromToday(-600, "month")),
    "due: 2026-12-01": due(At("2026-12-01")),
    "due:2026-12-01": due(At("2026-12-01")),
    # every time, as times.py spells it
    "due: 2026-12-01T09:00": due(At("2026-12-01T09:00:00")),
    "due:2026-12-01t09:00:30.5": due(At("2026-12-01T09:00:30")),
    "due: 2026-12-01T09:00Z": due(At("2026-12-01T09:00:00Z")),
    "due: 2026-12-01T09:00:00+01:00": due(At("2026-12-01T08:00:00Z")),
    "due: 2026-12-01T09:00-08:00": due(At("2026-12-01T17:00:00Z")),
    "due: 2026-12-01T09:00[Europe/Berlin]": due(At("2026-12-01T09:00:00+01:00[Europe/Berlin]")),
    "due: 2026-12-01T09:00[!europe/berlin]": due(At("2026-12-01T09:00:00+01:00[Europe/Berlin]")),
    "due: 2026-12-01T09:00+01:00[Europe/Berlin][u-ca=gregory]": due(
        At("2026-12-01T09:00:00+01:00[Europe/Berlin]")
    ),
    "due: 2026-12-01T09:00[Etc/GMT+3]": due(At("2026-12-01T09:00:00-03:00[Etc/GMT+3]")),
    "due: 1970-01-01": due(At("1970-01-01")),
    "due: 9999-12-31": due(At("9999-12-31")),
    "(due: 2026-12-01T09:00)": due(At("2026-12-01T09:00:00")),
    "due: 2026-12-01T09:00|today": Or((due(At("2026-12-01T09:00:00")), TODAY)),
    # priority
    "priority: high": HIGH,
    "priority: medium": Priority("=", "medium"),
    "priority: low": Priority("=", "low"),
    "priority: none": Priority("=", "none"),
    "p1": HIGH,
    "P2": Priority("=", "medium"),
    "p3": Priority("=", "low"),
    "p4": Priority("=", "none"),
    "priority: p1": HIGH,
    "priority:P4": Priority("=", "none"),
    "priority > low": Priority(">", "low"),
    "priority >= low": Priority(">=", "low"),
    "priority < p1": Priority("<", "high"),
    "priority <= Medium": Priority("<=", "medium"),
    "priority>low": Priority(">", "low"),
    "PRIORITY>=p2": Priority(">=", "medium"),
    # labels
    "@label": label("label"),
    "@wai*": label("wai", ""),
    "@*wai": label("", "wai"),
    "@a*b*c": label("a", "b", "c"),
    "@*": label("", ""),
    "@a**b": label("a", "", "b"),
    r"@wai\*": label("wai*"),
    r"@\*": label("*"),
    r"@a\\*": label("a\\", ""),
    r"@two\ words": label("two words"),
    r"@\w": label("w"),
    "@Waiting": label("Waiting"),
    '@"two words"': label("two words"),
    '@"a & (b | !c)"': label("a & (b | !c)"),
    '@"wai*"': label("wai", ""),
    r'@"wai\*"': label("wai*"),
    r'@"say \"hi\""': label('say "hi"'),
    "@home@work#1": label("home@work#1"),
    "@prio:high": label("prio:high"),
    "@a>b": label("a>b"),
    "@today": label("today"),
    "@é": label("é"),
    "@🛒": label("🛒"),
    # lists
    "#List": in_list("List"),
    '#"My list"': in_list("My list"),
    r"#My\ list": in_list("My list"),
    "#Inbox": in_list("Inbox"),
    "#Wo*": in_list("Wo", ""),
    '#"My *"': in_list("My ", ""),
    "#C#": in_list("C#"),
    r"#\(a\)": in_list("(a)"),
    r"#Q\&A": in_list("Q&A"),
    "##": in_list("#"),
    # parents
    "parent: 42": Parent(42),
    "parent:42": Parent(42),
    "Parent : 1": Parent(1),
    "parent: 9223372036854775807": Parent(2**63 - 1),
    f"parent: {UID}": Parent(UUID(UID)),
    f"parent: {UID.upper()}": Parent(UUID(UID)),
    # search
    "search: milk": MILK,
    "search:milk": MILK,
    "SEARCH: MILK": MILK,
    'search: "two words"': Search(("two", "words")),
    '"two words"': Search(("two", "words")),
    '"milk"': MILK,
    '"Crème brûlée"': Search(("creme", "brulee")),
    '"today"': Search(("today",)),
    '"e-mail, v2"': Search(("e", "mail", "v2")),
    "search: today": Search(("today",)),
    "search: milk*": MILK,
    "search: C++": Search(("c",)),
    "search: and": Search(("and",)),
    r"search: \milk": MILK,
    r'"a\"b"': Search(("a", "b")),
    '"snake_case"': Search(("snake", "case")),
    # operators
    "today | overdue": Or((TODAY, Overdue())),
    "today & p1": And((TODAY, HIGH)),
    "!today": Not(TODAY),
    "! today": Not(TODAY),
    "today|overdue": Or((TODAY, Overdue())),
    "today&p1": And((TODAY, HIGH)),
    "today&!p1|@a": Or((And((TODAY, Not(HIGH))), label("a"))),
    "today | p1 & @a": Or((TODAY, And((HIGH, label("a"))))),
    "today & p1 | @a": Or((And((TODAY, HIGH)), label("a"))),
    "(today | p1) & @a": And((Or((TODAY, HIGH)), label("a"))),
    "today & (p1 | @a)": And((TODAY, Or((HIGH, label("a"))))),
    "!today & p1": And((Not(TODAY), HIGH)),
    "!(today & p1)": Not(And((TODAY, HIGH))),
    "today & p1 & @a": And((TODAY, HIGH, label("a"))),
    "today | p1 | @a": Or((TODAY, HIGH, label("a"))),
    "(today & p1) & @a": And((And((TODAY, HIGH)), label("a"))),
    "today | (p1 | @a)": Or((TODAY, Or((HIGH, label("a"))))),
    "(today)": TODAY,
    "((today))": TODAY,
    "( ( today ) )": TODAY,
    "!!today": TODAY,
    "!!!today": Not(TODAY),
    "! ! today": TODAY,
    "!(!today)": Not(Not(TODAY)),
    "(today)&(p1)": And((TODAY, HIGH)),
    "no date&no labels": And((NoDate(), NoLabels())),
    "7 days|no time": Or((NextDays(7), NoTime())),
    "completed|open": Or((COMPLETED, OPEN)),
    "completed & completed: today": And((COMPLETED, Dated("completed", "on", FromToday(0)))),
    "search: milk & today": And((MILK, TODAY)),
    '(search: milk)|"milk"': Or((MILK, MILK)),
    # the examples of the language
    "#Work & priority: high & !@waiting": And((in_list("Work"), HIGH, Not(label("waiting")))),
    '(due before: +7 days & no parent) | search: "tax return"': Or(
        (
            And((Dated("due", "before", FromToday(7)), NoParent())),
            Search(("tax", "return")),
        )
    ),
}


@pytest.mark.parametrize("text", TREES)
def test_a_query_is_read_into_its_tree(text: str) -> None:
    assert parse(text) == TREES[text]


@pytest.mark.parametrize("text", TREES)
def test_what_is_read_is_spelled_so_that_it_is_read_again(text: str) -> None:
    assert parse(spell(TREES[text])) == TREES[text]


@pytest.mark.parametrize(
    ("text", "spelled"),
    [
        ("  TODAY|overdue ", "due: today | overdue"),
        ("p1&!(p2)", "priority: high & !priority: medium"),
        ("((p1|p2)&p3)|p4", "(priority: high | priority: medium) & priority: low | priority: none"),
        ("priority>=p2", "priority >= medium"),
        ("start on:+1 days", "start: tomorrow"),
        ("due after:-2 WEEKS", "due after: -2 weeks"),
        ("due: +1 months", "due: +1 month"),
        ("due: -0 weeks", "due: +0 weeks"),
        ("next 1 days", "1 day"),
        (r"#My\ list | @a\* | @b*", r'#"My list" | @"a\*" | @b*'),
        ('"Two   Words" & "One"', 'search: "two words" & search: one'),
        (f"parent: {UID.upper()}", f"parent: {UID}"),
        ("!(!today)", "!(!due: today)"),
        ("due: 2026-12-01T09:00+01:00", "due: 2026-12-01T08:00:00Z"),
    ],
)
def test_one_tree_has_one_text(text: str, spelled: str) -> None:
    assert spell(parse(text)) == spelled


# --- what is not understood: where, and what the sentence says ---

DAYS_TO_WRITE = "write today, tomorrow, yesterday, monday, +3 days, 2026-12-01 or 2026-12-01T09:00[Europe/Berlin]"
TIMES_TO_WRITE = (
    "is not a day or time of the years 1970 to 9999; write it as "
    "2026-12-01, 2026-12-01T09:00, 2026-12-01T09:00Z or 2026-12-01T09:00[Europe/Berlin]"
)
ONE_WORD = (
    "a day, its time and its offset are one word, as in 2026-12-01T09:00+01:00 "
    '(in a URL, "+" is written %2B)'
)
SEVERAL_WORDS = 'several words to search for need quotes, as in search: "two words"'
LEVELS = "high, medium, low or none, or p1 to p4"
NO_ID = "is not the id of a task; write its number, such as 42, or its uid"

WRONG: dict[str, tuple[int, str]] = {
    # nothing
    "": (1, "the query is empty; write a term, such as today"),
    "   ": (4, "the query is empty; write a term, such as today"),
    # a term is missing
    "today & ": (9, 'after "&" a term is missing'),
    "today &": (8, 'after "&" a term is missing'),
    "today & | p1": (9, 'after "&" a term is missing'),
    "today && p1": (8, 'after "&" a term is missing'),
    "today |": (8, 'after "|" a term is missing'),
    "!": (2, 'after "!" a term is missing'),
    "!&": (2, 'after "!" a term is missing'),
    "& today": (1, 'before "&" a term is missing'),
    "| today": (1, 'before "|" a term is missing'),
    ") today": (1, 'before ")" a term is missing'),
    ": today": (1, 'before ":" a term is missing'),
    "()": (2, 'after "(" a term is missing'),
    "(today & )": (10, 'after "&" a term is missing'),
    "(& today)": (2, 'after "(" a term is missing'),
    # an operator is missing
    "today tomorrow": (7, 'after "today" comes "&" or "|", not "tomorrow"'),
    "today (p1)": (7, 'after "today" comes "&" or "|", not "("'),
    "(p1) today": (6, 'after ")" comes "&" or "|", not "today"'),
    "(today p1)": (8, 'after "today" comes "&" or "|", not "p1"'),
    "today !p1": (7, 'after "today" comes "&" or "|", not "!"'),
    "today!p1": (6, 'after "today" comes "&" or "|", not "!"'),
    "today #Work": (7, 'after "today" comes "&" or "|", not "#Work"'),
    '@a"b"': (3, 'after "@a" comes "&" or "|", not "b" in quotes'),
    "today: p1": (6, 'after "today" comes "&" or "|", not ":"'),
    "open > p1": (6, 'after "open" comes "&" or "|", not ">"'),
    "#My list": (5, 'after "#My" comes "&" or "|", not "list"'),
    "7 days p1": (8, 'after "days" comes "&" or "|", not "p1"'),
    "today and overdue": (7, '"and" is not an operator; write "&"'),
    "today OR overdue": (7, '"OR" is not an operator; write "|"'),
    "today not overdue": (7, '"not" is not an operator; write "!"'),
    # brackets and quotes
    "(today": (7, 'a ")" is missing for the "(" in column 1'),
    "p1 & ((today)": (14, 'a ")" is missing for the "(" in column 6'),
    "today)": (6, 'this ")" closes no "("'),
    "(today))": (8, 'this ")" closes no "("'),
    '"two words': (1, "the quotes that open here are not closed"),
    '"': (1, "the quotes that open here are not closed"),
    'today & #"My list': (10, "the quotes that open here are not closed"),
    r'"ends with \"': (1, "the quotes that open here are not closed"),
    'search: don"t': (12, "the quotes that open here are not closed"),
    "#a\\": (4, 'after "\\" a character is missing'),
    '"a\\': (4, 'after "\\" a character is missing'),
    # no term
    "overdu": (1, '"overdu" is not a term; did you mean "overdue"?'),
    "today | TOMOROW": (9, '"TOMOROW" is not a term; did you mean "tomorrow"?'),
    "subtasks": (1, '"subtasks" is not a term; did you mean "subtask"?'),
    "today, overdue": (1, '"today," is not a term; did you mean "today"?'),
    "priority=high": (1, '"priority=high" is not a term; did you mean "priority: high"?'),
    "monday": (1, '"monday" is not a term; did you mean "due: monday"?'),
    "High": (1, '"High" is not a term; did you mean "priority: high"?'),
    "done": (1, '"done" is not a term; did you mean "completed"?'),
    "inbox": (1, '"inbox" is not a term; did you mean "#Inbox"?'),
    "not today": (1, '"not" is not a term; did you mean "!"?'),
    "milk": (1, '"milk" is not a term; to search for it, write search: milk'),
    "Zürich-West": (
        1,
        '"Zürich-West" is not a term; to search for it, write search: "zurich west"',
    ),
    r"\today": (1, r'"\today" is not a term; did you mean "today"?'),
    "???": (1, '"???" is not a term'),
    "-": (1, '"-" is not a term'),
    f"@a & {'x' * 60}": (
        6,
        f'"{"x" * 40}…" is not a term; to search for it, write search: {"x" * 60}',
    ),
    "٣ days": (1, '"٣" is not a term; to search for it, write search: ٣'),
    "🛒🛒 & milk": (1, '"🛒🛒" is not a term'),
    "@🛒🛒 & milk": (7, '"milk" is not a term; to search for it, write search: milk'),
    # no …, … days
    "no": (3, 'after "no" comes date, time, labels or parent'),
    "no dates": (
        4,
        'after "no" comes date, time, labels or parent, not "dates"; did you mean "date"?',
    ),
    "no & p1": (4, 'after "no" comes date, time, labels or parent, not "&"'),
    '"no" & no "date"': (11, 'after "no" comes date, time, labels or parent, not "date" in quotes'),
    "7": (2, 'after "7" comes "days"'),
    "7 weeks": (3, 'after "7" comes "days", not "weeks"'),
    "7 dayz": (3, 'after "7" comes "days", not "dayz"; did you mean "day"?'),
    "next": (5, 'after "next" comes a number of days'),
    "next week": (6, 'after "next" comes a number of days, not "week"'),
    "next 7": (7, 'after "7" comes "days"'),
    "0 days": (1, '"0 days" is no time at all; write "1 day" for today'),
    "next 18251 days": (6, '"18251 days" is too far; at most 18,250 days'),
    "-1 days": (1, '"-1" is not a term; to search for it, write search: 1'),
    # fields
    "due": (4, 'after "due" comes ":", "before:" or "after:"'),
    "due today": (5, 'after "due" comes ":", "before:" or "after:", not "today"'),
    "start & p1": (7, 'after "start" comes ":", "before:" or "after:", not "&"'),
    "created befor: today": (
        9,
        'after "created" comes ":", "before:" or "after:", not "befor"; did you mean "before"?',
    ),
    "due before": (11, 'after "before" comes ":"'),
    "due before today": (12, 'after "before" comes ":", not "today"'),
    "completed on today": (14, 'after "on" comes ":", not "today"'),
    "completed today": (11, 'after "completed" comes "&" or "|", not "today"'),
    "deadline: today": (1, '"deadline" is not a term; to search for it, write search: deadline'),
    # days and times
    "due:": (5, 'after ":" comes a day, such as today or 2026-12-01'),
    "due: | p1": (6, 'after ":" comes a day, such as today or 2026-12-01, not "|"'),
    "due: soon": (6, f'"soon" is not a day; {DAYS_TO_WRITE}'),
    "due: tomorow": (6, '"tomorow" is not a day; did you mean "tomorrow"?'),
    "due: mon": (6, '"mon" is not a day; did you mean "monday"?'),
    "due: #Work": (6, f'"#Work" is not a day; {DAYS_TO_WRITE}'),
    'due: "today"': (6, 'a day is written without quotes, not "today"'),
    "due: 2026-13-01": (6, f'"2026-13-01" {TIMES_TO_WRITE}'),
    "due: 2026-02-29": (6, f'"2026-02-29" {TIMES_TO_WRITE}'),
    "due: 01.12.2026": (6, f'"01.12.2026" {TIMES_TO_WRITE}'),
    "due: 1969-12-31": (6, f'"1969-12-31" {TIMES_TO_WRITE}'),
    "due: 1970-01-01T00:00+01:00": (6, f'"1970-01-01T00:00+01:00" {TIMES_TO_WRITE}'),
    "due: 10000-01-01": (6, f'"10000-01-01" {TIMES_TO_WRITE}'),
    "due: 2026-12-01T24:00": (6, f'"2026-12-01T24:00" {TIMES_TO_WRITE}'),
    "due: 2026-12-01T09:00[Europe/Paradise]": (
        6,
        f'"2026-12-01T09:00[Europe/Paradise]" {TIMES_TO_WRITE}',
    ),
    "due: 2026-12-01T09:00+05:00[Europe/Berlin]": (
        6,
        f'"2026-12-01T09:00+05:00[Europe/Berlin]" {TIMES_TO_WRITE}',
    ),
    "due: 2026-12-01T9:5x": (6, f'"2026-12-01T9:5x" {TIMES_TO_WRITE}'),
    "due: 2026-12-01 09:00": (17, ONE_WORD),
    "due: 2026-12-01T09:00 01:00": (23, ONE_WORD),
    "due: 2026-12-01 p1": (17, 'after "2026-12-01" comes "&" or "|", not "p1"'),
    "due before: 7 days": (
        13,
        '"7 days" has no sign; write "+7 days" (in a URL, "+" is written %2B)',
    ),
    "due: 7": (6, f'"7" {TIMES_TO_WRITE}'),
    "due: +7": (8, 'after "+7" comes days, weeks or months'),
    "due: +7 years": (9, 'after "+7" comes days, weeks or months, not "years"'),
    "due: +7 week & p1 & due: -2 weks": (
        29,
        'after "-2" comes days, weeks or months, not "weks"; did you mean "weeks"?',
    ),
    "due: +": (6, f'"+" is not a day; {DAYS_TO_WRITE}'),
    "due: + 3 days": (6, f'"+" is not a day; {DAYS_TO_WRITE}'),
    "due: +3days": (6, f'"+3days" is not a day; {DAYS_TO_WRITE}'),
    "due: +٣ days": (6, f'"+٣" is not a day; {DAYS_TO_WRITE}'),
    "due: +18251 days": (6, '"+18251 days" is too far; at most 18,250 days'),
    "due: -18251 days": (6, '"-18251 days" is too far; at most 18,250 days'),
    "due: +2601 weeks": (6, '"+2601 weeks" is too far; at most 2,600 weeks'),
    "due: -601 months": (6, '"-601 months" is too far; at most 600 months'),
    # priority
    "priority": (9, 'after "priority" comes ":", ">", ">=", "<" or "<="'),
    "priority high": (10, 'after "priority" comes ":", ">", ">=", "<" or "<=", not "high"'),
    "priority = high": (10, 'after "priority" comes ":", ">", ">=", "<" or "<=", not "="'),
    "priority:": (10, f'after ":" comes {LEVELS}'),
    "priority >": (11, f'after ">" comes {LEVELS}'),
    "priority > = low": (12, f'after ">" comes {LEVELS}, not "="'),
    "priority: urgent": (11, f'after ":" comes {LEVELS}, not "urgent"'),
    "priority: hihg": (11, f'after ":" comes {LEVELS}, not "hihg"; did you mean "high"?'),
    "priority: p5": (11, f'after ":" comes {LEVELS}, not "p5"'),
    # names
    "#": (1, 'after "#" a name is missing'),
    "# Work": (1, 'after "#" a name is missing'),
    '#""': (1, 'after "#" a name is missing'),
    '#"  "': (1, 'after "#" a name is missing'),
    "p1 & @": (6, 'after "@" a name is missing'),
    "@(a)": (1, 'after "@" a name is missing'),
    # parents
    "parent": (7, 'after "parent" comes ":"'),
    "parent 42": (8, 'after "parent" comes ":", not "42"'),
    "parent:": (8, 'after ":" comes the id of a task'),
    "parent: x": (9, f'"x" {NO_ID}'),
    "parent: 0": (9, f'"0" {NO_ID}'),
    "parent: -1": (9, f'"-1" {NO_ID}'),
    "parent: ٣": (9, f'"٣" {NO_ID}'),
    "parent: 9223372036854775808": (9, f'"9223372036854775808" {NO_ID}'),
    f"parent: {UID[:-1]}": (9, f'"{UID[:-1]}" {NO_ID}'),
    f"parent: {UID.replace('-', '')}": (9, f'"{UID.replace("-", "")}" {NO_ID}'),
    f'parent: "{UID[:8]}"': (9, f'"{UID[:8]}" {NO_ID}'),
    # search
    "search": (7, 'after "search" comes ":"'),
    "search milk": (8, 'after "search" comes ":", not "milk"'),
    "search:": (8, 'after ":" comes a word, or several as in "two words"'),
    "search: & p1": (9, 'after ":" comes a word, or several as in "two words", not "&"'),
    "search: two words": (13, SEVERAL_WORDS),
    'search: two "words"': (13, SEVERAL_WORDS),
    "search: two #words": (13, SEVERAL_WORDS),
    "search: e-mail": (9, SEVERAL_WORDS),
    r"search: two\ words": (9, SEVERAL_WORDS),
    "search: *": (9, '"*" has no letter or digit to search for'),
    'search: ""': (9, '"" has no letter or digit to search for'),
    '"…"': (1, '"…" has no letter or digit to search for'),
    "search: a:b": (10, 'after "a" comes "&" or "|", not ":"'),
    # what PostgreSQL cannot keep
    "#a\0b": (3, "the character U+0000 cannot be in a query"),
    '"\ud83d"': (2, "the character U+D83D cannot be in a query"),
    # too much
    "today|" * 50 + "p1": (301, "a query has at most 50 terms"),
    "(" * 21 + "today": (21, "brackets are at most 20 deep"),
    "today & " + "!(" * 21 + "today": (50, "brackets are at most 20 deep"),
    f"#{'x' * 1000}": (1001, "a query has at most 1,000 characters, not 1,001"),
    "🛒" * 1234: (1001, "a query has at most 1,000 characters, not 1,234"),
}


@pytest.mark.parametrize("text", WRONG, ids=[repr(text[:40]) for text in WRONG])
def test_a_mistake_has_its_column_and_a_sentence(text: str) -> None:
    column, wrong = WRONG[text]
    with pytest.raises(QueryError) as raised:
        parse(text)
    assert raised.value.sentence == f"query, column {column}: {wrong}"
    assert raised.value.column == column
    assert str(raised.value) == raised.value.sentence


@pytest.mark.parametrize(
    "text", ["overdu", "monday", "High", "done", "inbox", "milk", "Zürich-West"]
)
def test_what_a_sentence_proposes_is_a_query(text: str) -> None:
    [proposed] = re.findall(r'did you mean "(.+)"\?|write (.+)', WRONG[text][1])
    parse("".join(proposed))


# --- limits ---


def test_so_much_is_allowed() -> None:
    most = parse("|".join(["p1"] * TERMS_MAX))
    assert most == Or((HIGH,) * TERMS_MAX)
    assert parse("(" * DEPTH_MAX + "p1" + ")" * DEPTH_MAX) == HIGH
    assert parse("(p1)&" * (TERMS_MAX - 1) + "(p1)") == And((HIGH,) * TERMS_MAX)
    longest = f"#{'x' * (LENGTH_MAX - 1)}"
    assert parse(longest) == in_list(longest[1:])


@pytest.mark.parametrize(
    "text",
    [
        "!" * 1000,
        "!" * 998 + "p1",
        "(" * 1000,
        "!(" * 500,
        ")" * 1000,
        "&" * 1000,
        "\\" * 1000,
        '"' * 1000,
        "[" * 1000,
        "#*" * 500,
        "due:" * 250,
        "no " * 333,
        f"due: {'9' * 990}",
        f"due: +{'9' * 980} days",
        f"{'9' * 990} days",
        f"parent: {'9' * 990}",
    ],
)
def test_nothing_is_too_much_for_the_parser(text: str) -> None:
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(depth_here() + 150)
    try:
        outcome(text)
    finally:
        sys.setrecursionlimit(limit)


def depth_here() -> int:
    frame, depth = sys._getframe(), 0
    while frame.f_back:
        frame, depth = frame.f_back, depth + 1
    return depth


# --- what a query means that says nothing of open and completed ---


@pytest.mark.parametrize(
    "text",
    [
        "open",
        "completed",
        "all",
        "!completed",
        "p1 & (today | all)",
        "completed: today",
        "completed on: today",
        "completed before: today",
        "p1 | !(completed after: today)",
    ],
)
def test_a_query_with_a_status_stays_as_it_is(text: str) -> None:
    assert with_default_status(parse(text)) == parse(text)


@pytest.mark.parametrize(
    "text",
    ["today", "today | p1", "!(p1 & @completed)", "#open", '"completed"', "created: today"],
)
def test_any_other_query_means_open_tasks(text: str) -> None:
    assert with_default_status(parse(text)) == And((OPEN, parse(text)))


# --- every tree ---

HOSTILE = st.one_of(
    st.text(st.sampled_from("ab*\\\"'|&!()@#:<>=[]+- \t\n%_,;$é\u0301İß١🛒\u200b"), max_size=8),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8),
)
NAMES = (
    st.lists(HOSTILE, min_size=1, max_size=3)
    .map(lambda parts: Name(tuple(parts)))
    .filter(lambda name: "*".join(name.parts).strip())
)
ZONES = ["", "Z", "+05:45", "[Europe/Berlin]", "[!America/New_York]", "[Etc/GMT+3][u-ca=iso8601]"]
DATES = st.dates(date(1970, 1, 2), date(9999, 12, 30)).map(str)
CLOCKS = st.builds("T{:%H:%M:%S}{}".format, st.times(), st.sampled_from(ZONES))
WRITTEN = DATES | st.builds("{}{}".format, DATES, CLOCKS)


def counted(unit: Unit) -> st.SearchStrategy[FromToday]:
    most = FARTHEST[unit]
    return st.builds(FromToday, st.integers(-most, most), st.just(unit))


DAYS = st.one_of(
    WRITTEN.map(lambda text: At(times.read(text).text)),
    *map(counted, get_args(Unit)),
    st.builds(Weekday, st.integers(0, 6)),
)
TERMS: st.SearchStrategy[Term] = st.one_of(
    st.builds(Status, st.sampled_from(["open", "completed", "all"])),
    st.builds(Dated, st.sampled_from(get_args(Field)), st.sampled_from(get_args(When)), DAYS),
    st.sampled_from([Overdue(), NoDate(), NoTime(), NoLabels(), Subtask(), NoParent()]),
    st.builds(NextDays, st.integers(1, FARTHEST["day"])),
    st.builds(Priority, st.sampled_from(get_args(Comparison)), st.sampled_from(get_args(Level))),
    st.builds(Label, NAMES),
    st.builds(InList, NAMES),
    st.builds(Parent, st.integers(1, ID_MAX) | st.uuids()),
    HOSTILE.map(lambda text: Search(tuple(texts.words(text)))).filter(lambda search: search.words),
)


def joined(parts: st.SearchStrategy[Node]) -> st.SearchStrategy[Node]:
    several = st.lists(parts, min_size=2, max_size=3).map(tuple)
    return st.builds(Not, parts) | st.builds(And, several) | st.builds(Or, several)


NODES: st.SearchStrategy[Node] = st.recursive(TERMS, joined, max_leaves=8)


@given(NODES.filter(lambda node: len(spell(node)) <= LENGTH_MAX))
@settings(database=None, deadline=None, max_examples=200)
def test_every_tree_is_read_back_from_its_text(node: Node) -> None:
    assert parse(spell(node)) == node


def test_every_kind_of_term_is_in_the_table() -> None:
    """So that a term which the language gets later is tried here too."""
    kinds = set(get_args(Term))
    assert kinds == {type(node) for node in TREES.values()} - {And, Or, Not}


# --- every text ---

FRAGMENTS = [
    *SIGNS,
    *("open", "completed", "all", "today", "tomorrow", "yesterday", "overdue", "monday", "subtask"),
    *("no", "date", "time", "labels", "parent", "next", "7", "0", "days", "day", "week", "month"),
    *("due", "start", "created", "updated", "on", "before", "after", "priority", "high", "p1"),
    *("search", "milk", "+3", "-2", "+99999", "2026-12-01", "T09:00", "Z", "+01:00", "[", "!"),
    *("[Europe/Berlin]", "[u-ca=gregory]", "9999-12-31T23:59-12:00", "1970-01-01T00:00", UID, "42"),
    *("#", "@", '"', '"', "\\", "*", " ", " ", " ", "  ", "\t", "\n", ",", "=", "and", "overdu"),
    *("é", "e\u0301", "İ", "ß", "١", "²", "🛒", "\u200b", "\u2028", "\0", "\ud800", "\U0010ffff"),
]
GOOD = [text for text in TREES if len(text) < 60]


def outcome(text: str) -> Node | QueryError:
    """The tree or the mistake, which both must be sound. Any other exception is a bug."""
    try:
        node = parse(text)
    except QueryError as mistake:
        return sound(mistake, text)
    spelled = spell(node)
    assert len(spelled) > LENGTH_MAX or parse(spelled) == node
    return node


def sound(mistake: QueryError, text: str) -> QueryError:
    assert 1 <= mistake.column <= min(len(text), LENGTH_MAX) + 1
    assert mistake.sentence.startswith(f"query, column {mistake.column}: ")
    assert len(mistake.sentence) < 300 + len(text)
    return mistake


def random_text(source: random.Random) -> str:
    """Fragments, or any characters, or queries of which something was changed."""
    match source.randrange(8):
        case 0:
            return "".join(chr(source.randrange(0x110000)) for _ in range(source.randint(0, 12)))
        case 1 | 2 | 3:
            return "".join(source.choices(FRAGMENTS, k=source.randint(0, 12)))
        case _:
            operator = source.choice([" & ", "|", "&!", " "])
            return changed(operator.join(source.choices(GOOD, k=source.randint(1, 3))), source)


def changed(text: str, source: random.Random) -> str:
    for _ in range(source.randint(0, 2)):
        at = source.randint(0, len(text))
        text = text[:at] + source.choice(FRAGMENTS) + text[at + source.randint(0, 2) :]
    return text


def random_outcomes(count: int, seed: int) -> Counter[str]:
    """How many of so many random texts are trees, and how many are mistakes."""
    source = random.Random(seed)
    found: Counter[str] = Counter()
    for _ in range(count):
        text = random_text(source)
        try:
            is_mistake = isinstance(outcome(text), QueryError)
        except Exception as bug:
            raise AssertionError(f"{text!r} is too much for the parser") from bug
        found["mistakes" if is_mistake else "trees"] += 1
    return found


def test_no_random_text_raises_anything_but_a_query_error() -> None:
    found = random_outcomes(4000, seed=1)
    assert found["trees"] > 400
    assert found["mistakes"] > 400


if __name__ == "__main__":
    print(dict(random_outcomes(int(sys.argv[1]), seed=random.randrange(2**32))))
