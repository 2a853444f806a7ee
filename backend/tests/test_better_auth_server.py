"""The Better Auth that the other tests get tokens from does as it is told. What it issues:
test_published_keys.py."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.better_auth_server import running_issuer


def test_it_ends_with_whoever_started_it(tmp_path: Path, empty_database: Callable[[], str]) -> None:
    with running_issuer(tmp_path, empty_database()) as issuer:
        process = issuer._process
        assert process is not None
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(10) == 0


def test_a_wrong_setting_is_refused(tmp_path: Path, database_url: str) -> None:
    with (
        pytest.raises(AssertionError, match="ALGORITHM is HS256; it must be one of EdDSA, ES256"),
        running_issuer(tmp_path, database_url, ALGORITHM="HS256"),
    ):
        pass
