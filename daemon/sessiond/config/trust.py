"""Whom to trust: the certificates that an endpoint is checked with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sessiond.config.model import Config
from sessiond.errors import ConfigError

if TYPE_CHECKING:
    import ssl


def make_ssl_context(ca_file: str) -> ssl.SSLContext:
    """Read `endpoint.ca_file`; without one the system's certificates are trusted.

    Raises: ConfigError for a file that can't be read or that holds no certificates.
    """
    import ssl  # late: it takes a tenth of the time that `status` has

    try:
        return ssl.create_default_context(cafile=ca_file or None)
    except OSError as error:  # ssl.SSLError is one
        raise ConfigError(
            f"{ca_file} can't be used: {error.strerror or error}",
            key="endpoint.ca_file",
            hint="name a file of certificates in PEM, or remove endpoint.ca_file",
        ) from error


def check_trust(config: Config) -> None:
    """Make sure that the configured certificates can be used. Raises: ConfigError."""
    if config.endpoint.ca_file and config.endpoint.url.startswith("https:"):
        make_ssl_context(config.endpoint.ca_file)
