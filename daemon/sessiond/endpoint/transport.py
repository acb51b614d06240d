"""The way to an endpoint: straight, or through the proxy that the environment names."""

from __future__ import annotations

import ssl
import urllib.request

from sessiond.config.url import is_loopback
from sessiond.memory import hide_modules

with hide_modules("httpx._main"):
    import httpx

IDLE = 60.0
"""Seconds after which an unused connection is not used any more."""


def make_transport(url: str, verify: ssl.SSLContext | bool) -> httpx.BaseTransport:
    """Make what carries requests: one connection, HTTP/1.1.

    It carries, and no more: no redirects are followed and no cookies kept, so that there is nothing to switch off
    (rule 12). A client of httpx around it would take as long again for each request.
    """
    limits = httpx.Limits(max_connections=1, keepalive_expiry=IDLE)
    return httpx.HTTPTransport(verify=verify, proxy=find_proxy(url), limits=limits)


def find_proxy(url: str) -> str | None:
    """Name the proxy for an address; none for this machine, or where the environment excepts the host."""
    address = httpx.URL(url)
    if is_loopback(address.host) or urllib.request.proxy_bypass(address.host):
        return None
    proxies = urllib.request.getproxies()
    found = proxies.get(address.scheme) or proxies.get("all")
    return found if not found or "://" in found else f"http://{found}"
