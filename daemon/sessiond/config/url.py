"""The address of an endpoint: what is accepted, and why not."""

from __future__ import annotations

import ipaddress
from urllib.parse import SplitResult, urlsplit

from sessiond.errors import ConfigError


def check_url(url: str, *, allow_insecure_http: bool = False) -> None:
    """Accept https, http to loopback (to any host only if allowed), and "" for the built-in archive.

    Raises: ConfigError with a hint. The address is not repeated in the message: it may hold a password.
    """
    if not url:
        return
    if not url.isprintable() or " " in url:
        raise ConfigError("holds a space or a character that no address has")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError as error:
        raise ConfigError("is not an address", hint='an address reads "https://sync.example.org"') from error
    if "@" in parts.netloc:
        raise ConfigError(
            "holds a user name or password", hint="give the token by endpoint.token_file or SESSIOND_TOKEN instead"
        )
    if parts.scheme not in ("https", "http") or not host or port == 0:
        raise ConfigError('wants an address that begins with "https://"', hint=_with_scheme(url))
    if parts.query or parts.fragment:
        raise ConfigError('holds a "?" or "#"', hint="give the address up to there")
    if parts.scheme == "http" and not is_loopback(host) and not allow_insecure_http:
        raise ConfigError(
            f"plain http to {host} would send the token and all transcripts readable",
            hint=f'use "{_secure(parts)}", or set endpoint.allow_insecure_http = true on a network you trust',
        )


def is_loopback(host: str) -> bool:
    """Tell whether a host name or address never leaves this machine: localhost, 127.0.0.0/8, ::1."""
    name = host.rstrip(".").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _secure(parts: SplitResult) -> str:
    return parts._replace(scheme="https").geturl()


def _with_scheme(url: str) -> str | None:
    plain = url.rpartition("//")[2]
    return f'did you mean "https://{plain}"?' if plain and "." in plain.partition("/")[0] else None
