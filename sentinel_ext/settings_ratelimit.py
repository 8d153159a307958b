"""Settings of RateLimitService, a part of Settings."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic_settings import BaseSettings

from sentinel_ext.core.ratelimit.rules import OnStoreFailure
from sentinel_ext.settings_types import FilePath, Number, OneOf, Switch


class RateLimitSettings(BaseSettings):
    """What the environment says of rate limits; files say the rest.

    Attributes:
        ratelimit_config_dir: folder of envoyproxy/ratelimit's YAML files; None serves the policy file's
            `ratelimit:` section, if it has one.
        ratelimit_near_limit_ratio: from which part of a limit on hits count as near it.
    """

    ratelimit_config_dir: Annotated[Path | None, FilePath()] = None
    ratelimit_merge_domains: Annotated[bool, Switch()] = False
    ratelimit_lenient: Annotated[bool, Switch()] = False
    ratelimit_shadow_mode: Annotated[bool, Switch()] = False
    ratelimit_quota_mode: Annotated[bool, Switch()] = False
    ratelimit_dynamic_metadata: Annotated[bool, Switch()] = False
    ratelimit_headers: Annotated[str, OneOf("off", "legacy", "draft", "all")] = "off"
    # As users of envoyproxy/ratelimit know it: Envoy's failure_mode_deny decides.
    ratelimit_on_store_failure: Annotated[str, OneOf(*OnStoreFailure)] = "error"
    ratelimit_near_limit_ratio: Annotated[float, Number(0, 1, "part of a limit")] = 0.8
    ratelimit_leases: Annotated[bool, Switch()] = True
