"""What a mesh makes of the recipes in docs/install: a listener, routes and clusters with their pieces put in.

The names (`outbound|50051||…`, `shop/shop/http`) are what Istio 1.31, Envoy Gateway 1.9 and Cilium 1.20 give:
the pieces aim at them. What comes out is a bootstrap that a real Envoy takes; `localised` brings it home.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from support.json_patch import apply_patch
from support.manifests import RECIPES, documents

if TYPE_CHECKING:
    from collections.abc import Callable

TYPE = "type.googleapis.com/envoy"
MANAGER = "envoy.filters.network.http_connection_manager"
MANAGER_TYPE = f"{TYPE}.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
EXT_AUTHZ = "envoy.filters.http.ext_authz"
ROUTER = {
    "name": "envoy.filters.http.router",
    "typed_config": {"@type": f"{TYPE}.extensions.filters.http.router.v3.Router"},
}
HTTP2 = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
Bootstrap = dict[str, Any]


def plain() -> Bootstrap:
    """Return envoy/envoy.yaml, which is whole."""
    (bootstrap,) = documents(RECIPES / "envoy" / "envoy.yaml")
    return bootstrap


def istio_gateway() -> Bootstrap:
    """Return an ingress gateway with the provider `sentinel` and the three EnvoyFilters of the page."""
    names = ("access-log.yaml", "upstream.yaml", "rate-limit.yaml")
    patches = [patch for name in names for patch in _patches(f"istio/{name}", "GATEWAY")]
    service = "outbound|50051||sentinel.sentinel.svc.cluster.local"
    upstream = "outbound|8080||orders.shop.svc.cluster.local"
    return _istio("sentinel", service, ("shop.example.com:80", "orders", upstream), patches)


def istio_sidecar() -> Bootstrap:
    """Return the inbound side of a workload with the provider `sentinel-local`."""
    patches = _patches("istio/sidecar.yaml", "SIDECAR_INBOUND")
    route = ("inbound|http|8080", "default", "inbound|8080||")
    return _istio("sentinel-local", "outbound|50051||sentinel.local", route, patches)


def envoy_gateway() -> Bootstrap:
    """Return the listener `shop/shop/http` of a Gateway, with the EnvoyPatchPolicy applied."""
    name, filter_name = "shop/shop/http", f"{EXT_AUTHZ}/securitypolicy/shop/orders"
    asked, logged = "securitypolicy/shop/orders/extauth/0", "accesslog_als_0_0"
    upstream = "httproute/shop/orders/rule/0"
    policy = _kind("envoy-gateway/route.yaml", "SecurityPolicy")["spec"]["extAuth"]
    context = {entry["name"]: entry["value"] for entry in policy["contextExtensions"]}
    route = _route(f"{upstream}/match/0/shop_example_com", upstream)
    route["typed_per_filter_config"] = {filter_name: _per_route(context)}
    authz = {
        **_ext_authz(asked, policy["timeout"].replace("200ms", "0.2s"), policy["failOpen"]),
        "status_on_error": {"code": policy["statusOnError"]},
        "allowed_headers": {"patterns": [{"exact": header} for header in policy["headersToExtAuth"]]},
    }
    manager = _manager(
        [{"name": filter_name, "disabled": True, "typed_config": authz}, ROUTER], **_gateway_settings(logged)
    )
    clusters = [_cluster(asked), _cluster(logged), _cluster(upstream, http2=False)]
    resources: dict[str, dict[str, Any]] = {
        "Listener": {name: _listener(name, manager, "default_filter_chain")},
        "RouteConfiguration": {name: _routes(name, f"{name}/shop_example_com", route)},
        "Cluster": {cluster["name"]: cluster for cluster in clusters},
    }
    for patch in _kind("envoy-gateway/patch.yaml", "EnvoyPatchPolicy")["spec"]["jsonPatches"]:
        kind = resources[patch["type"].rpartition(".")[2]]
        kind[patch["name"]] = apply_patch(kind.get(patch["name"]), patch["operation"])
    bootstrap = _bootstrap(resources["Listener"][name], list(resources["Cluster"].values()))
    _managers(bootstrap)[0]["route_config"] = resources["RouteConfiguration"][name]
    return bootstrap


def _gateway_settings(cluster: str) -> dict[str, Any]:
    """Return what EnvoyProxy and ClientTrafficPolicy say of Envoy Gateway's listener."""
    proxy = _kind("envoy-gateway/gateway.yaml", "EnvoyProxy")["spec"]["telemetry"]["accessLog"]
    als = proxy["settings"][0]["sinks"][0]["als"]
    headers = _kind("envoy-gateway/gateway.yaml", "ClientTrafficPolicy")["spec"]["headers"]
    log = {
        "@type": f"{TYPE}.extensions.access_loggers.grpc.v3.HttpGrpcAccessLogConfig",
        "common_config": {
            "log_name": als["logName"],
            "transport_api_version": "V3",
            "grpc_service": {"envoy_grpc": {"cluster_name": cluster}},
        },
        "additional_response_headers_to_log": als["http"]["responseHeaders"],
        "additional_response_trailers_to_log": als["http"]["responseTrailers"],
    }
    return {
        "access_log": [{"name": "envoy.access_loggers.http_grpc", "typed_config": log}],
        "early_header_mutation_extensions": [_removal(headers["earlyRequestHeaders"]["remove"])],
    }


