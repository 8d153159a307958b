"""Files of rate limits, in envoyproxy/ratelimit's format → compiled rules, or all their problems at once."""

from sentinel_ext.policy.ratelimit.files import load_rules, parse_rules, rules_of_section
from sentinel_ext.policy.ratelimit.rendering import render_tree, tree

__all__ = ["load_rules", "parse_rules", "render_tree", "rules_of_section", "tree"]
