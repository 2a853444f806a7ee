"""One browser, two users: what it has kept of one is never shown to the other."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests import chromium
from tests.people import Person

# Each gets the same address twice. The second answer of each comes out of the cache, if the server
# says 304.
SCRIPT = """
  const seen = [];
  for (const token of TOKENS) {
    const reply = await fetch(URL_, { headers: { Authorization: `Bearer ${token}` } });
    const { data } = await reply.json();
    seen.push(data.map((task) => task.title));
  }
  return seen;
"""


@pytest.mark.skipif(
    chromium.program() is None,
    reason="chromium is not installed (Debian: apt-get install chromium)",
)
def test_a_browser_never_shows_one_user_the_trash_of_another(
    ada: Person, bob: Person, tmp_path: Path
) -> None:
    for whose in (ada, bob):
        whose.delete(whose.has(f"{whose.id}'s")["id"])
    url = f"{ada.client.base_url}/v1/trash"
    assert asked(url, [ada, bob, bob, ada, ada], tmp_path) == [
        [f"{whose.id}'s"] for whose in (ada, bob, bob, ada, ada)
    ]


def asked(url: str, people: list[Person], profile: Path) -> Any:
    """The titles that each of them is shown in turn, by the same browser."""
    tokens = json.dumps([whose.token for whose in people])
    return chromium.run(SCRIPT.replace("TOKENS", tokens).replace("URL_", json.dumps(url)), profile)
