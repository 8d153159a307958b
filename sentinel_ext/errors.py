"""Exceptions of Sentinel.

    SentinelError
    ├── ConfigError            what the operator wrote; exit code 2, all problems at once
    │   ├── SettingsError      an environment variable
    │   └── PolicyError        the policy file
    ├── StartError             what stands in the way of starting; exit code 1
    │   └── AddressInUseError  somebody else listens there
    ├── StoreError             the store did not do what it was asked (store/base.py)
    ├── UnknownNameError       no such upstream (inspection.py)
    └── NotAllowedError        acting is switched off (acting.py)

Refusing a request is not an exception: it is a Decision with a reason (core/model.py). Each class owns
its exit code and its gRPC status, so no catcher keeps a table.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from collections.abc import Sequence


class SentinelError(Exception):
    """Root of what Sentinel raises on purpose. `str(error)` is meant for the operator."""

    exit_code: ClassVar[int] = 1
    # gRPC status (grpc/grpc doc/statuscodes.md) where a call ends with it: INTERNAL.
    status: ClassVar[int] = 13


class ConfigError(SentinelError):
    """Configuration that cannot be used. `problems` holds one line for each, all of them.

    Attributes:
        problems: one operator-readable line per problem, in the order of the source.
    """

    exit_code: ClassVar[int] = 2

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems: tuple[str, ...] = tuple(problems)


class SettingsError(ConfigError):
    """One or more environment variables hold values that are not allowed."""


class PolicyError(ConfigError):
    """The policy file does not parse, or breaks its schema."""


class StartError(SentinelError):
    """Something outside the configuration stands in the way of starting."""


class AddressInUseError(StartError):
    """Another process listens on an address that Sentinel was told to use."""
