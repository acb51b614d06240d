"""`sessiond serve user` and `serve tenant`: what users and tenants store, and their quotas."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import msgspec

from sessiond.cli.output import print_json, size, table, warn
from sessiond.errors import ConfigError

if TYPE_CHECKING:
    from sessiond.endpoint.server.store import Store

NO_LIMIT = -1
"""The value of an option that is given as `none`."""


def add_user_arguments(
    user: argparse.ArgumentParser, parse_size: Callable[[str], int]
) -> list[argparse.ArgumentParser]:
    """Add the subcommands of `serve user`; return their parsers."""
    actions = user.add_subparsers(dest="action", metavar="ACTION", required=True)
    shown = actions.add_parser("list", help="list the users with what they store, and their quotas")
    shown.add_argument("--json", action="store_true", help="print JSON")
    change = actions.add_parser("set", help="change the quota or the tenant of a user")
    change.add_argument("name", metavar="USER")
    change.add_argument(
        "--quota", metavar="N", type=_or_none(parse_size), help="limit of what it stores (10G); none: no limit"
    )
    change.add_argument("--tenant", metavar="TENANT", help="group of users that share a quota; none: no group")
    return [shown, change]


def add_tenant_arguments(
    tenant: argparse.ArgumentParser, parse_size: Callable[[str], int]
) -> list[argparse.ArgumentParser]:
    """Add the subcommands of `serve tenant`; return their parsers."""
    actions = tenant.add_subparsers(dest="action", metavar="ACTION", required=True)
    shown = actions.add_parser("list", help="list the tenants with what their users store, and their quotas")
    shown.add_argument("--json", action="store_true", help="print JSON")
    change = actions.add_parser("set", help="add a tenant, or change its quota")
    change.add_argument("name", metavar="TENANT")
    change.add_argument(
        "--quota", metavar="N", type=_or_none(parse_size), help="limit for all its users together; none: no limit"
    )
    remove = actions.add_parser("remove", help="remove a tenant that has no users")
    remove.add_argument("name", metavar="TENANT")
    return [shown, change, remove]


def run_user(store: Store, args: argparse.Namespace) -> int:
    """Run `serve user` and return exit code 0. Raises: SessiondError."""
    from sessiond.endpoint.server import accounts

    if args.action == "set":
        if args.quota is None and args.tenant is None:
            raise ConfigError("nothing to change", hint="give --quota or --tenant")
        tenant = msgspec.UNSET if args.tenant is None else None if args.tenant == "none" else args.tenant
        accounts.set_user(store, args.name, quota=_setting(args.quota), tenant=tenant)
        warn(f"changed user {args.name}")
        return 0
    found = accounts.list_users(store)
    rows = [(each.user, each.tenant or "none", size(each.held), _limit(each.quota)) for each in found]
    empty = "no users; add a token: sessiond serve token add NAME --user USER"
    return _print(found, [("user", "tenant", "stored", "quota"), *rows], args.json, empty)


def run_tenant(store: Store, args: argparse.Namespace) -> int:
    """Run `serve tenant` and return exit code 0. Raises: SessiondError."""
    from sessiond.endpoint.server import accounts

    if args.action == "set":
        accounts.set_tenant(store, args.name, quota=_setting(args.quota))
        warn(f"tenant {args.name} is set; add users to it: sessiond serve user set USER --tenant {args.name}")
        return 0
    if args.action == "remove":
        accounts.remove_tenant(store, args.name)
        warn(f"removed tenant {args.name}")
        return 0
    found = accounts.list_tenants(store)
    rows = [(each.tenant, str(each.users), size(each.held), _limit(each.quota)) for each in found]
    empty = "no tenants; add one: sessiond serve tenant set TENANT --quota 100G"
    return _print(found, [("tenant", "users", "stored", "quota"), *rows], args.json, empty)


def _or_none(convert: Callable[[str], int]) -> Callable[[str], int]:
    def parse(text: str) -> int:
        return NO_LIMIT if text == "none" else convert(text)

    return parse


def _setting(value: int | None) -> int | msgspec.UnsetType | None:
    return msgspec.UNSET if value is None else None if value == NO_LIMIT else value


def _limit(quota: int | None) -> str:
    """Format a quota as it is given on the command line: 10G, if it is a whole number of units."""
    if quota is None:
        return "none"
    for power, unit in ((40, "T"), (30, "G"), (20, "M"), (10, "K")):
        if quota and quota % (1 << power) == 0:
            return f"{quota >> power}{unit}"
    return str(quota)


def _print(found: Sequence[msgspec.Struct], rows: Sequence[tuple[str, ...]], as_json: bool, empty: str) -> int:
    """Print a table of users or tenants, or JSON. An empty table is a line on stderr."""
    if as_json:
        print_json(found)
    elif found:
        print(table(rows, right=(2, 3), flexible=0))
    else:
        warn(empty)
    return 0
