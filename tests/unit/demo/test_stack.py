"""Which Redis will do; the rest of the stack is shown by tests/e2e/test_demo.py."""

from __future__ import annotations

import pytest

from sentinel_ext.demo.probes import UNKNOWN
from sentinel_ext.demo.stack import NO_REDIS, require_redis
from sentinel_ext.errors import StartError


@pytest.mark.parametrize("version", ["6.0.0", "6.2.14", "7.4.1", "10.0", UNKNOWN, NO_REDIS])
def test_a_redis_that_may_be_new_enough_passes(version: str) -> None:
    require_redis(version, "")


def test_an_old_redis_is_told_with_the_remedy() -> None:
    with pytest.raises(
        StartError, match=r"Redis is 5\.0\.7, but Sentinel needs 6\.0 or newer: unset REDIS_URL"
    ):
        require_redis("5.0.7", "unset REDIS_URL")
