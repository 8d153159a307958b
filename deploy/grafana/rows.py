"""What stands on the dashboard: rows of panels, each with its queries. dashboard.py makes Grafana's JSON of it.

Selections by the variables on top: `{$job}` namespace and job, `{$of}` these and the instance, `{$up}` adds the upstream,
`{$rl}` the rate limit domain. Of Envoy's: `{$envoy}` its namespace and job, `{$authz}` adds its filter, `{$cluster}` its
cluster of Sentinel. dashboard.py has what they are.
"""

from __future__ import annotations

from typing import NamedTuple


class Panel(NamedTuple):
    """One panel.

    Attributes:
        title: what it shows.
        text: what to make of it; stands behind the (i).
        queries: legend and PromQL.
        unit: Grafana's name of the unit.
        kind: Grafana's panel type.
        steps: values from which it is orange, and red.
        width: of 24.
        alert: the alert about it; its runbook is linked.
        names: words for numbers, such as states.
        exemplars: whether its first query brings exemplars, which lead to traces.
    """

    title: str
    text: str
    queries: dict[str, str]
    unit: str = "short"
    kind: str = "timeseries"
    steps: tuple[float | None, float | None] = (None, None)
    width: int = 8
    alert: str = ""
    names: dict[int, tuple[str, str]] = {}  # noqa: RUF012  a NamedTuple's defaults are not shared state here
    exemplars: bool = False


def quantiles(name: str, by: str = "", of: str = "$of") -> dict[str, str]:
    """Queries for p50 to p99.9 of a histogram."""
    grouping = f"le, {by}" if by else "le"
    legend = f"{{{{{by}}}}} " if by else ""
    return {
        f"{legend}p{q * 100:g}": (
            f"histogram_quantile({q:g}, sum by ({grouping}) (rate({name}_bucket{{{of}}}[$__rate_interval])))"
        )
        for q in (0.5, 0.9, 0.99, 0.999)
    }


def rate(name: str, by: str, labels: str = "$of") -> str:
    """Events per second."""
    return f"sum by ({by}) (rate({name}{{{labels}}}[$__rate_interval]))"


BREAKER_STATES = {0: ("closed", "green"), 1: ("open", "red"), 2: ("half-open", "orange")}
YES_NO = {0: ("no", "red"), 1: ("yes", "green")}
TIERS = "{{tier}}"

SLO = [
    Panel(
        "Budget left of 30 days",
        "What is left of the error budget, by tier. Negative: the objective is missed. Objectives: alerts.yaml. "
        "Prometheus keeps 15 days by itself; 30 need --storage.tsdb.retention.time=32d.",
        {TIERS: "min by (tier) (sentinel:slo_budget_left:30d{$job})"},
        unit="percentunit", kind="stat", steps=(0.5, 0.1), alert="SentinelBudgetBurnSlow",
    ),
    Panel(
        "Burn rate",
        "1 uses the budget up in just 30 days. A page: 14.4 over 1 h and 5 min, or 6 over 6 h and 30 min.",
        {
            "{{tier}} 5m": "max by (tier) (sentinel:slo_burn_rate:5m{$job})",
            "{{tier}} 1h": "max by (tier) (sentinel:slo_burn_rate:1h{$job})",
            "{{tier}} 6h": "max by (tier) (sentinel:slo_burn_rate:6h{$job})",
        },
        steps=(6, 14.4), alert="SentinelBudgetBurnFast",
    ),
    Panel(
        "Good requests",
        "Of the requests that we admitted or refused with 503: those that did not fail and were fast enough. A 429 "
        "is a tenant's own quota and does not count.",
        {TIERS: "sum by (tier) (rate(sentinel_slo_good_total{$of}[$__rate_interval])) / "
                "(sum by (tier) (rate(sentinel_slo_requests_total{$of}[$__rate_interval])) > 0)"},
        unit="percentunit",
    ),
]  # fmt: skip

