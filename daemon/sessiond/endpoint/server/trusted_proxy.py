"""Single sign-on by a proxy in front of the endpoint, which authenticates people and names them in a header.

The header is believed only if the TCP connection comes from the proxy's address. Nothing else that a request has, such
as `X-Forwarded-For`, changes what that address is.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from starlette.requests import Request

from sessiond.endpoint.server.problems import HttpError
from sessiond.endpoint.server.tokens import READ, Access
from sessiond.endpoint.server.users import check_user
from sessiond.errors import ConfigError, SessiondError

USER_HEADER = "X-Forwarded-User"
_HEADER = re.compile(r"[A-Za-z0-9-]{1,100}")
RESERVED = frozenset({"authorization", "sessiond-device", "sessiond-batch", "host", "content-type", "content-encoding"})
"""Headers that clients send themselves."""


class TrustedProxy:
    """The networks from which `header` names the user of a request.

    Raises:
        ConfigError: a network or the header's name is not valid.
    """

    def __init__(self, networks: Sequence[str], header: str = USER_HEADER) -> None:
        if not _HEADER.fullmatch(header) or header.lower() in RESERVED:
            raise ConfigError(f"--user-header {header} can't name users", hint=f"such as {USER_HEADER}")
        self.header = header
        self._networks = [_network(each) for each in networks]

    def authenticate(self, request: Request) -> Access | None:
        """Return the access of the user that the proxy names: reading, and only what this user has.

        None: the request does not come from the proxy, or the proxy names no user.

        Raises:
            HttpError: 400, the proxy sends the header twice, or the name of a user is not valid.
        """
        if request.client is None or not self._trusts(request.client.host):
            return None
        values = request.headers.getlist(self.header)
        if not values or values == [""]:
            return None
        if len(values) > 1 or "," in values[0]:
            # One of the values may come from the client: a proxy must replace the header, and not add to it.
            raise HttpError(400, "invalid", f"{self.header} has more than one value")
        try:
            user = values[0].encode("latin-1").decode("utf-8")  # headers are read as Latin-1
            check_user(user)
        except (UnicodeDecodeError, SessiondError) as error:
            raise HttpError(400, "invalid", f"{self.header} is not the name of a user") from error
        return Access(user=user, scopes=frozenset({READ}), name=f"single sign-on: {user}")

    def _trusts(self, host: str) -> bool:
        try:
            address = ip_address(host)
        except ValueError:
            return False
        if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped  # a socket for both protocols shows IPv4 addresses like this
        return any(address in network for network in self._networks)


def _network(text: str) -> IPv4Network | IPv6Network:
    try:
        network = ip_network(text)
    except ValueError as error:
        raise ConfigError(f"--trust-proxy {text} is not a network", hint="such as 10.0.0.5 or 10.0.0.0/24") from error
    if network.prefixlen == 0:
        raise ConfigError(
            f"--trust-proxy {text} trusts every address, so anyone could read everything",
            hint="give the address of the proxy",
        )
    return network
