"""`sessiond serve invite`: invitations with which devices get tokens of their own."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from sessiond.cli.parsers import add_action
from sessiond.clock import now_ms

if TYPE_CHECKING:
    from sessiond.endpoint.server.invites import Invite
    from sessiond.endpoint.server.store import Store

WEEK = 7 * 86_400.0


def add_arguments(
    invite: argparse.ArgumentParser, scopes: Callable[[str], list[str]], duration: Callable[[str], float]
) -> list[argparse.ArgumentParser]:
    """Add the arguments of the command and of its subcommands; return the subcommands' parsers."""
    invite.add_argument("--user", metavar="USER", default="default", help="owner of the tokens (default: %(default)s)")
    invite.add_argument(
        "--scope",
        metavar="LIST",
        type=scopes,
        default=["push", "read"],
        help="scope of the tokens (default: push,read)",
    )
    invite.add_argument("--uses", metavar="N", type=int, default=1, help="devices that may use it (default: 1)")
    invite.add_argument(
        "--expires", metavar="TIME", type=duration, default=WEEK, help="lifetime of the invitation (12h; default: 7d)"
    )
    actions = invite.add_subparsers(dest="action", metavar="[ACTION]")
    shown = add_action(actions, "list", "list the invitations")
    shown.add_argument("--json", action="store_true", help="print JSON")
    revoke = add_action(actions, "revoke", "revoke an invitation; its tokens stay valid")
    revoke.add_argument("number", metavar="NUMBER", type=int, help="number of the invitation")
    return [shown, revoke]


def run(store: Store, args: argparse.Namespace) -> int:
    """Run the command and return exit code 0. Raises: SessiondError."""
    from sessiond.endpoint.server import invites

    if args.action == "revoke":
        invites.revoke(store, args.number)
        _warn(f"revoked invitation {args.number}; the tokens that it gave stay valid")
    elif args.action == "list" and args.json:
        from sessiond.cli.output import print_json

        print_json(invites.list_invites(store))
    elif args.action == "list":
        _print(invites.list_invites(store))
    else:
        print(invites.add(store, user=args.user, scopes=args.scope, uses=args.uses, lifetime=args.expires))
        _warn("the code is shown only once; on each device, run: sessiond init --endpoint URL --invite CODE")
    return 0


def _print(found: list[Invite]) -> None:
    """Print a table of invitations; an empty one is a line on stderr."""
    if not found:
        _warn("no invitations; make one: sessiond serve invite")
        return
    rows = [("number", "user", "scope", "used", "created", "expires")]
    for each in found:
        expires = "expired" if each.expires_ms <= now_ms() else _day(each.expires_ms)
        used = f"{each.used} of {each.uses}"
        rows.append((str(each.number), each.user, ",".join(each.scopes), used, _day(each.made_ms), expires))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _day(milliseconds: int) -> str:
    return datetime.fromtimestamp(milliseconds / 1000, UTC).strftime("%Y-%m-%d")


def _warn(line: str) -> None:
    print(line, file=sys.stderr)
