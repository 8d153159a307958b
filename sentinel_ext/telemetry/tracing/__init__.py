"""Spans on their way out. Nothing here imports OpenTelemetry until tracing is on."""
