"""`sessiond serve`: run the reference endpoint, and manage its tokens and machine ids."""

from __future__ import annotations

import argparse
import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

from sessiond.cli import accounts, invite, tokens
from sessiond.cli.parsers import add_action
from sessiond.errors import ConfigError

if TYPE_CHECKING:
    from sessiond.endpoint.server.store import Store

HELP = "run a sync endpoint of your own"
PORT = 8377
MAX_SIZE = 1 << 60
"""Bytes; more than any store has."""
MAX_LIFETIME = 1000 * 365 * 86_400.0
"""Seconds. Python's dates end in the year 9999."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command to argparse."""
    parser.description = (
        "Run the reference endpoint, which stores the sessions and transcripts of all your machines in one SQLite"
        " file, or in PostgreSQL. Each machine needs a token: invite it, or add one."
    )
    _add_data(parser, None)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=_port, default=PORT, help="port; 0 chooses a free one (default: %(default)s)")
    parser.add_argument("--tls-cert", metavar="FILE", help="certificate chain in PEM: serve https")
    parser.add_argument("--tls-key", metavar="FILE", help="private key of the certificate in PEM")
    parser.add_argument("--max-bytes", type=_bytes, metavar="N", help="maximum size of the store (500MB, 20G, 20GiB)")
    parser.add_argument(
        "--blobs", metavar="WHERE", help="move packed transcripts to a directory or to s3://BUCKET/PREFIX"
    )
    parser.add_argument("--token-file", metavar="FILE", help="also accept the token in this file; created if missing")
    parser.add_argument("--access-log", action="store_true", help="log each request to stderr, or to the journal")
    parser.add_argument(
        "--push-interval",
        metavar="TIME",
        type=_interval,
        default=0.0,
        help="least time between two pushes of a device (1s, 2m), for thousands of devices",
    )
    parser.add_argument(
        "--trust-proxy",
        metavar="CIDR",
        action="append",
        default=[],
        help="address of a proxy that signs users in; they may read their sessions; repeatable",
    )
    parser.add_argument(
        "--user-header",
        metavar="NAME",
        default="X-Forwarded-User",
        help="header of that proxy with the user's name; default: %(default)s",
    )
    parser.add_argument(
        "--drain",
        metavar="TIME",
        type=_interval,
        default=0.0,
        help="after SIGTERM, answer 503 for this long, so that a load balancer notices (10s)",
    )
    parser.add_argument("--announce", metavar="TO", help="write the URL as JSON to a file, a descriptor or -")
    parser.add_argument("--until-eof", action="store_true", help="end when stdin ends (for a parent process)")
    _add_commands(parser)


def _add_commands(parser: argparse.ArgumentParser) -> None:
    commands = parser.add_subparsers(dest="serve_command", metavar="[COMMAND]")
    token = add_action(commands, "token", "add, list and revoke tokens")
    more = tokens.add_arguments(token, _scopes, _duration)
    adopt = add_action(commands, "adopt", "allow another device to take over a machine id")
    adopt.add_argument("machine_id", metavar="MACHINE_ID", help="machine id, as the refused device shows it")
    adopt.add_argument("--user", metavar="USER", default="default", help="user of the machine (default: %(default)s)")
    invited = add_action(commands, "invite", "make a code that gives a new device its token")
    more += invite.add_arguments(invited, _scopes, _duration)
    user = add_action(commands, "user", "list users, and limit what each stores")
    tenant = add_action(commands, "tenant", "limit what a group of users stores")
    more += accounts.add_user_arguments(user, _bytes) + accounts.add_tenant_arguments(tenant, _bytes)
    audit = add_action(commands, "audit", "list changes of rights, and what administrators read")
    accounts.add_audit_arguments(audit, _duration)
    migrate = add_action(commands, "migrate", "create or update the tables in PostgreSQL")
    for each in (adopt, invited, audit, migrate, *more):
        _add_data(each, argparse.SUPPRESS)


def run(args: argparse.Namespace) -> int:
    """Run the command and return exit code 0.

    Raises:
        SessiondError: the command failed.
    """
    directory = args.data or _default_directory()
    if args.store is not None and args.data is not None:
        raise ConfigError("--data and --store name two stores", hint="give one of them")
    if args.serve_command is None:
        return _serve(args, directory)
    if args.serve_command == "migrate":
        return _migrate(args.store)
    store = _open(args, directory)
    try:
        if args.serve_command == "adopt":
            return _adopt(store, args.machine_id, args.user)
        commands = {"invite": invite.run, "user": accounts.run_user, "tenant": accounts.run_tenant, "token": tokens.run}
        commands["audit"] = accounts.run_audit
        return commands[args.serve_command](store, args)
    finally:
        store.close()


