"""A typed Envoy bootstrap from the settings. Importing this is cheap; rendering loads Envoy's types."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sentinel_ext.envoy_config.options import BootstrapOptions, options_from

if TYPE_CHECKING:
    from sentinel_ext.envoy_config.rendering import Format

__all__ = ["BootstrapOptions", "options_from", "render"]


def render(options: BootstrapOptions, form: Format = "yaml") -> str:
    """Return the bootstrap as text that `envoy -c` reads. The same options give the same text."""
    from sentinel_ext.envoy_config import rendering  # noqa: PLC0415  0.8 s, only when rendering

    return rendering.render(options, form)
