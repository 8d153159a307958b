"""All that the operator's files say, from where the settings name them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from sentinel_ext.errors import PolicyError
from sentinel_ext.policy.contents import fingerprint
from sentinel_ext.policy.loader import load_policy
from sentinel_ext.policy.ratelimit import load_rules

if TYPE_CHECKING:
    from sentinel_ext.core.policy import Policy
    from sentinel_ext.settings import Settings


def load_all(settings: Settings) -> Policy:
    """Read POLICY_FILE and RATELIMIT_CONFIG_DIR as one whole.

    Raises:
        PolicyError: every problem of both.
    """
    problems: list[str] = []
    policy = rules = None
    folder = settings.ratelimit_config_dir
    digest = fingerprint(
        () if settings.policy_file is None else (settings.policy_file,), () if folder is None else (folder,)
    )
    try:
        policy = load_policy(settings.policy_file, settings.plan_defaults, settings.tenant_header)
    except PolicyError as error:
        problems += error.problems
    if folder is not None:
        try:
            rules = load_rules(
                folder, merge=settings.ratelimit_merge_domains, lenient=settings.ratelimit_lenient
            )
        except PolicyError as error:
            problems += error.problems
    if policy is not None and policy.ratelimit is not None and folder is not None:
        problems.append(
            f"{settings.policy_file}: ratelimit: RATELIMIT_CONFIG_DIR names {folder}, too; "
            "keep all rate limits in one of the two"
        )
    if policy is None or problems:
        raise PolicyError(problems)
    if rules is None:
        return replace(policy, digest=digest)
    warnings = (*policy.warnings, *rules.warnings)
    return replace(policy, ratelimit=rules, warnings=warnings, digest=digest)