def _serve(args: argparse.Namespace, directory: str) -> int:
    from sessiond import logs
    from sessiond.config.url import is_loopback
    from sessiond.endpoint.server import run as server

    if args.tls_cert is None and not is_loopback(args.host):
        _warn(f"warning: {args.host} without TLS: anyone on the network can read tokens and transcripts")
        _warn("  use --tls-cert and --tls-key, or a TLS proxy in front of the endpoint")
    if not (args.token_file or _has_tokens(args, directory)):
        _warn("there is no token yet: every request will be refused")
        option = f" --data {args.data}" if args.data else " --store URL" if args.store else ""
        _warn(f"  invite a machine: sessiond serve invite{option}")
    if args.access_log:
        logs.configure(environ=args.environ)
    served = directory if args.store is None else "the database"
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
            access_log=args.access_log,
            store_url=args.store,
            blobs=args.blobs,
            push_interval=args.push_interval,
            drain=args.drain,
            trust_proxy=tuple(args.trust_proxy),
            user_header=args.user_header,
        ),
        listening=None if args.announce else lambda url: _warn(f"serving {served} at {url}"),
    )
    return 0


def _adopt(store: Store, machine: str, user: str) -> int:
    from sessiond.endpoint.server import machines

    machines.adopt(store, machine, user)
    _warn(f"the next other device of user {user} that pushes as {machine} takes it over")
    return 0


def _has_tokens(args: argparse.Namespace, directory: str) -> bool:
    from sessiond.endpoint.server import tokens

    store = _open(args, directory)
    try:
        return bool(tokens.list_tokens(store))
    finally:
        store.close()


def _open(args: argparse.Namespace, directory: str) -> Store:
    """Open the store that the command is about. Raises: ConfigError, StateError."""
    if args.store is not None:
        from sessiond.endpoint.server.opening import open_url

        return open_url(args.store)
    from sessiond.endpoint.server.sqlite_store import SqliteStore

    return SqliteStore(directory)


def _migrate(url: str | None) -> int:
    """Create or update the tables in PostgreSQL. Raises: ConfigError, StateError."""
    from sessiond.endpoint.server.opening import check_url

    if url is None:
        raise ConfigError("a store in a directory needs no migration", hint="name a database with --store")
    check_url(url)
    from sessiond.endpoint.server.postgres_migration import migrate

    ran = migrate(url)
    _warn(f"migrated the tables to version {ran[-1]}" if ran else "the tables are up to date")
    return 0


def _default_directory() -> str:
    import platformdirs

    return os.path.join(platformdirs.user_data_dir("sessiond", appauthor=False), "endpoint")


def _add_data(parser: argparse.ArgumentParser, default: str | None) -> None:
    parser.add_argument("--data", metavar="DIR", default=default, help="directory of the store")
    parser.add_argument("--store", metavar="URL", default=default, help="store in PostgreSQL (postgresql://HOST/NAME)")


def _scopes(text: str) -> list[str]:
    return [each.strip() for each in text.split(",")]


def _port(text: str) -> int:
    if text.isascii() and text.isdigit() and int(text) < 65536:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text} is not a port")


def _bytes(text: str) -> int:
    from sessiond.config.units import parse_size

    with suppress(ValueError):
        size = parse_size(text)
        if size <= MAX_SIZE:
            return size
    raise argparse.ArgumentTypeError(f"{text} is not a size such as 500M, 20 GB or 20 GiB")


def _duration(text: str) -> float:
    from sessiond.config.units import parse_duration

    with suppress(ValueError):
        seconds = parse_duration(text)
        if 0 < seconds < MAX_LIFETIME:
            return seconds
    raise argparse.ArgumentTypeError(f"{text} is not a time such as 90d or 12h")


def _interval(text: str) -> float:
    from sessiond.config.units import parse_duration
    from sessiond.endpoint.pace import LONGEST

    with suppress(ValueError):
        seconds = parse_duration(text)
        if 0 <= seconds <= LONGEST:
            return seconds
    raise argparse.ArgumentTypeError(f"{text} is not a time of at most 5 minutes, such as 1s or 2m")


def _warn(line: str) -> None:
    print(line, file=sys.stderr)
