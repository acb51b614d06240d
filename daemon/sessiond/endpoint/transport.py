"""The HTTP transport to an endpoint, direct or through the proxy that the environment names."""

from __future__ import annotations

import os
import ssl
import urllib.request

from sessiond.config.url import is_loopback
from sessiond.errors import ConfigError
from sessiond.memory import hide_modules

with hide_modules("httpx._main"):
    import httpx

IDLE = 60.0
"""Seconds after which an unused connection is not used again."""


def make_transport(url: str, verify: ssl.SSLContext | bool) -> httpx.BaseTransport:
    """Return an HTTP/1.1 transport with one connection.

    A transport neither follows redirects nor keeps cookies, so neither has to be turned off (rule 12). An httpx.Client
    around it would double the time of each request.

    Raises:
        ConfigError: the proxy can't be used.
    """
    limits = httpx.Limits(max_connections=1, keepalive_expiry=IDLE)
    proxy = find_proxy(url)
    try:
        return httpx.HTTPTransport(verify=verify, proxy=proxy, limits=limits)
    except (ImportError, ValueError, httpx.InvalidURL) as error:  # httpx imports a package for socks5: proxies
        if proxy is None:
            raise
        raise ConfigError(
            f"the proxy {describe_proxy(proxy)} ({proxy_origin(proxy)}) can't be used",
            hint="sessiond needs a proxy with an http:// or https:// address; NO_PROXY excludes the endpoint's host",
        ) from error


def find_proxy(url: str) -> str | None:
    """Return the URL of the proxy for an endpoint, which may contain a password; None to connect directly.

    No proxy is used for an address of this machine, or for a host that the environment excludes (NO_PROXY). The
    environment is that of this process, as urllib reads it; on macOS, the system settings follow.
    """
    address = httpx.URL(url)
    if is_loopback(address.host) or urllib.request.proxy_bypass(address.host):
        return None
    proxies = urllib.request.getproxies()
    found = proxies.get(address.scheme) or proxies.get("all")
    return found if not found or "://" in found else f"http://{found}"


def describe_proxy(proxy: str) -> str:
    """Return the scheme, host and port of a proxy without its user name and password."""
    scheme, _, rest = proxy.partition("://")
    # Everything up to the last @ may belong to the password, even a slash that should have been percent-encoded.
    return f"{scheme}://{rest.rpartition('@')[2].partition('/')[0]}"


def proxy_origin(proxy: str) -> str:
    """Return the name of the environment variable with this proxy."""
    values = {proxy, proxy.removeprefix("http://")}
    names = (name for name, value in os.environ.items() if name.lower().endswith("_proxy") and value in values)
    return next(names, "system settings")