RED = [
    Panel(
        "Decisions",
        "Check calls by verdict and reason.",
        {"{{verdict}} {{reason}}": rate("sentinel_decisions_total", "verdict, reason")},
        unit="reqps",
    ),
    Panel(
        "Time of a decision",
        "From the Check's arrival to its decision, the store's share included. Callers wait for it. "
        "Dots are exemplars: each leads to its trace, where tracing is on.",
        quantiles("sentinel_decision_duration_seconds"),
        unit="s", steps=(0.005, 0.05), alert="SentinelDecisionsSlow", exemplars=True,
    ),
    Panel(
        "Time of a decision, all of them",
        "The same as a heatmap, exemplars on it.",
        {"{{le}}": "sum by (le) (increase(sentinel_decision_duration_seconds_bucket{$of}[$__rate_interval]))"},
        unit="s", kind="heatmap", exemplars=True,
    ),
    Panel(
        "Requests by status",
        "Finished requests as Envoy's access log tells them; 0: the client got no answer.",
        {"{{status}}": rate("sentinel_http_requests_total", "status")},
        unit="reqps",
    ),
    Panel(
        "Failed requests by route",
        "5xx, and 0: the client got no answer; Sentinel's own 503 among them. The ten worst of at most 64 routes.",
        {"{{route}} {{status}}": "topk(10, "
            + rate("sentinel_http_requests_total", "route, status", '$of, status=~"0|5.."') + ")"},
        unit="reqps", alert="SentinelBudgetBurnFast",
    ),
    Panel(
        "p99 by route",
        "Whole requests, first byte to last. At most 64 routes have names.",
        {"{{route}}": "histogram_quantile(0.99, sum by (le, route) "
                      "(rate(sentinel_http_request_duration_seconds_bucket{$of}[$__rate_interval])))"},
        unit="s",
    ),
    Panel(
        "Own faults, calls given up",
        "Faults are answered as errors: Envoy goes by FAIL_OPEN. Given up: Envoy did not wait any longer.",
        {
            "faults": "sum(rate(sentinel_internal_errors_total{$of}[$__rate_interval]))",
            "Checks given up": "sum(rate(sentinel_checks_cancelled_total{$of}[$__rate_interval]))",
            "rate limit calls given up": "sum(rate(sentinel_ratelimit_cancelled_total{$of}[$__rate_interval]))",
        },
        unit="reqps", alert="SentinelInternalErrors",
    ),
]  # fmt: skip

LIMITS = [
    Panel(
        "Check: 429 by tier",
        "rate_limited: over the tenant's limit over all instances; local_rate_limited: over its burst here.",
        {"{{tier}} {{reason}}": rate(
            "sentinel_decisions_total", "tier, reason", '$of, reason=~"rate_limited|local_rate_limited"')},
        unit="reqps", alert="SentinelOverLimitSpike",
    ),
    Panel(
        "Check: shadow would refuse",
        "Requests that a stage in shadow let pass and would have refused.",
        {"{{stage}} {{tier}}": rate("sentinel_shadow_denials_total", "stage, tier")},
        unit="reqps", alert="SentinelShadowDivergence",
    ),
    Panel(
        "Rate limit service: requests",
        "ShouldRateLimit by verdict and cause.",
        {"{{verdict}} {{cause}}": rate("sentinel_ratelimit_decisions_total", "verdict, cause")},
        unit="reqps", alert="SentinelRateLimitErrors",
    ),
    Panel(
        "Rate limit service: hits",
        "All hits by how they stand to their limit. Near: above RATELIMIT_NEAR_LIMIT_RATIO.",
        {
            "within": "sum(rate(sentinel_ratelimit_within_limit_total{$rl}[$__rate_interval]))",
            "near": "sum(rate(sentinel_ratelimit_near_limit_total{$rl}[$__rate_interval]))",
            "over": "sum(rate(sentinel_ratelimit_over_limit_total{$rl}[$__rate_interval]))",
            "shadow": "sum(rate(sentinel_ratelimit_shadow_total{$rl}[$__rate_interval]))",
        },
    ),
    Panel(
        "Rules most over their limit",
        "Hits per second over the limit, the ten worst rules.",
        {"{{domain}} {{rule}}": f"topk(10, {rate('sentinel_ratelimit_over_limit_total', 'domain, rule', '$rl')})"},
        alert="SentinelNearLimit",
    ),
    Panel(
        "Time of a rate limit request",
        "From arrival to answer.",
        quantiles("sentinel_ratelimit_duration_seconds"),
        unit="s", steps=(0.005, 0.02),
    ),
    Panel(
        "Answered without Redis",
        "Hits that were over their limit and known to be, and hits of leases taken ahead.",
        {
            "known to be over": "sum(rate(sentinel_ratelimit_over_limit_cached_total{$rl}[$__rate_interval]))",
            "leased and not spent": "sum(sentinel_ratelimit_leased_hits{$of})",
        },
    ),
    Panel(
        "Tenants and counters remembered",
        "Both tables are bounded; what is forgotten starts anew locally, limits in Redis stay.",
        {
            "tenants": "sum(sentinel_tenants{$of})",
            "counters": "sum(sentinel_ratelimit_counters{$of})",
            "tenants forgotten per second": "sum(rate(sentinel_tenants_evicted_total{$of}[$__rate_interval]))",
        },
    ),
    Panel(
        "Names that were ignored",
        "Tenant names that are too long or not printable, by where they stood.",
        {"{{source}} {{problem}}": rate("sentinel_identify_problems_total", "source, problem")},
        unit="reqps",
    ),
]  # fmt: skip

