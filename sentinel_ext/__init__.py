"""Sentinel: the decision service beside Envoy."""

__all__ = ["__version__"]


def __getattr__(name: str) -> str:
    """Look the version up when somebody asks: that takes 30 ms, which a health probe need not pay."""
    if name == "__version__":
        from importlib.metadata import version  # noqa: PLC0415

        return version("sentinel-ext")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
