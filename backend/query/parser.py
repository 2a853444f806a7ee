"""The text of a query → its tree. The grammar of `|`, `&`, `!` and brackets, weakest first:

query    = either
either   = both { "|" both }
both     = negation { "&" negation }
negation = { "!" } part
part     = "(" either ")" | term
"""

from __future__ import annotations

from query.cursor import Cursor
from query.errors import QueryError, quoted
from query.terms import term
from query.tree import And, Dated, Node, Not, Or, Status, Term, terms
from query.vocabulary import SPOKEN_OPERATORS

LENGTH_MAX = 1000
TERMS_MAX = 50
DEPTH_MAX = 20


def parse(query: str) -> Node:
    """QueryError, and nothing else, if the text is no query."""
    if len(query) > LENGTH_MAX:
        raise QueryError(
            LENGTH_MAX + 1, f"a query has at most {LENGTH_MAX:,} characters, not {len(query):,}"
        )
    return _Parser(Cursor(query)).query()


def with_default_status(node: Node) -> Node:
    """A query that says nothing of what is open or completed means what is open."""
    if any(map(_says_status, terms(node))):
        return node
    return And((Status("open"), node))


def _says_status(term: Term) -> bool:
    return isinstance(term, Status) or (isinstance(term, Dated) and term.field == "completed")


class _Parser:
    """A function for each rule of the grammar."""

    def __init__(self, cursor: Cursor) -> None:
        self.cursor = cursor
        self.terms = 0
        self.depth = 0

    def query(self) -> Node:
        if self.cursor.is_at_end:
            raise self.error("the query is empty; write a term, such as today")
        node = self.either()
        if not self.cursor.is_at_end:
            raise self.out_of_place()
        return node

    def either(self) -> Node:
        parts = [self.both()]
        while self.cursor.take_if("|"):
            parts.append(self.both())
        return parts[0] if len(parts) == 1 else Or(tuple(parts))

    def both(self) -> Node:
        parts = [self.negation()]
        while self.cursor.take_if("&"):
            parts.append(self.negation())
        return parts[0] if len(parts) == 1 else And(tuple(parts))

    def negation(self) -> Node:
        """Two `!` undo each other. So a thousand of them are no deep tree."""
        is_negated = False
        while self.cursor.take_if("!"):
            is_negated = not is_negated
        part = self.part()
        return Not(part) if is_negated else part

    def part(self) -> Node:
        if self.cursor.here.text == "(":
            return self.brackets()
        if not self.cursor.is_at_value:
            raise self.no_term()
        self.terms += 1
        if self.terms > TERMS_MAX:
            raise self.error(f"a query has at most {TERMS_MAX} terms")
        return term(self.cursor)

    def brackets(self) -> Node:
        if self.depth == DEPTH_MAX:
            raise self.error(f"brackets are at most {DEPTH_MAX} deep")
        opening = self.cursor.take()
        self.depth += 1
        node = self.either()
        self.depth -= 1
        if self.cursor.is_at_end:
            raise self.error(f'a ")" is missing for the "(" in column {opening.column}')
        if not self.cursor.take_if(")"):
            raise self.out_of_place()
        return node

    # --- what is wrong at the cursor ---

    def error(self, wrong: str) -> QueryError:
        return QueryError(self.cursor.here.column, wrong)

    def no_term(self) -> QueryError:
        if self.cursor.is_at_start:
            return self.error(f"before {quoted(self.cursor.here.text)} a term is missing")
        return self.error(f"after {quoted(self.cursor.last.text)} a term is missing")

    def out_of_place(self) -> QueryError:
        """About what follows a term, and is neither an operator nor the end."""
        here = self.cursor.here
        if here.text == ")":
            return self.error('this ")" closes no "("')
        if here.key in SPOKEN_OPERATORS:
            sign = SPOKEN_OPERATORS[here.key]
            return self.error(f'{quoted(here.text)} is not an operator; write "{sign}"')
        return self.cursor.expected('"&" or "|"')