def cilium() -> Bootstrap:
    """Return the resources of the CiliumEnvoyConfig, with the routes in their place."""
    resources = _kind("cilium/envoy-config.yaml", "CiliumEnvoyConfig")["spec"]["resources"]
    by_kind: dict[str, list[Any]] = {}
    for resource in copy.deepcopy(resources):
        by_kind.setdefault(resource.pop("@type").rpartition(".")[2], []).append(resource)
    (listener,), (routes,) = by_kind["Listener"], by_kind["RouteConfiguration"]
    manager = _managers({"static_resources": {"listeners": [listener]}})[0]
    assert routes["name"] == manager.pop("rds")["route_config_name"]
    manager["route_config"] = routes
    return _bootstrap(listener, by_kind["Cluster"])


MESHES: dict[str, Callable[[], Bootstrap]] = {
    "envoy": plain,
    "istio": istio_gateway,
    "istio-sidecar": istio_sidecar,
    "envoy-gateway": envoy_gateway,
    "cilium": cilium,
}


def localised(
    bootstrap: Bootstrap, *, port: int, admin_port: int, sentinel_port: int, upstream_port: int
) -> Bootstrap:
    """Set addresses: the listener's, the admin's, and the clusters'; no route leads to one of Sentinel's."""
    made = copy.deepcopy(bootstrap)
    made["admin"] = {"address": _address("127.0.0.1", admin_port)}
    (listener,) = made["static_resources"]["listeners"]
    listener["address"] = _address("127.0.0.1", port)
    hosts = [host for manager in _managers(made) for host in manager["route_config"]["virtual_hosts"]]
    upstreams = {route["route"]["cluster"] for host in hosts for route in host["routes"]}
    assert len(upstreams) == 1
    for cluster in made["static_resources"]["clusters"]:
        # What discovers endpoints by the mesh gets them from us; a name keeps its kind of cluster.
        cluster["type"] = {"EDS": "STATIC"}.get(cluster["type"], cluster["type"])
        where = _address("127.0.0.1", upstream_port if cluster["name"] in upstreams else sentinel_port)
        cluster["load_assignment"] = {
            "cluster_name": cluster["name"],
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": where}}]}],
        }
    return made


def merged(base: Any, patch: Any) -> Any:
    """Merge as protobuf does: messages and maps by field, lists appended, the rest replaced."""
    if isinstance(base, dict) and isinstance(patch, dict):
        return {
            **base,
            **{key: merged(base[key], value) if key in base else value for key, value in patch.items()},
        }
    return [*base, *patch] if isinstance(base, list) and isinstance(patch, list) else patch


def _istio(provider: str, service: str, route: tuple[str, str, str], patches: list[Any]) -> Bootstrap:
    (values,) = documents(RECIPES / "istio" / "mesh-config.yaml")
    made = next(p for p in values["meshConfig"]["extensionProviders"] if p["name"] == provider)
    grpc = made["envoyExtAuthzGrpc"]
    # A namespace before the host only says which of several; the cluster has the host's name.
    assert service == f"outbound|{grpc['port']}||{grpc['service'].rpartition('/')[2]}"
    authz = {
        **_ext_authz(service, grpc["timeout"], grpc["failOpen"]),
        "status_on_error": {"code": int(grpc["statusOnError"])},
        "clear_route_cache": grpc["clearRouteCache"],
    }
    # As Istio writes it: "|" is no letter of an authority.
    authz["grpc_service"]["envoy_grpc"]["authority"] = service.replace("|", "_.")
    host, name, upstream = route
    manager = _manager(
        [{"name": EXT_AUTHZ, "typed_config": authz}, copy.deepcopy(ROUTER)],
        route_config=_routes("http.8080", host, _route(name, upstream)),
    )
    bootstrap = _bootstrap(
        _listener("0.0.0.0_8080", manager), [_cluster(service), _cluster(upstream, http2=False)]
    )
    for patch in patches:
        apply_envoy_filter(bootstrap, patch)
    return bootstrap


