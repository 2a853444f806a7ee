"""A place among the tokens of a query. Whoever reads a rule of the grammar moves it on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeVar

from query.errors import QueryError, did_you_mean, quoted
from query.tokens import Token, tokens

T = TypeVar("T")


class Cursor:
    """`here` is the next token, `last` the one that was taken before."""

    def __init__(self, query: str) -> None:
        self._tokens = tokens(query)
        self.last = Token("start", "", 0)
        self.here = next(self._tokens)

    @property
    def is_at_start(self) -> bool:
        return self.last.kind == "start"

    @property
    def is_at_end(self) -> bool:
        return self.here.kind == "end"

    @property
    def is_at_value(self) -> bool:
        """Whether something is said here: a word, a name, or what is in quotes."""
        return self.here.kind not in ("sign", "end")

    def take(self) -> Token:
        """The token here. After the end there is only the end."""
        self.last, self.here = self.here, next(self._tokens, self.here)
        return self.last

    def take_if(self, sign: str) -> bool:
        is_here = self.here.text == sign
        if is_here:
            self.take()
        return is_here

    def take_value(self, what: str) -> Token:
        if not self.is_at_value:
            raise self.expected(what)
        return self.take()

    def choose(self, table: Mapping[str, T], what: str) -> T:
        """What `table` has for the token here. `what` says in words what may stand here."""
        if self.here.key not in table:
            raise self.expected(what, known=filter(str.isalnum, table))
        return table[self.take().key]

    def require(self, *keys: str) -> None:
        """Go past one of them. A sentence names the first."""
        self.choose(dict.fromkeys(keys), quoted(keys[0]))

    def expected(self, what: str, known: Iterable[str] = ()) -> QueryError:
        """That `what` should stand here, and does not; perhaps one of the `known` words was meant."""
        return QueryError(
            self.here.column, f"after {quoted(self.last.text)} comes {what}{self._instead(known)}"
        )

    def _instead(self, known: Iterable[str]) -> str:
        match self.here.kind:
            case "end":
                return ""
            case "quoted":
                return f", not {quoted(self.here.text)} in quotes"
            case _:
                return f", not {quoted(self.here.text)}{did_you_mean(self.here.key, known)}"
