"""Where spans go and who is sampled, as the environment says it."""

from __future__ import annotations

import pytest

from sentinel_ext.errors import SettingsError
from sentinel_ext.settings import Settings
from sentinel_ext.settings_tracing import MAX_QUEUED_SPANS, Target, target_of
from sentinel_ext.telemetry.metrics import Metrics
from sentinel_ext.tracing import make_tracing

ON = {"ENABLE_TRACING": "true"}
WORDS = {"grpc": "grpc", "http": "http/protobuf"}


def load(**environ: str) -> Settings:
    return Settings.load({**ON, **environ}, None)


@pytest.mark.parametrize(
    ("url", "protocol", "expected"),
    [
        ("http://c:4318/v1/traces", "", Target("http", "http://c:4318/v1/traces")),
        ("http://c:4318", "", Target("http", "http://c:4318/v1/traces")),
        ("http://c:4318/", "", Target("http", "http://c:4318/v1/traces")),
        ("https://c/otlp/v1/traces", "", Target("http", "https://c/otlp/v1/traces")),
        ("http://c:4317", "", Target("grpc", "http://c:4317")),
        ("https://c:4317/", "", Target("grpc", "https://c:4317")),
        ("http://c:4317/v1/traces", "", Target("http", "http://c:4317/v1/traces")),
        ("grpc://c", "", Target("grpc", "http://c:4317")),
        ("grpc://c:5000", "", Target("grpc", "http://c:5000")),
        ("grpcs://c:443", "", Target("grpc", "https://c:443")),
        ("grpc://[::1]:5000", "", Target("grpc", "http://[::1]:5000")),
        ("http://c:4318", "grpc", Target("grpc", "http://c:4318")),
        ("http://c:4317", "http", Target("http", "http://c:4317/v1/traces")),
        ("grpc://c", "http", Target("grpc", "http://c:4317")),
    ],
)
def test_the_endpoint_says_how_spans_are_sent(url, protocol, expected):
    assert expected == target_of(url, protocol)
    more = {"OTEL_EXPORTER_OTLP_PROTOCOL": WORDS[protocol]} if protocol else {}
    assert expected == load(OTLP_ENDPOINT=url, **more).tracing.target


@pytest.mark.parametrize(
    "url",
    ["collector:4317", "ftp://c", "grpc://", "grpc://c/path", "grpc://u:p@c", "http://c?x=1", "grpc://c:0"],
)
def test_an_endpoint_that_is_none_stops_the_start(url):
    with pytest.raises(SettingsError) as caught:
        load(OTLP_ENDPOINT=url)

    (problem,) = caught.value.problems
    assert problem.startswith("OTLP_ENDPOINT: got ")
    assert "u:p" not in problem


def test_the_standard_endpoints_do_where_ours_is_not_set():
    of_all = load(OTEL_EXPORTER_OTLP_ENDPOINT="http://c:4318/otlp")
    of_traces = load(OTEL_EXPORTER_OTLP_ENDPOINT="http://x", OTEL_EXPORTER_OTLP_TRACES_ENDPOINT="http://c/t")
    bare = load(OTEL_EXPORTER_OTLP_ENDPOINT="c:4317", OTEL_EXPORTER_OTLP_PROTOCOL="grpc")
    ours = load(OTEL_EXPORTER_OTLP_ENDPOINT="http://x", OTLP_ENDPOINT="grpc://c")

    assert Target("http", "http://c:4318/otlp/v1/traces") == of_all.tracing.target
    assert Target("http", "http://c/t") == of_traces.tracing.target
    assert Target("grpc", "http://c:4317") == bare.tracing.target
    assert Target("grpc", "http://c:4317") == ours.tracing.target


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, (True, 1.0)),
        ({"OTEL_TRACES_SAMPLER": "always_on"}, (False, 1.0)),
        ({"OTEL_TRACES_SAMPLER": "always_off"}, (False, 0.0)),
        ({"OTEL_TRACES_SAMPLER": "parentbased_always_off"}, (True, 0.0)),
        ({"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.25"}, (False, 0.25)),
        (
            {"OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.01"},
            (True, 0.01),
        ),
        ({"OTEL_TRACES_SAMPLER": "parentbased_traceidratio"}, (True, 1.0)),
    ],
)
def test_the_sampler_is_the_standard_one(environment, expected):
    options = load(OTLP_ENDPOINT="http://c", **environment).tracing

    assert expected == (options.parent_based, options.ratio)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OTEL_TRACES_SAMPLER", "xray"), ("OTEL_TRACES_SAMPLER_ARG", "2"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "many"),
        ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "0"), ("OTEL_BSP_SCHEDULE_DELAY", "-1"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json"), ("OTEL_BSP_MAX_QUEUE_SIZE", str(MAX_QUEUED_SPANS + 1)),
    ],
)  # fmt: skip
def test_a_standard_variable_that_cannot_be_read_is_told_and_counts_as_not_set(name, value):
    settings = load(OTLP_ENDPOINT="http://c:4318", **{name: value})

    (warning,) = settings.warnings
    assert warning.startswith(f"{name}: '{value}' is n")
    assert load(OTLP_ENDPOINT="http://c:4318").tracing == settings.tracing
    assert () == Settings.load({name: value}, None).warnings


