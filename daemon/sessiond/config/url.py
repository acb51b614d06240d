"""Validate the address of an endpoint."""

from __future__ import annotations

from urllib.parse import SplitResult, urlsplit

from sessiond.errors import ConfigError


def check_url(url: str, *, allow_insecure_http: bool = False) -> None:
    """Accept https, http to loopback (to any host only if allowed), and "" for the built-in archive.

    Raises: ConfigError with a hint. The message does not repeat the address, which may contain a password.
    """
    if not url:
        return
    if not url.isprintable() or " " in url:
        raise ConfigError("contains a space or an invalid character")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError as error:
        raise ConfigError("is not a valid address", hint='an address looks like "https://sync.example.org"') from error
    if "@" in parts.netloc:
        raise ConfigError(
            "contains a user name or password", hint="set the token with endpoint.token_file or SESSIOND_TOKEN instead"
        )
    if parts.scheme not in ("https", "http") or not host or port == 0:
        raise ConfigError('expected an address that starts with "https://"', hint=_with_scheme(url))
    if parts.query or parts.fragment:
        raise ConfigError('contains a "?" or "#"', hint="remove it and everything after it")
    if parts.scheme == "http" and not is_loopback(host) and not allow_insecure_http:
        raise ConfigError(
            f"plain http to {host} would send the token and all transcripts unencrypted",
            hint=f'use "{_secure(parts)}", or set endpoint.allow_insecure_http = true on a network you trust',
        )


def is_loopback(host: str) -> bool:
    """Return whether a host name or address is this machine's own: localhost, *.localhost, 127.0.0.0/8, ::1."""
    name = host.rstrip(".").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    import ipaddress  # late: `status` checks a configuration, and few addresses are numbers

    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _secure(parts: SplitResult) -> str:
    return parts._replace(scheme="https").geturl()


def _with_scheme(url: str) -> str | None:
    plain = url.rpartition("//")[2]
    return f'did you mean "https://{plain}"?' if plain and "." in plain.partition("/")[0] else None
