"""The demo: Redis, Sentinel, an upstream and Envoy on this machine."""
