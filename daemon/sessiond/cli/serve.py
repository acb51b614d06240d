"""`sessiond serve`: the reference endpoint, its tokens, and who owns a machine id."""

from __future__ import annotations

import argparse
import os
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sessiond.endpoint.server.store import Store

HELP = "run a sync endpoint of your own"
PORT = 8377


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command to argparse."""
    parser.description = (
        "Run the reference endpoint: sessions and transcripts of all your machines in one SQLite file."
        " Make a token for each machine first."
    )
    _add_data(parser, None)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=_port, default=PORT, help="port; 0 takes a free one (default: %(default)s)")
    parser.add_argument("--tls-cert", metavar="FILE", help="certificate chain in PEM: serve https")
    parser.add_argument("--tls-key", metavar="FILE", help="its private key in PEM")
    parser.add_argument("--max-bytes", type=_bytes, metavar="N", help="size that the store may grow to (as 500M, 20G)")
    parser.add_argument("--token-file", metavar="FILE", help="accept the token in this file too; made if missing")
    parser.add_argument("--announce", metavar="TO", help="write where we listen as JSON to a file, a descriptor or -")
    parser.add_argument("--until-eof", action="store_true", help="end when stdin does (for a parent process)")

    commands = parser.add_subparsers(dest="serve_command", metavar="[COMMAND]")
    token = commands.add_parser("token", help="add, list and revoke tokens")
    actions = token.add_subparsers(dest="action", metavar="ACTION", required=True)
    add = actions.add_parser("add", help="make a token and print it, this once")
    add.add_argument("name", metavar="NAME", help="who will use it: the name of a machine")
    shown = actions.add_parser("list", help="list the names of the tokens")
    shown.add_argument("--json", action="store_true", help="print JSON")
    revoke = actions.add_parser("revoke", help="stop accepting a token")
    revoke.add_argument("name", metavar="NAME")
    adopt = commands.add_parser("adopt", help="let another device take a machine id over")
    adopt.add_argument("machine_id", metavar="MACHINE_ID")
    for each in (add, shown, revoke, adopt):
        _add_data(each, argparse.SUPPRESS)


def run(args: argparse.Namespace) -> int:
    """Do what the arguments say; 0 when it is done.

    Raises:
        SessiondError: it can't be done.
    """
    directory = args.data or _default_directory()
    if args.serve_command is None:
        return _serve(args, directory)
    from sessiond.endpoint.server.store import Store

    store = Store(directory)
    try:
        if args.serve_command == "adopt":
            return _adopt(store, args.machine_id)
        return _token(store, args)
    finally:
        store.close()


def _serve(args: argparse.Namespace, directory: str) -> int:
    from sessiond.endpoint.server import run as server

    if args.tls_cert is None and not server.is_loopback(args.host):
        _say(f"warning: {args.host} without TLS: tokens and transcripts can be read on the way")
        _say("  give --tls-cert and --tls-key, or put a TLS proxy before it")
    if not (args.token_file or _has_tokens(directory)):
        _say("no token yet: every request will be refused")
        _say("  make one: sessiond serve token add NAME" + (f" --data {args.data}" if args.data else ""))
    server.serve(
        server.Options(
            directory=directory,
            host=args.host,
            port=args.port,
            tls_cert=args.tls_cert,
            tls_key=args.tls_key,
            announce=args.announce,
            token_file=args.token_file,
            until_eof=args.until_eof,
            quota=args.max_bytes,
        ),
        listening=None if args.announce else lambda url: _say(f"serving {directory} at {url}"),
    )
    return 0


def _token(store: Store, args: argparse.Namespace) -> int:
    from sessiond.endpoint.server import tokens

    if args.action == "add":
        print(tokens.add(store, args.name))
        _say("this is the only time that it is shown; keep it in a file of mode 0600 (token_file)")
    elif args.action == "revoke":
        tokens.revoke(store, args.name)
        _say(f"revoked {args.name}")
    elif args.json:
        from sessiond.cli.output import print_json

        print_json(tokens.every(store))
    else:
        for token in tokens.every(store):
            print(f"{_day(token.made_ms)}  {token.name}")
    return 0


def _adopt(store: Store, machine: str) -> int:
    from sessiond.endpoint.server import machines

    machines.adopt(store, machine)
    _say(f"the next other device that pushes as {machine} takes it over")
    return 0


def _has_tokens(directory: str) -> bool:
    from sessiond.endpoint.server import tokens
    from sessiond.endpoint.server.store import Store

    store = Store(directory)
    try:
        return bool(tokens.every(store))
    finally:
        store.close()


def _default_directory() -> str:
    import platformdirs

    return os.path.join(platformdirs.user_data_dir("sessiond", appauthor=False), "endpoint")


def _add_data(parser: argparse.ArgumentParser, default: str | None) -> None:
    parser.add_argument("--data", metavar="DIR", default=default, help="where the store lies")


def _port(text: str) -> int:
    if text.isascii() and text.isdigit() and int(text) < 65536:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text} is not a port")


def _bytes(text: str) -> int:
    number, unit = text.rstrip("KMGTkmgt"), text[-1:].upper()
    if number.isascii() and number.isdigit() and len(text) - len(number) <= 1:
        return int(number) * {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}.get(unit, 1)
    raise argparse.ArgumentTypeError(f"{text} is not a size such as 500M or 20G")


def _day(milliseconds: int) -> str:
    return datetime.fromtimestamp(milliseconds / 1000, UTC).strftime("%Y-%m-%d")


def _say(line: str) -> None:
    print(line, file=sys.stderr)
