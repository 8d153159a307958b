"""Shared state: the Store protocol, in memory and in Redis."""
