"""From options to the text of a bootstrap file. Importing this loads Envoy's types (0.8 s)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Literal

import betterproto2
import yaml
from envoy_data_plane.envoy.config.bootstrap import v3 as bootstrap
from envoy_data_plane.envoy.config.core import v3 as core

from sentinel_ext.envoy_config.clusters import core_address, sentinel_cluster, upstream_cluster
from sentinel_ext.envoy_config.listener import make_listener
from sentinel_ext.envoy_config.metrics import admin_cluster, metrics_listener
from sentinel_ext.envoy_config.tracing import otlp_cluster

if TYPE_CHECKING:
    from sentinel_ext.envoy_config.options import BootstrapOptions

Format = Literal["yaml", "json"]

_HEAD = (
    "# Made by `sentinel-ext envoy-config` from Sentinel's settings: make it anew instead of editing it.\n"
)


def make_bootstrap(options: BootstrapOptions) -> bootstrap.Bootstrap:
    """Return the typed bootstrap: a listener, two clusters, admin; what spans and metrics need."""
    listeners = [make_listener(options)]
    clusters = [sentinel_cluster(options), upstream_cluster(options)]
    if options.otlp is not None:
        clusters.append(otlp_cluster(options.otlp))
    if options.metrics is not None:
        listeners.append(metrics_listener(options.metrics))
        clusters.append(admin_cluster(options.envoy_admin))
    return bootstrap.Bootstrap(
        node=core.Node(id="sentinel-envoy", cluster="sentinel"),
        admin=bootstrap.Admin(address=core_address(options.envoy_admin)),
        static_resources=bootstrap.BootstrapStaticResources(
            listeners=listeners,
            clusters=clusters,
        ),
    )


def render(options: BootstrapOptions, form: Format = "yaml") -> str:
    """Return the bootstrap as text that `envoy -c` reads. The same options give the same text."""
    tree = make_bootstrap(options).to_dict(casing=betterproto2.Casing.SNAKE)
    if form == "json":
        return json.dumps(tree, indent=2) + "\n"
    return _HEAD + yaml.safe_dump(tree, sort_keys=False, width=110)
