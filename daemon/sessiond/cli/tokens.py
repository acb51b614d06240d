"""`sessiond serve token`: the tokens with which devices push and people read."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from sessiond.cli.parsers import add_action
from sessiond.clock import now_ms

if TYPE_CHECKING:
    from sessiond.endpoint.server.store import Store
    from sessiond.endpoint.server.tokens import Token


def add_arguments(
    token: argparse.ArgumentParser, scopes: Callable[[str], list[str]], duration: Callable[[str], float]
) -> list[argparse.ArgumentParser]:
    """Add the subcommands; return their parsers."""
    actions = token.add_subparsers(dest="action", metavar="ACTION", required=True)
    add = add_action(actions, "add", "create a token and print it once")
    add.add_argument("name", metavar="NAME", help="name of the token, such as the name of the machine that uses it")
    add.add_argument("--user", metavar="USER", default="default", help="owner of the token (default: %(default)s)")
    add.add_argument(
        "--scope",
        metavar="LIST",
        type=scopes,
        default=["push", "read"],
        help="what it may do: push, read, admin (default: push,read)",
    )
    add.add_argument("--expires", metavar="TIME", type=duration, help="lifetime (90d, 12h); default: unlimited")
    shown = add_action(actions, "list", "list the tokens")
    shown.add_argument("--json", action="store_true", help="print JSON")
    revoke = add_action(actions, "revoke", "revoke a token")
    revoke.add_argument("name", metavar="NAME", help="name of the token")
    rebind = add_action(actions, "rebind", "release a token from its device, so that another can use it")
    rebind.add_argument("name", metavar="NAME", help="name of the token")
    return [add, shown, revoke, rebind]


def run(store: Store, args: argparse.Namespace) -> int:
    """Run the command and return exit code 0. Raises: SessiondError."""
    from sessiond.endpoint.server import tokens

    if args.action == "add":
        print(tokens.add(store, args.name, user=args.user, scopes=args.scope, lifetime=args.expires))
        _warn("the token is shown only once; store it in a file of mode 0600 (endpoint.token_file)")
    elif args.action == "revoke":
        tokens.revoke(store, args.name)
        _warn(f"revoked {args.name}")
    elif args.action == "rebind":
        tokens.rebind(store, args.name)
        _warn(f"released {args.name}: the next other device that pushes with it gets it")
    elif args.json:
        from sessiond.cli.output import print_json

        print_json(tokens.list_tokens(store))
    else:
        _print_tokens(tokens.list_tokens(store))
    return 0


def _print_tokens(found: list[Token]) -> None:
    """Print a table of tokens; an empty one is a line on stderr."""
    if not found:
        _warn("no tokens; add one: sessiond serve token add NAME")
        return
    rows = [("name", "user", "scope", "device", "created", "last used", "expires")]
    for token in found:
        expires = "never" if token.expires_ms is None else _day(token.expires_ms)
        rows.append(
            (
                token.name,
                token.user,
                ",".join(token.scopes),
                "none yet" if token.device is None else token.device,
                _day(token.made_ms),
                "never" if token.used_ms is None else _minute(token.used_ms),
                "expired" if token.expires_ms is not None and token.expires_ms <= now_ms() else expires,
            )
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _minute(milliseconds: int) -> str:
    return datetime.fromtimestamp(milliseconds / 1000, UTC).strftime("%Y-%m-%d %H:%MZ")


def _day(milliseconds: int) -> str:
    return datetime.fromtimestamp(milliseconds / 1000, UTC).strftime("%Y-%m-%d")


def _warn(line: str) -> None:
    print(line, file=sys.stderr)