OVERLOAD = [
    Panel(
        "Shed",
        "503 shed by tier and cause: the fair share, the in-flight guard, or the instance's own state. Economy goes "
        "first, vital last.",
        {"{{upstream}} {{tier}} {{cause}}": rate("sentinel_sheds_total", "upstream, tier, cause", "$up")},
        unit="reqps", alert="SentinelShedRateHigh",
    ),
    Panel(
        "Breakers",
        "One per upstream, shared by all instances; an instance may see it a moment later.",
        {"{{upstream}}": "max by (upstream) (sentinel_circuit_breaker_state{$up})"},
        kind="state-timeline", alert="SentinelBreakerOpen", names=BREAKER_STATES,
    ),
    Panel(
        "Changes of breakers",
        "As each instance saw them.",
        {"{{upstream}} to {{to}}": "sum by (upstream, to) (increase(sentinel_circuit_breaker_transitions_total{$up}[$__rate_interval]))"},
    ),
    Panel(
        "Offered and credit",
        "What all instances were asked for, and what the upstream is trusted to serve. Scale by what is offered.",
        {
            "{{upstream}} offered": "max by (upstream) (sentinel_offered_requests_per_second{$up})",
            "{{upstream}} credit": "max by (upstream) (sentinel_credit_requests_per_second{$up})",
        },
        unit="reqps",
    ),
    Panel(
        "In flight",
        "Requests that passed and whose end was not heard yet.",
        {"{{upstream}} {{tier}}": "sum by (upstream, tier) (sentinel_active_requests{$up})"},
        alert="SentinelVitalShed",
    ),
    Panel(
        "Ends never heard",
        "Requests without an access log entry; results of an earlier epoch of a breaker.",
        {
            "{{upstream}} lost": rate("sentinel_requests_lost_total", "upstream", "$up"),
            "{{upstream}} stale": rate("sentinel_circuit_breaker_stale_results_total", "upstream", "$up"),
        },
        unit="reqps", alert="SentinelBlind",
    ),
]  # fmt: skip

PRESSURE = [
    Panel(
        "Pressure",
        "0 to 100: how hard an upstream is pressed; `all` over all upstreams; `instance` the worst instance itself.",
        {
            "{{upstream}}": "max by (upstream) (sentinel_pressure{$up})",
            "all": "max(sentinel_pressure_global{$of})",
            "instance": "max(sentinel_pressure_local{$of})",
        },
        steps=(50, 80), alert="SentinelPressureHigh",
    ),
    Panel(
        "Signals of upstreams",
        "The ramps behind pressure, 0 to 1.",
        {"{{upstream}} {{signal}}": "max by (upstream, signal) (sentinel_pressure_signal{$up})"},
        unit="percentunit",
    ),
    Panel(
        "Signals of instances",
        "Event loop lag, stalls for CPU, memory and disk (PSI), the store: the worst instance.",
        {"{{signal}}": 'max by (signal) (sentinel_pressure_signal{$of, upstream=""})'},
        unit="percentunit", alert="SentinelEventLoopLag",
    ),
    Panel(
        "Latency without load",
        "What the controller compares with.",
        {"{{upstream}}": "max by (upstream) (sentinel_baseline_latency_seconds{$up})"},
        unit="s",
    ),
    Panel(
        "Blind",
        "1 while access log entries should come and do not.",
        {"{{upstream}}": "max by (upstream) (sentinel_blind{$up})"},
        steps=(1, 1), alert="SentinelBlind",
    ),
    Panel(
        "Access log",
        "Entries by what became of them, and how far apart messages are; above 0.25 s the control loop is too slow.",
        {
            "{{result}}": rate("sentinel_access_log_entries_total", "result"),
            "seconds between messages": "max(sentinel_access_log_cadence_seconds{$of})",
            "streams": "sum(sentinel_access_log_streams{$of})",
        },
        alert="SentinelAccessLogSlow",
    ),
]  # fmt: skip

