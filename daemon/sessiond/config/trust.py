"""The certificates that verify the endpoint."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sessiond.config.model import Config
from sessiond.errors import ConfigError

if TYPE_CHECKING:
    import ssl


def make_ssl_context(ca_file: str) -> ssl.SSLContext:
    """Return an SSL context that trusts `endpoint.ca_file`, or the certificates of the system if it is empty.

    Raises: ConfigError for a file that can't be read or that has no certificates.
    """
    import ssl  # late import: it takes a tenth of the time budget of `status`

    try:
        return ssl.create_default_context(cafile=ca_file or None)
    except OSError as error:  # ssl.SSLError is one
        raise ConfigError(
            f"{ca_file} can't be used: {error.strerror or error}",
            key="endpoint.ca_file",
            hint="use a PEM file of certificates, or remove endpoint.ca_file",
        ) from error


def check_trust(config: Config) -> None:
    """Check that the configured certificates can be loaded. Raises: ConfigError."""
    if config.endpoint.ca_file and config.endpoint.url.startswith("https:"):
        make_ssl_context(config.endpoint.ca_file)
