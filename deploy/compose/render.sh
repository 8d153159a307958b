#!/bin/sh
# Render envoy.yaml beside this file, or into the folder given: deploy/compose/render.sh [FOLDER].
# `make examples` calls it.
set -eu
here=$(dirname "$0")
# An environment of its own: what the caller has set must not show.
env -i PATH="$PATH" DOWNSTREAM_URL=http://backend:8080 POLICY_FILE="$here/sentinel/policy.yaml" \
  "${SENTINEL_EXT:-sentinel-ext}" envoy-config --output "${1:-$here}/envoy.yaml" \
  --sentinel-address sentinel-1:50051 --sentinel-address sentinel-2:50051 \
  --envoy-admin-address 0.0.0.0:9901 --otlp-address jaeger:4317
