"""sessiond: a quiet daemon that keeps every session of your AI coding tools."""

__version__ = "0.1.0"