def test_sizes_are_the_standard_ones_and_a_batch_fits_the_queue():
    default = load(OTLP_ENDPOINT="http://c").tracing
    small = load(OTLP_ENDPOINT="http://c", OTEL_BSP_MAX_QUEUE_SIZE="100", OTEL_BSP_SCHEDULE_DELAY="9").tracing

    assert (2048, 512, 5000) == (default.queue_spans, default.batch_spans, default.delay_ms)
    assert (100, 100, 9) == (small.queue_spans, small.batch_spans, small.delay_ms)


def test_tracing_can_be_off():
    assert Settings.load({"OTLP_ENDPOINT": "http://c"}, None).tracing is None
    assert load(OTLP_ENDPOINT="http://c", OTEL_SDK_DISABLED="TRUE").tracing is None
    assert load(OTLP_ENDPOINT="http://c", OTEL_SDK_DISABLED="0").tracing is not None


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("tenant", ("tenant",)),
        ("tenant, X-Api-Key ,", ("tenant", "X-Api-Key")),
        ("tenant=acme", ("tenant=acme",)),
    ],
)
def test_names_to_hide_are_a_list(given, expected):
    assert expected == Settings.load({"LOG_REDACT": given}, None).log_redact


@pytest.mark.parametrize("given", ["a b", "tenant=", "=x", "x" * 200, ",".join(f"n{i}" for i in range(65))])
def test_names_that_are_none_stop_the_start(given):
    with pytest.raises(SettingsError, match="LOG_REDACT: got"):
        Settings.load({"LOG_REDACT": given}, None)


@pytest.mark.parametrize(
    ("given", "missing"),
    [
        ("b3", '"b3"'), ("tracecontxt", '"tracecontxt"'), ("tracecontext,", '""'),
        ("tracecontext, b3multi,xray", '"b3multi", "xray"'),
    ],
)  # fmt: skip
def test_a_propagator_that_is_not_installed_stops_the_start(given, missing):
    with pytest.raises(SettingsError) as caught:
        load(OTLP_ENDPOINT="http://c", OTEL_PROPAGATORS=given)

    (problem,) = caught.value.problems
    assert problem.startswith(f'OTEL_PROPAGATORS: got "{given}", allowed: tracecontext, baggage or none')
    assert f"(not installed: {missing})" in problem


@pytest.mark.parametrize("given", ["tracecontext", "baggage, tracecontext", "none", "tracecontext,None,b3"])
def test_propagators_that_the_sdk_takes_are_taken(given):
    assert load(OTLP_ENDPOINT="http://c", OTEL_PROPAGATORS=given).tracing is not None


@pytest.mark.parametrize("off", [{"ENABLE_TRACING": "false"}, {"OTEL_SDK_DISABLED": "true"}])
def test_with_tracing_off_propagators_are_other_programs(off):
    assert load(**{"OTLP_ENDPOINT": "http://c", "OTEL_PROPAGATORS": "b3", **off}).tracing is None


def test_what_the_sdk_refuses_is_a_settings_error_that_names_the_variable(monkeypatch):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "soon")
    monkeypatch.setenv("OTEL_SERVICE_NAME", "gateway")
    settings = load(OTLP_ENDPOINT="grpc://127.0.0.1:1")
    with pytest.raises(SettingsError) as caught:
        make_tracing(settings, Metrics("1"), 0)

    (problem,) = caught.value.problems
    assert problem.startswith("OTEL_EXPORTER_OTLP_TIMEOUT: OpenTelemetry's SDK refuses it: ValueError")
    assert "soon" in problem


@pytest.mark.parametrize(
    ("name", "given", "told"),
    [
        ("TIMEOUT", "10s", ["Invalid timeout value '10s', using default of 10 seconds"]),
        ("COMPRESSION", "zip", ["Unsupported compression type: zip"]),
        ("HEADERS", "authorization Bearer s3cret", []),
        ("TIMEOUT", "10", []),
    ],
)
async def test_what_the_sdk_ignores_is_told_at_the_start(monkeypatch, caplog, name, given, told):
    monkeypatch.setenv(f"OTEL_EXPORTER_OTLP_{name}", given)
    tracing = make_tracing(load(OTLP_ENDPOINT="http://127.0.0.1:1"), Metrics("1"), 0)
    await tracing.start()
    await tracing.close()

    assert told == [record.why for record in caplog.records if record.message.endswith("is ignored")]
    assert "s3cret" not in caplog.text


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"ENDPOINT": "http://c:4317"}, Target("grpc", "http://c:4317")),
        (
            {"ENDPOINT": "http://c:4318/otlp", "PROTOCOL": "grpc"},
            Target("http", "http://c:4318/otlp/v1/traces"),
        ),
        ({"TRACES_ENDPOINT": "http://c:4318"}, Target("http", "http://c:4318/v1/traces")),
        ({"ENDPOINT": "c:4317", "INSECURE": "false"}, Target("grpc", "http://c:4317")),
        ({"ENDPOINT": "http://c:4318", "PROTOCOL": "http/json"}, Target("http", "http://c:4318/v1/traces")),
    ],
)
def test_the_documentation_says_where_the_standard_endpoints_differ_from_the_standard(environment, expected):
    given = {f"OTEL_EXPORTER_OTLP_{name}": value for name, value in environment.items()}

    assert expected == load(**given).tracing.target
