"""Benchmarks: `python -m benchmarks.run --help`. They measure and report; they never judge."""
