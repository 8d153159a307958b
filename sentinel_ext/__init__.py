"""Sentinel: the decision service beside Envoy."""

from importlib.metadata import version

__all__ = ["__version__"]

__version__ = version("sentinel-ext")