def apply_envoy_filter(bootstrap: Bootstrap, patch: dict[str, Any]) -> None:
    """Apply a patch of an EnvoyFilter; it must find what it aims at."""
    chain = bootstrap["static_resources"]["listeners"][0]["filter_chains"][0]
    match, value = patch["match"], patch["patch"]["value"]
    what = (patch["applyTo"], patch["patch"]["operation"])
    manager = chain["filters"][0]
    hosts = manager["typed_config"]["route_config"]["virtual_hosts"]
    if what in {("NETWORK_FILTER", "MERGE"), ("HTTP_FILTER", "INSERT_BEFORE")}:
        aim = match["listener"]["filterChain"]["filter"]
        assert manager["name"] == aim["name"]
    if what == ("NETWORK_FILTER", "MERGE"):
        assert manager["typed_config"]["@type"] == value["typed_config"]["@type"]
        chain["filters"][0] = merged(manager, value)
    elif what == ("HTTP_FILTER", "INSERT_BEFORE"):
        filters = manager["typed_config"]["http_filters"]
        filters.insert([f["name"] for f in filters].index(aim["subFilter"]["name"]), value)
    elif what == ("VIRTUAL_HOST", "MERGE"):
        hosts[:] = [merged(host, value) for host in hosts]
    else:
        assert what == ("HTTP_ROUTE", "MERGE"), what
        wanted = match.get("routeConfiguration", {}).get("vhost", {}).get("route", {}).get("name")
        for host in hosts:
            assert wanted in {None, *(route["name"] for route in host["routes"])}
            host["routes"] = [merged(r, value) if wanted in {None, r["name"]} else r for r in host["routes"]]


def _patches(name: str, context: str) -> list[dict[str, Any]]:
    patches: list[dict[str, Any]] = _kind(name, "EnvoyFilter")["spec"]["configPatches"]
    assert {context} == {patch["match"]["context"] for patch in patches}
    return copy.deepcopy(patches)


def _kind(name: str, kind: str) -> dict[str, Any]:
    return next(document for document in documents(RECIPES / name) if document["kind"] == kind)


def _managers(bootstrap: Bootstrap) -> list[dict[str, Any]]:
    chains = [
        chain
        for listener in bootstrap["static_resources"]["listeners"]
        for chain in (
            *listener.get("filter_chains", ()),
            *filter(None, [listener.get("default_filter_chain")]),
        )
    ]
    return [part["typed_config"] for chain in chains for part in chain["filters"] if part["name"] == MANAGER]


def _bootstrap(listener: dict[str, Any], clusters: list[dict[str, Any]]) -> Bootstrap:
    return {
        "node": {"id": "mesh", "cluster": "mesh"},
        "static_resources": {"listeners": [listener], "clusters": clusters},
    }


def _listener(name: str, manager: dict[str, Any], chain: str = "filter_chains") -> dict[str, Any]:
    made = {"filters": [{"name": MANAGER, "typed_config": manager}]}
    return {"name": name, chain: made if chain == "default_filter_chain" else [made]}


def _manager(http_filters: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    return {"@type": MANAGER_TYPE, "stat_prefix": "mesh", "http_filters": http_filters, **more}


def _ext_authz(cluster: str, timeout: str, fail_open: bool) -> dict[str, Any]:
    return {
        "@type": f"{TYPE}.extensions.filters.http.ext_authz.v3.ExtAuthz",
        "transport_api_version": "V3",
        "grpc_service": {"envoy_grpc": {"cluster_name": cluster}, "timeout": timeout},
        "failure_mode_allow": fail_open,
    }


def _per_route(context: dict[str, str]) -> dict[str, Any]:
    return {
        "@type": f"{TYPE}.extensions.filters.http.ext_authz.v3.ExtAuthzPerRoute",
        "check_settings": {"context_extensions": context},
    }


def _removal(headers: list[str]) -> dict[str, Any]:
    return {
        "name": "envoy.http.early_header_mutation.header_mutation",
        "typed_config": {
            "@type": f"{TYPE}.extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation",
            "mutations": [{"remove": header} for header in headers],
        },
    }


def _route(name: str, cluster: str) -> dict[str, Any]:
    return {"name": name, "match": {"prefix": "/"}, "route": {"cluster": cluster, "timeout": "2s"}}


def _routes(name: str, host: str, route: dict[str, Any]) -> dict[str, Any]:
    hosts = [{"name": host, "domains": ["*"], "routes": [route]}]
    return {"name": name, "virtual_hosts": hosts}


def _cluster(name: str, *, http2: bool = True) -> dict[str, Any]:
    explicit = {"@type": f"{TYPE}.{HTTP2[6:]}", "explicit_http_config": {"http2_protocol_options": {}}}
    more = {"typed_extension_protocol_options": {HTTP2: explicit}} if http2 else {}
    return {"name": name, "type": "EDS", "connect_timeout": "1s", **more}


def _address(host: str, port: int) -> dict[str, Any]:
    return {"socket_address": {"address": host, "port_value": port}}
