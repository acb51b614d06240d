"""`sessiond serve user` and `serve tenant`: what they store, their quotas and keep rules; `serve audit`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import msgspec

from sessiond.cli.output import print_json, size, table
from sessiond.cli.parsers import add_action
from sessiond.clock import now_ms
from sessiond.errors import ConfigError

if TYPE_CHECKING:
    from sessiond.endpoint.server.store import Store

NO_LIMIT = -1
"""The value of an option that is given as `none`."""
MAX_DAYS = 36_500
"""The largest number of days that a rule may have: a hundred years. Without a rule, sessions are kept for ever."""


def add_user_arguments(
    user: argparse.ArgumentParser, parse_size: Callable[[str], int]
) -> list[argparse.ArgumentParser]:
    """Add the subcommands of `serve user`; return their parsers."""
    actions = user.add_subparsers(dest="action", metavar="ACTION", required=True)
    shown = add_action(actions, "list", "list the users with what they store, and their quotas")
    shown.add_argument("--json", action="store_true", help="print JSON")
    change = add_action(actions, "set", "change the quota, the tenant or the keep rule of a user")
    change.add_argument("name", metavar="USER", help="name of the user")
    change.add_argument(
        "--quota",
        metavar="N",
        type=_or_none(parse_size),
        help="limit of what the user stores (10G, 10GB, 10GiB); 'none' for no limit",
    )
    change.add_argument("--tenant", metavar="TENANT", help="group of users that share a quota; 'none' for no group")
    _add_keep_days(change, "its sessions", "as for its tenant")
    return [shown, change]


def add_tenant_arguments(
    tenant: argparse.ArgumentParser, parse_size: Callable[[str], int]
) -> list[argparse.ArgumentParser]:
    """Add the subcommands of `serve tenant`; return their parsers."""
    actions = tenant.add_subparsers(dest="action", metavar="ACTION", required=True)
    shown = add_action(actions, "list", "list the tenants with what their users store, and their quotas")
    shown.add_argument("--json", action="store_true", help="print JSON")
    change = add_action(actions, "set", "add a tenant, or change its quota or its keep rule")
    change.add_argument("name", metavar="TENANT", help="name of the tenant")
    change.add_argument(
        "--quota", metavar="N", type=_or_none(parse_size), help="limit for all its users together; 'none' for no limit"
    )
    _add_keep_days(change, "the sessions of its users", "forever")
    remove = add_action(actions, "remove", "remove a tenant that has no users")
    remove.add_argument("name", metavar="TENANT", help="name of the tenant")
    return [shown, change, remove]


def _add_keep_days(parser: argparse.ArgumentParser, what: str, otherwise: str) -> None:
    parser.add_argument(
        "--keep-days",
        metavar="N",
        type=_or_none(_days),
        help=f"let {what} go N days after they were last active; 'none' to keep them {otherwise}",
    )


def _days(text: str) -> int:
    days = int(text)
    if not 1 <= days <= MAX_DAYS:
        raise argparse.ArgumentTypeError(f"{text} is not a number of days from 1 to {MAX_DAYS}, or none")
    return days


def run_user(store: Store, args: argparse.Namespace) -> int:
    """Run `serve user` and return exit code 0. Raises: SessiondError."""
    from sessiond.endpoint.server import accounts

    if args.action == "set":
        if args.quota is None and args.tenant is None and args.keep_days is None:
            raise ConfigError("nothing to change", hint="give --quota, --tenant or --keep-days")
        tenant = msgspec.UNSET if args.tenant is None else None if args.tenant == "none" else args.tenant
        keep_days = _setting(args.keep_days)
        accounts.set_user(store, args.name, quota=_setting(args.quota), tenant=tenant, keep_days=keep_days)
        _note(f"changed user {args.name}")
        return 0
    found = accounts.list_users(store)
    rows = [
        (each.user, each.tenant or "none", size(each.held), _limit(each.quota), _kept(each.keep_days)) for each in found
    ]
    empty = "no users; add a token: sessiond serve token add NAME --user USER"
    return _print(found, [("user", "tenant", "stored", "quota", "kept"), *rows], args.json, empty)


def run_tenant(store: Store, args: argparse.Namespace) -> int:
    """Run `serve tenant` and return exit code 0. Raises: SessiondError."""
    from sessiond.endpoint.server import accounts

    if args.action == "set":
        accounts.set_tenant(store, args.name, quota=_setting(args.quota), keep_days=_setting(args.keep_days))
        _note(f"tenant {args.name} is set; add users to it: sessiond serve user set USER --tenant {args.name}")
        return 0
    if args.action == "remove":
        accounts.remove_tenant(store, args.name)
        _note(f"removed tenant {args.name}")
        return 0
    found = accounts.list_tenants(store)
    rows = [
        (each.tenant, str(each.users), size(each.held), _limit(each.quota), _kept(each.keep_days)) for each in found
    ]
    empty = "no tenants; add one: sessiond serve tenant set TENANT --quota 100G"
    return _print(found, [("tenant", "users", "stored", "quota", "kept"), *rows], args.json, empty)


def add_audit_arguments(audit: argparse.ArgumentParser, duration: Callable[[str], float]) -> None:
    """Add the arguments of `serve audit`."""
    audit.add_argument("--since", metavar="TIME", type=duration, help="only what happened in the last TIME (12h, 30d)")
    audit.add_argument("--json", action="store_true", help="print JSON")


def run_audit(store: Store, args: argparse.Namespace) -> int:
    """Run `serve audit` and return exit code 0. Raises: SessiondError."""
    from sessiond.endpoint.server import audit

    found = audit.list_entries(store, 0 if args.since is None else now_ms() - int(args.since * 1000))
    if args.json:
        print_json(found)
    elif found:
        rows = [(_time(each.at_ms), each.actor, each.action, each.subject, each.detail) for each in found]
        print(table([("time", "by", "action", "of", "detail"), *rows], width=sys.maxsize))
    else:
        _note("nothing happened in that time" if args.since else "nothing happened yet")
    return 0


def _time(milliseconds: int) -> str:
    return datetime.fromtimestamp(milliseconds / 1000, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def _or_none(convert: Callable[[str], int]) -> Callable[[str], int]:
    def parse(text: str) -> int:
        return NO_LIMIT if text == "none" else convert(text)

    return parse


def _setting(value: int | None) -> int | msgspec.UnsetType | None:
    return msgspec.UNSET if value is None else None if value == NO_LIMIT else value


def _kept(days: int | None) -> str:
    return "-" if days is None else f"{days} days" if days > 1 else "1 day"


def _limit(quota: int | None) -> str:
    """Format a quota exactly, in the largest unit of which it is a whole number: "10 GB", "10 GiB", "1234 B"."""
    if quota is None:
        return "none"
    for power, letter in ((4, "T"), (3, "G"), (2, "M"), (1, "k")):
        for base, unit in ((1000, f"{letter}B"), (1024, f"{letter.upper()}iB")):
            if quota and quota % base**power == 0:
                return f"{quota // base**power} {unit}"
    return f"{quota} B"


def _print(found: Sequence[msgspec.Struct], rows: Sequence[tuple[str, ...]], as_json: bool, empty: str) -> int:
    """Print a table of users or tenants, or JSON. An empty table is a line on stderr."""
    if as_json:
        print_json(found)
    elif found:
        print(table(rows, right=(2, 3, 4), flexible=0))
    else:
        _note(empty)
    return 0


def _note(line: str) -> None:
    print(line, file=sys.stderr)
