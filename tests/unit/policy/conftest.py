"""Whatever the policy's tests make the loader say is held to come out of a log as it went in."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from sentinel_ext.errors import ConfigError
from sentinel_ext.policy import loader
from sentinel_ext.policy.ratelimit import files
from sentinel_ext.telemetry.redaction import Redactor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

_line = Redactor().line


@pytest.fixture(autouse=True)
def texts_survive(monkeypatch):
    """Listen to all problems and warnings; each is logged alone, and in twos, which look like pairs."""
    texts: list[str] = []

    def listening(does: Callable[..., Sequence[str]]) -> Callable[..., Sequence[str]]:
        def heard(*arguments: object) -> Sequence[str]:
            found = does(*arguments)
            texts.extend(found)
            return found

        return heard

    def init(error: ConfigError, problems: Iterable[str]) -> None:
        texts.extend(problems := [*problems])
        made(error, problems)

    made = ConfigError.__init__
    monkeypatch.setattr(ConfigError, "__init__", init)
    monkeypatch.setattr(loader, "_lines", listening(loader._lines))
    monkeypatch.setattr(files, "_shortened", listening(files._shortened))
    yield
    for text, other in zip(texts, texts[1:] + texts[:1], strict=True):
        line = {"message": text, "why": other, "problems": [text, other], "warnings": [other, text]}
        assert line == _line(line)