STORE = [
    Panel(
        "Redis can be asked",
        "By instance.",
        {"{{instance}}": "min by (instance) (sentinel_store_up{$of})"},
        kind="state-timeline", alert="SentinelStoreDown", names=YES_NO, width=6,
    ),
    Panel(
        "Time of a call",
        "One batched call; requests wait at most STORE_TIMEOUT_MS for it.",
        quantiles("sentinel_store_duration_seconds"),
        unit="s", steps=(0.002, 0.005), alert="SentinelStoreFallbacks", width=6,
    ),
    Panel(
        "Failed calls, decisions without Redis",
        "Faults of calls; decisions and rate limit requests that on_store_failure decided, by its mode.",
        {
            "{{fault}}": rate("sentinel_store_errors_total", "fault"),
            "fallback {{mode}}": rate("sentinel_store_fallbacks_total", "mode"),
            "rate limits {{mode}}": rate("sentinel_ratelimit_store_fallbacks_total", "mode"),
        },
        unit="reqps", width=6,
    ),
    Panel(
        "Windows in one call, instances",
        "Mean batch, and instances that share the store as last heard.",
        {
            "windows per call": "sum(rate(sentinel_store_batch_entries_sum{$of}[$__rate_interval])) / "
                                "sum(rate(sentinel_store_batch_entries_count{$of}[$__rate_interval]))",
            "instances": "max(sentinel_instances{$of})",
        },
        width=6,
    ),
]  # fmt: skip

RUNTIME = [
    Panel(
        "CPU", "Of one core, by instance; workers of an instance add up.",
        {"{{instance}}": rate("process_cpu_seconds_total", "instance")}, unit="percentunit", steps=(0.7, 0.9),
        width=6, alert="SentinelEventLoopLag",
    ),
    Panel(
        "Memory", "Resident, by instance.",
        {"{{instance}}": "sum by (instance) (process_resident_memory_bytes{$of})"}, unit="bytes", width=6,
    ),
    Panel(
        "Garbage collections", "By generation; the last one is the one that takes long.",
        {"generation {{generation}}": rate("python_gc_collections_total", "generation")}, unit="ops", width=6,
    ),
    Panel(
        "Open files", "By instance; a connection is one.",
        {
            "{{instance}}": "sum by (instance) (process_open_fds{$of})",
            "allowed": "min(process_max_fds{$of})",
        },
        width=6,
    ),
    Panel(
        "Connections, calls in flight", "Of the gRPC port.",
        {
            "connections": "sum(sentinel_wire_connections{$of})",
            "in flight": "sum(sentinel_wire_in_flight{$of})",
        },
        width=6,
    ),
    Panel(
        "Limits against hostile peers", "Limits of the wire that tripped.",
        {"{{reason}}": rate("sentinel_wire_trips_total", "reason")}, unit="ops", width=6, alert="SentinelWireTrips",
    ),
    Panel(
        "Dropped", "Log lines, spans and shown decisions that were dropped instead of waited for.",
        {
            "log lines": "sum(rate(sentinel_log_lines_dropped_total{$of}[$__rate_interval]))",
            "spans {{reason}}": rate("sentinel_spans_dropped_total", "reason"),
            "watched decisions": "sum(rate(sentinel_watch_missed_total{$of}[$__rate_interval]))",
        },
        unit="ops", width=6, alert="SentinelLogLinesDropped",
    ),
    Panel(
        "Spans exported, watchers", "Spans that the collector took, per second; open WatchDecisions streams.",
        {
            "spans": "sum(rate(sentinel_spans_exported_total{$of}[$__rate_interval]))",
            "watchers": "sum(sentinel_watchers{$of})",
        },
        width=6, alert="SentinelSpansDropped",
    ),
    Panel(
        "Files are in force", "No: the files are broken, the last good ones stay.",
        {"{{instance}}": "min by (instance) (sentinel_config_last_reload_ok{$of})"},
        kind="state-timeline", names=YES_NO, width=6, alert="SentinelConfigBroken",
    ),
    Panel(
        "Age of the configuration", "Since the one in force was loaded.",
        {"{{instance}}": "time() - max by (instance) (sentinel_config_last_success_timestamp_seconds{$of})"},
        unit="s", width=6,
    ),
    Panel(
        "Stages", "How each stage runs, and by whose word. An operator's outlives restarts.",
        {"{{stage}}: {{mode}} ({{source}})": "count by (stage, mode, source) (sentinel_stage_mode{$of} == 1)"},
        kind="stat", width=6, alert="SentinelStageOverridden",
    ),
    Panel(
        "Workers", "Ready ones, and how many were started again; with WORKERS above 1.",
        {
            "ready": "sum(sentinel_workers_ready{$of})",
            "restarts": "sum(increase(sentinel_worker_restarts_total{$of}[$__rate_interval]))",
        },
        width=6, alert="SentinelWorkerRestarts",
    ),
]  # fmt: skip

