"""Environment → frozen Settings. Nothing else in the package reads the environment.

Every problem is found in one run, each told in one line: the variable, what was given, what is allowed.
"""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from dotenv.parser import parse_stream
from pydantic import PrivateAttr, ValidationError, ValidationInfo, field_validator
from pydantic_settings import (
    DotEnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from sentinel_ext.address import Address
from sentinel_ext.core.policy import PlanDefaults, UpstreamDefaults
from sentinel_ext.errors import SettingsError
from sentinel_ext.redis_url import RedisUrl, SecretUrl
from sentinel_ext.settings_logging import LogSettings
from sentinel_ext.settings_ratelimit import RateLimitSettings
from sentinel_ext.settings_redis import RedisCredentials
from sentinel_ext.settings_tracing import OtlpUrl, Propagators, TracingOptions, TracingSettings
from sentinel_ext.settings_types import (
    MICRO,
    FilePath,
    HeaderName,
    HttpUrl,
    Kind,
    ListenAddress,
    Number,
    OneOf,
    Switch,
    Whole,
    is_true,
)
from sentinel_ext.wording import did_you_mean, quoted

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pydantic_settings import BaseSettings

# A .env file holds two dozen lines; this stops an accidental /dev/zero or a dump.
MAX_ENV_FILE_BYTES = 1 << 20

# A machine for one Redis has no use for more: Redis answers some 150,000 windows a second on one core.
MAX_WORKERS = 64
DEBUG_GRPC_ADDRESS = Address(host="127.0.0.1", port=50052)

_HOUR_MS = 3_600_000
_MONTH_MS = 31 * 24 * _HOUR_MS


class Settings(TracingSettings, LogSettings, RateLimitSettings, RedisCredentials):
    """Everything the environment says, checked and frozen. `load` reads it; the constructor reads nothing.

    The field `window_ms` is the variable `WINDOW_MS`, and so on. Times are milliseconds.

    Attributes:
        base_rate_limit: admitted hits per window and tenant over all instances; None is unlimited.
        refill_rate: tokens per second.
        slo_latency_threshold: milliseconds.
    """

    model_config = SettingsConfigDict(
        frozen=True, extra="forbid", validate_default=True, hide_input_in_errors=True, case_sensitive=True
    )

    # Envoy's side: rendered into its configuration.
    port: Annotated[int, Whole(1, 65535)] = 3000
    downstream_url: Annotated[str, HttpUrl()] = "http://localhost:8080"
    # 0 would mean "no timeout" to Envoy: an upstream that hangs would hold connections for ever.
    request_timeout_ms: Annotated[int, Whole(1, 24 * _HOUR_MS, "milliseconds")] = 30_000
    fail_open: Annotated[bool, Switch()] = True

    # Our own servers. 127.0.0.1: none asks who calls, so the network must be chosen on purpose.
    grpc_server: Annotated[str, OneOf("lean", "grpcio")] = "lean"
    grpc_address: Annotated[Address, ListenAddress()] = Address(host="127.0.0.1", port=50051)
    # Each worker is a process with its own address: SO_REUSEPORT would spread Envoy's few connections badly.
    workers: Annotated[int, Whole(1, MAX_WORKERS, "processes")] = 1
    debug_grpc_address: Annotated[Address | None, ListenAddress(optional=True)] = DEBUG_GRPC_ADDRESS
    admin_address: Annotated[Address, ListenAddress()] = Address(host="127.0.0.1", port=9464)
    # The admin port asks nobody who calls; who only reads metrics must not be able to open a breaker.
    admin_actions: Annotated[bool, Switch()] = False

    # Who calls, and what a plan gives unless the policy file says otherwise.
    policy_file: Annotated[Path | None, FilePath()] = None
    tenant_header: Annotated[str, HeaderName()] = "x-tenant-id"
    burst_capacity: Annotated[int, Whole(0, 1_000_000)] = 20
    refill_rate: Annotated[float, Number(0, 1_000_000, "tokens per second")] = 10.0
    # Below 100 ms a sub-window is shorter than a slow trip to Redis; the policy file has the same bounds.
    window_ms: Annotated[int, Whole(100, _MONTH_MS, "milliseconds, up to 31 days")] = 60_000
    # Redis keeps a sub-window's count in 32 bits.
    base_rate_limit: Annotated[int | None, Whole(0, 1_000_000_000, unlimited=True)] = 100

    # The shared store. A deadline above Envoy's patience (200 ms by default) would never be met.
    redis_url: Annotated[SecretUrl, RedisUrl()] = SecretUrl(
        "redis://localhost:6379", "redis://localhost:6379/0"
    )
    store_timeout_ms: Annotated[int, Whole(1, 10_000, "milliseconds")] = 5

    # Circuit breaker. One failure in a million requests is no reason, a million in a row is too late.
    breaker_failure_threshold: Annotated[float, Number(0, 1, "share of failed requests", above=True)] = 0.5
    breaker_consecutive_failures: Annotated[int, Whole(1, 1_000_000)] = 10
    breaker_cooldown_ms: Annotated[int, Whole(100, _HOUR_MS, "milliseconds")] = 30_000
    breaker_half_open_max_requests: Annotated[int, Whole(1, 10_000)] = 5

    # What is seen of it.
    log_level: Annotated[str, OneOf("debug", "info", "warning", "error")] = "info"
    slo_latency_threshold: Annotated[int, Whole(1, _HOUR_MS, "milliseconds")] = 200
    enable_tracing: Annotated[bool, Switch()] = False
    otlp_endpoint: Annotated[str | None, OtlpUrl(optional=True)] = None
    otel_propagators: Annotated[str | None, Propagators()] = None

    _warnings: tuple[str, ...] = PrivateAttr(default=())

    @classmethod
    def load(cls, environ: Mapping[str, str] | None = None, env_file: Path | None = Path(".env")) -> Settings:
        """Read the environment and, for what is not set there, a `.env` file.

        Names are upper case. A variable that is empty or blank counts as not set.

        Args:
            environ: the environment; None is the process's own.
            env_file: a file of `NAME=value` lines; it need not exist. None reads no file.

        Raises:
            SettingsError: with all problems at once.
        """
        own = os.environ if environ is None else environ  # noqa: TID251 - this is the one place that reads it
        problems: list[str] = []
        from_file: Mapping[str, str | None] = {}
        try:
            from_file = cls._read_env_file(env_file) if env_file is not None else {}
        except SettingsError as error:
            problems += error.problems
        given = {**_set_values(cls, from_file), **_set_values(cls, own)}
        try:
            settings = cls(**given)
        except ValidationError as error:
            # Told outside of this block: the pydantic error holds what was given, secrets too.
            problems += [_problem(cls, str(found["loc"][0]), found, given) for found in error.errors()]
        if problems:
            raise SettingsError(problems)
        settings._warnings = (*_misspelt(cls, env_file, from_file), *_doubtful(settings))
        return settings

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is allowed but looks like a mistake, one line each, for the log at start."""
        return self._warnings

    @property
    def plan_defaults(self) -> PlanDefaults:
        """What a plan has where the policy file leaves it out."""
        return PlanDefaults(
            limit=self.base_rate_limit,
            window_us=self.window_ms * 1000,
            burst=self.burst_capacity,
            refill_nano=round(self.refill_rate * MICRO) * 1000,
            upstream=self.upstream_defaults,
        )

    @property
    def upstream_defaults(self) -> UpstreamDefaults:
        """What an upstream has where the policy file leaves it out."""
        return UpstreamDefaults(
            slo_us=self.slo_latency_threshold * 1000,
            timeout_us=self.request_timeout_ms * 1000,
            failure_threshold=self.breaker_failure_threshold,
            consecutive_failures=self.breaker_consecutive_failures,
            cooldown_ms=self.breaker_cooldown_ms,
            half_open_max=self.breaker_half_open_max_requests,
        )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - the signature is pydantic-settings'
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Take values from the constructor alone: what a test builds must not depend on its environment."""
        return (init_settings,)

    @property
    def tracing(self) -> TracingOptions | None:
        """How to trace; None while it is off, ENABLE_TRACING or OTEL_SDK_DISABLED."""
        if not self.enable_tracing or self.is_sdk_disabled:
            return None
        return self.tracing_options(self.otlp_endpoint)

    @property
    def grpc_addresses(self) -> tuple[Address, ...]:
        """Where the workers serve gRPC: GRPC_ADDRESS itself for one, else a range from it."""
        if self.workers == 1:
            return (self.grpc_address,)
        return tuple(self.grpc_address.nth(index) for index in range(self.workers))

    @property
    def debug_address(self) -> Address | None:
        """Where the debug port is: DEBUG_GRPC_ADDRESS; its default makes way for the workers' ports."""
        address = self.debug_grpc_address
        if address == DEBUG_GRPC_ADDRESS and address in self.grpc_addresses:
            return Address(address.host, self.grpc_addresses[-1].port + 1)
        return address

    @field_validator("workers")
    @classmethod
    def _have_addresses(cls, workers: int, info: ValidationInfo) -> int:
        address = info.data.get("grpc_address")
        if workers > 1 and address is not None:
            # One more: where the debug port's default moves to.
            address.nth(workers)
        return workers

    @field_validator("admin_address")
    @classmethod
    def _is_nobody_elses(cls, address: Address, info: ValidationInfo) -> Address:
        if address == info.data.get("grpc_address"):
            raise ValueError("GRPC_ADDRESS is the same, and two servers cannot share it")
        if address == info.data.get("debug_grpc_address"):
            raise ValueError("DEBUG_GRPC_ADDRESS is the same, and two servers cannot share it")
        return address

    @field_validator("debug_grpc_address")
    @classmethod
    def _is_not_the_grpc_address(cls, address: Address | None, info: ValidationInfo) -> Address | None:
        if address is not None and address == info.data.get("grpc_address"):
            raise ValueError("GRPC_ADDRESS is the same, and two servers cannot share it; or set it to off")
        return address

    @field_validator("redis_url")
    @classmethod
    def _is_shared_by_workers(cls, url: SecretUrl, info: ValidationInfo) -> SecretUrl:
        if info.data.get("workers", 1) > 1 and url.reveal().startswith("memory:"):
            raise ValueError("WORKERS are processes, which share no memory: name a Redis, or set WORKERS=1")
        if info.data.get("redis_password_file") is not None and "***@" in url.redacted:
            raise ValueError("REDIS_PASSWORD_FILE is set, so no user and password belong into the URL")
        if info.data.get("redis_username") is not None and info.data.get("redis_password_file") is None:
            raise ValueError(
                "REDIS_USERNAME is for REDIS_PASSWORD_FILE; a user in the URL stands before its password"
            )
        return url

    @field_validator("otlp_endpoint")
    @classmethod
    def _is_there_for_tracing(cls, endpoint: str | None, info: ValidationInfo) -> str | None:
        standard = "otel_exporter_otlp_endpoint", "otel_exporter_otlp_traces_endpoint"
        if endpoint is None and info.data.get("enable_tracing") and not any(map(info.data.get, standard)):
            raise ValueError("ENABLE_TRACING is true, so it is needed")
        return endpoint

    @field_validator("otel_propagators")
    @classmethod
    def _are_installed(cls, names: str | None, info: ValidationInfo) -> str | None:
        is_on = info.data.get("enable_tracing") and not is_true(info.data.get("otel_sdk_disabled"))
        missing = Propagators.missing(names) if names is not None and is_on else ()
        if missing:
            raise ValueError(f"not installed: {', '.join(map(quoted, missing))}")
        return names

    @classmethod
    def _read_env_file(cls, path: Path) -> Mapping[str, str | None]:
        """Return the variables of a `.env` file; `${NAME}` in it is resolved as python-dotenv does."""
        try:
            with path.open("rb") as file:
                content = file.read(MAX_ENV_FILE_BYTES + 1)
            text = content.decode("utf-8-sig")
        except FileNotFoundError:
            return {}
        except UnicodeDecodeError:
            raise SettingsError([f"{path}: is not UTF-8 text"]) from None
        except OSError as error:
            raise SettingsError([f"{path}: cannot be read: {error.strerror}"]) from None
        if len(content) > MAX_ENV_FILE_BYTES:
            raise SettingsError([f"{path}: is larger than {MAX_ENV_FILE_BYTES >> 20} MiB"])
        # python-dotenv only logs a line that it cannot read and goes on with the rest.
        wrong = [line.original.line for line in parse_stream(io.StringIO(text)) if line.error]
        if wrong:
            raise SettingsError(
                [f"{path}:{line}: is not NAME=value, NAME='value' or a # comment" for line in wrong]
            )
        return DotEnvSettingsSource(
            cls, env_file=path, env_file_encoding="utf-8-sig", case_sensitive=True
        ).env_vars


def _set_values(cls: type[Settings], source: Mapping[str, str | None]) -> dict[str, Any]:
    values = ((field, source.get(field.upper())) for field in cls.model_fields)
    return {field: value.strip() for field, value in values if value is not None and value.strip()}


def _problem(cls: type[Settings], field: str, error: Mapping[str, Any], given: Mapping[str, object]) -> str:
    """Tell one pydantic error as `NAME: got "x", allowed: y (why)`."""
    kind = next(kind for kind in cls.model_fields[field].metadata if isinstance(kind, Kind))
    got = kind.shown(given[field]) if field in given else "nothing"
    why = str(error.get("ctx", {}).get("error", ""))
    # An address that cannot be read says by itself what is allowed.
    adds = why and not why.startswith("allowed: ")
    return f"{field.upper()}: got {got}, allowed: {kind.allowed}" + (f" ({why})" if adds else "")


def _misspelt(cls: type[Settings], path: Path | None, names: Iterable[str]) -> list[str]:
    known = [field.upper() for field in cls.model_fields]
    guesses = ((name, did_you_mean(name, known)) for name in names if name not in known)
    return [
        f"{path}: {name} is not a variable of Sentinel and is ignored; {guess}"
        for name, guess in guesses
        if guess
    ]


def _doubtful(settings: Settings) -> list[str]:
    found = list(settings.tracing_warnings()) if settings.enable_tracing else []
    if settings.refill_rate == 0 and settings.burst_capacity:
        found.append(
            f"REFILL_RATE is 0: a tenant gets {settings.burst_capacity} requests (BURST_CAPACITY) and no more"
        )
    if settings.slo_latency_threshold >= settings.request_timeout_ms:
        found.append(
            f"SLO_LATENCY_THRESHOLD is {settings.slo_latency_threshold}, not below REQUEST_TIMEOUT_MS "
            f"({settings.request_timeout_ms}): whatever ends in time is good"
        )
    if settings.breaker_consecutive_failures == 1:
        found.append("BREAKER_CONSECUTIVE_FAILURES is 1: a single failed request opens the breaker")
    if settings.admin_actions and not settings.admin_address.is_local:
        found.append(
            f"ADMIN_ACTIONS is true and ADMIN_ADDRESS ({settings.admin_address}) is not local: "
            "whoever reaches it can open and close breakers"
        )
    return found
