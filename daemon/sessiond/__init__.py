"""sessiond: a quiet daemon that keeps every session of your AI coding tools."""

__all__ = ["__version__"]

try:  # The build writes it from the tag. importlib.metadata would be too slow for `sessiond status`.
    from sessiond._version import version as __version__  # type: ignore[import-not-found, import-untyped, unused-ignore]
except ImportError:  # a checkout that was never built or installed
    __version__ = "0+unknown"
