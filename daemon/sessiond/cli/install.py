"""Install sessiond as a service of the user, enable it and start it."""

from __future__ import annotations

import argparse
import os
import sys

from sessiond.cli.output import escape, load_config, warn
from sessiond.errors import AlreadyRunning, ServiceError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.description = (
        "Write the unit (systemd) or the agent (launchd) for this executable, enable it and start it. Run it again"
        " after a move or an upgrade: it updates the files and restarts the service. State and configuration do"
        " not change."
    )
    linger = parser.add_mutually_exclusive_group()
    linger.add_argument("--linger", action="store_true", default=None, help="keep running after you log out")
    linger.add_argument("--no-linger", dest="linger", action="store_false", help="stop when you log out")
    parser.set_defaults(assent=False)  # `sessiond init --yes` sets it to accept the defaults
    parser.add_argument("--print", action="store_true", dest="only_print", help="print the unit and change nothing")


def run(args: argparse.Namespace) -> int:
    """Install and start the service; check the service manager before writing. Raises: SessiondError."""
    from sessiond import service
    from sessiond.config import read_token, state_dir
    from sessiond.sources import find_sources

    loaded = load_config(args, tools=[source.tool for source in find_sources()])
    directory = state_dir(loaded.config)
    manager = service.find(args.environ)
    plan = service.make_plan(args.environ, directory, args.config or args.environ.get("SESSIOND_CONFIG"))
    if args.only_print:
        print(manager.render(plan), end="")
        return 0
    manager.check()
    for name in plan.left_out:
        warn(f"{name} may contain a secret and is not copied into the service")
    if loaded.config.endpoint.url:
        # The service does not get SESSIOND_TOKEN, so the token has to come from the file.
        read_token(loaded.config, {key: value for key, value in args.environ.items() if key != "SESSIOND_TOKEN"})
    _refuse_other_daemon(directory, manager.pid())
    for step in manager.install(plan):
        print(escape(step))
    held = _offer_linger(manager, args.linger, assent=args.assent)
    print("`sessiond status` shows its state, `sessiond uninstall` removes it.", file=sys.stderr)
    return 1 if args.linger and not held else 0


def _refuse_other_daemon(directory: str, ours: int | None) -> None:
    """Refuse if a daemon runs outside the service manager: the service could not get its lock."""
    from sessiond import state

    holder = state.running(directory)
    if holder is not None and holder.pid != ours:
        raise AlreadyRunning(
            f"another sessiond (pid {holder.pid or 'unknown'}), which is not the service, uses {directory}",
            hint=f"stop it first (Ctrl+C, or `kill {holder.pid}`); nothing was changed",
        )


def _offer_linger(manager: object, wanted: bool | None, *, assent: bool) -> bool:
    """Enable lingering if wanted; return False if it was wanted and failed."""
    from sessiond.service import Systemd

    if not isinstance(manager, Systemd) or wanted is False:
        return True
    lingers = manager.lingers()
    if lingers or (lingers is None and not wanted):
        return True
    if wanted is None and not assent:
        if not (sys.stdin.isatty() and sys.stderr.isatty()):
            print("It stops when you log out; `sessiond install --linger` keeps it running.", file=sys.stderr)
            return True
        print("Keep it running after you log out, and start it at boot? [Y/n] ", end="", file=sys.stderr, flush=True)
        if sys.stdin.readline().lower() not in ("\n", "y\n", "yes\n"):  # end of input is not a yes
            return True
    try:
        manager.linger()
    except ServiceError as error:
        warn(f"{error.message}; {error.hint}".replace("USER", os.environ.get("USER", "USER")))
        return False
    print("enabled lingering: it starts at boot and keeps running after you log out")
    return True
