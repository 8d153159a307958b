#!/bin/sh
# Render the examples beside this file, or into the folder given: envoy/render.sh [FOLDER]. `make examples` calls it.
set -eu
folder=${1:-$(dirname "$0")}
render() { # NAME [VARIABLE=VALUE...] -- [OPTION...]
  name=$1
  shift
  variables=
  while [ "$1" != -- ]; do
    variables="$variables $1"
    shift
  done
  shift
  # An environment of its own: what the caller has set must not show in an example.
  # shellcheck disable=SC2086  the variables hold no spaces
  env -i PATH="$PATH" $variables "${SENTINEL_EXT:-sentinel-ext}" envoy-config --output "$folder/$name" "$@"
}

# A gateway with all defaults: Sentinel on 127.0.0.1:50051, the upstream on localhost:8080.
render gateway.yaml --
# A sidecar: Sentinel on a Unix socket in a shared volume, the app in the same pod; closed while Sentinel is away.
render sidecar.yaml GRPC_ADDRESS=unix:///run/sentinel/sentinel.sock DOWNSTREAM_URL=http://127.0.0.1:8080 FAIL_OPEN=false --
# A gateway that asks the rate limit service, too: tenant, path and remote_address in the domain "shop".
render ratelimit.yaml -- --ratelimit-domain shop
# Sentinel as a shared service, an upstream over TLS with a base path.
render service-tls.yaml DOWNSTREAM_URL=https://api.example.com/v1 -- --sentinel-address sentinel.sentinel.svc.cluster.local:50051
