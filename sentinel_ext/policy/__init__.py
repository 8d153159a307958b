"""The policy file: schema, loader, compiler into core.policy."""

from __future__ import annotations

from sentinel_ext.policy.loader import load_policy, parse_policy

__all__ = ["load_policy", "parse_policy"]