ENVOY = [
    Panel(
        "What Envoy counts of ext_authz",
        "error: no answer or an error; failure_mode_allowed: passed without a decision.",
        {name: f"sum(rate(envoy_http_ext_authz_{name}{{$authz}}[$__rate_interval]))"
         for name in ("ok", "denied", "error", "failure_mode_allowed", "disabled", "invalid")},
        unit="reqps", alert="SentinelFailOpen",
    ),
    Panel(
        "How long Envoy waits for Sentinel",
        "Both services and the health check; the way there included.",
        quantiles("envoy_cluster_upstream_rq_time", of="$cluster"),
        unit="ms", steps=(5, 50), alert="SentinelCheckErrors",
    ),
    Panel(
        "Sentinels that Envoy uses",
        "Healthy ones of all that it knows, the least of all Envoys.",
        {
            "healthy": "min(envoy_cluster_membership_healthy{$cluster})",
            "known": "max(envoy_cluster_membership_total{$cluster})",
        },
        alert="SentinelInstanceDown",
    ),
    Panel(
        "What Envoy counts of the rate limit filter",
        "By upstream, over five minutes. A stat_prefix of the filter changes the metric's name, so the name is matched, and "
        "kept as a label.",
        {
            f"{{{{envoy_cluster_name}}}} {word}":
                'sum by (envoy_cluster_name) (rate(label_replace({$envoy, __name__=~"envoy_cluster_ratelimit_(.+_)?' + word
                + '"}, "counter", "$0", "__name__", ".+")[5m:1m]))'
            for word in ("ok", "over_limit", "error", "failure_mode_allowed")
        },
        unit="reqps", width=12,
    ),
    Panel(
        "Access log entries to Sentinel",
        "Dropped ones are ends that Sentinel never hears.",
        {
            "written": "sum(rate(envoy_access_logs_grpc_access_log_logs_written{$envoy}[$__rate_interval]))",
            "dropped": "sum(rate(envoy_access_logs_grpc_access_log_logs_dropped{$envoy}[$__rate_interval]))",
        },
        unit="ops", width=12, alert="SentinelBlind",
    ),
]  # fmt: skip

ROWS = {
    "Objective": SLO,
    "Requests and decisions": RED,
    "Limits": LIMITS,
    "Shedding and breakers": OVERLOAD,
    "Pressure": PRESSURE,
    "Store": STORE,
    "Runtime": RUNTIME,
    "Envoy's view": ENVOY,
}
