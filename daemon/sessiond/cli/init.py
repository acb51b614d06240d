"""Set up sessiond: show the tools, choose the endpoint, write a configuration, install the service."""

from __future__ import annotations

import argparse
import os
import sys
from datetime import datetime
from typing import TYPE_CHECKING

from sessiond.atomic import atomic_write
from sessiond.cli.output import columns, escape, size, table, tilde, wrapped
from sessiond.clock import now_ms
from sessiond.errors import ConfigError, EndpointError, Refused, SessiondError
from sessiond.text import count

if TYPE_CHECKING:
    from sessiond.config import Config, Loaded
    from sessiond.doctor.inventory import ToolInventory

TRIES = 5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.description = (
        "Show which tools have sessions here and when they delete them, choose and test the endpoint (or use the"
        " archive on this machine), write a commented configuration, and install the service. An existing configuration"
        " is kept. With --restore, then choose a session of your other machines and start its tool with it in this"
        " directory."
    )
    parser.add_argument("--endpoint", metavar="URL", help='the endpoint; "" for the archive on this machine')
    parser.add_argument("--token-file", metavar="FILE", help="a file of mode 0600 with the token for the endpoint")
    parser.add_argument("--invite", metavar="CODE", help="get a token from the endpoint with the code of an invitation")
    parser.add_argument(
        "--machine-id", metavar="NAME", help="the name of this machine at the endpoint (default: its hostname)"
    )
    parser.add_argument("--yes", action="store_true", help="accept all defaults without asking")
    parser.add_argument("--no-service", action="store_true", help="do not install the service")
    parser.add_argument("--restore", action="store_true", help="choose a session of another machine and resume it here")


def run(args: argparse.Namespace) -> int:
    """Run the steps. An endpoint that fails its test is not written. Raises: SessiondError."""
    from sessiond.cli.config import known_tools, user_file
    from sessiond.config import load

    file = user_file(args)
    there = os.path.exists(file)
    environ = {key: value for key, value in args.environ.items() if key != "SESSIOND_CONFIG"}
    before = load(file if there else None, environ, tools=known_tools())
    _show(before.config, args)
    if there:
        if any(each is not None for each in (args.endpoint, args.token_file, args.invite, args.machine_id)):
            key = "machine_id NAME" if args.machine_id is not None else "endpoint.url URL"
            hint = f"`sessiond config set {key}` changes it"
            raise SessiondError(f"{file} already exists and is kept", hint=hint)
        print(f"{_named(args, file)} already exists and is kept")
        _test(before, environ)
    else:
        _choose(args, file, before, environ)
    code = _service(args, file)
    return _resume(args, file) if args.restore and code == 0 else code


def _show(config: Config, args: argparse.Namespace) -> None:
    from sessiond.doctor.inventory import scan_tools

    inventories = scan_tools(config, args.environ, now_ms())
    if not inventories:
        print("no tool has sessions here yet; new sessions will be captured")
        return
    rows = [["tool", "files", "size", "oldest", "deleted by the tool"]]
    for each in inventories:
        oldest = _day(each.oldest_ms) if each.files else "-"
        rows.append([each.tool, str(each.files), size(each.bytes), oldest, _retention(each)])
    width = columns(sys.stdout)
    for column in (3, 2):  # on a narrow terminal, what the tool deletes says more than the oldest and the size
        if max(map(len, table(rows, right={1, 2}, width=sys.maxsize).split("\n"))) > width:
            rows = [[*row[:column], *row[column + 1 :]] for row in rows]
    print(table(rows, right={1, 2} if len(rows[0]) > 3 else {1}, width=width))
    deleted = sum(each.prompts_only for each in inventories)
    if deleted:
        tools = ", ".join(each.tool for each in inventories if each.prompts_only)
        text = (
            f"{count(deleted, 'more session')} ({tools}) had been deleted before: only the prompts are left, in the"
            " tool's history. They are kept, marked as prompts only."
        )
        print("\n".join(wrapped(text, columns(sys.stdout))))
    print()


def _named(args: argparse.Namespace, file: str) -> str:
    return escape(tilde(file, args.environ.get("HOME", "")))


def _retention(found: ToolInventory) -> str:
    if found.days is None:
        return "never, as far as known"
    soon = f", {found.due} within a week" if found.due else ""
    return f"after {found.days} days{soon}"


def _choose(args: argparse.Namespace, file: str, before: Loaded, environ: dict[str, str]) -> None:
    """Ask for the endpoint until one passes its test, and write the configuration."""
    from sessiond.cli.editing import write_example

    named = {} if args.machine_id is None else {"machine_id": args.machine_id}
    before = _named_as(before, args.machine_id)
    for attempt in range(TRIES):
        url = args.endpoint
        if url is None:
            url = _ask(args, "Endpoint (empty: an archive on this machine)", before.config.endpoint.url)
        token_file = args.token_file or before.config.endpoint.token_file
        chosen, made = {"url": url} if url else {}, False
        try:
            proposed = _with(before, chosen, environ)  # before a token is asked for
            if args.invite:
                token_file, made = _enrol(args.invite, file, token_file, proposed), True
            elif url and not token_file and _asks(args) and not environ.get("SESSIOND_TOKEN"):
                token_file = _new_token_file(file)
                made = bool(token_file)
            if token_file:
                chosen["token_file"] = os.path.abspath(os.path.expanduser(token_file))
            _test(_with(before, chosen, environ), environ)
        except (EndpointError, ConfigError) as error:
            if made:
                os.unlink(token_file)
            if args.endpoint is not None or not _asks(args) or attempt == TRIES - 1:
                raise
            print(f"{error}\n  {error.hint or ''}".rstrip(), file=sys.stderr)
            continue
        write_example(file, **chosen, **named)
        print(f"wrote {_named(args, file)}")
        return


def _named_as(before: Loaded, machine_id: str | None) -> Loaded:
    """Return the configuration with the chosen name of the machine. Raises: ConfigError if it is not valid."""
    import msgspec

    from sessiond.config.model import Name
    from sessiond.decoding import convert

    if machine_id is None:
        return before
    try:
        name = convert(machine_id, Name)
    except msgspec.ValidationError as error:
        raise ConfigError(f"--machine-id: {error}") from error
    return msgspec.structs.replace(before, config=msgspec.structs.replace(before.config, machine_id=name))


def _with(before: Loaded, chosen: dict[str, str], environ: dict[str, str]) -> Loaded:
    """Return the configuration with the chosen endpoint. Raises: ConfigError if it is not valid."""
    import msgspec

    from sessiond.config.url import check_url

    check_url(chosen.get("url", ""), allow_insecure_http=before.config.endpoint.allow_insecure_http)
    endpoint = msgspec.structs.replace(before.config.endpoint, **{"url": "", "token_file": "", **chosen})
    return msgspec.structs.replace(before, config=msgspec.structs.replace(before.config, endpoint=endpoint))


def _test(loaded: Loaded, environ: dict[str, str]) -> None:
    """Test the endpoint with the token, or without one. Raises: EndpointError, ConfigError."""
    from sessiond.config import read_token, state_dir
    from sessiond.device import expect
    from sessiond.endpoint.client import Client

    endpoint = loaded.config.endpoint
    if not endpoint.url:
        print("sessions go to an archive on this machine")
        return
    token = read_token(loaded.config, environ)
    reveal = token.reveal() if token else None
    device_id, name = expect(state_dir(loaded.config))
    name = loaded.config.machine_id or name
    client = Client(
        endpoint.url, reveal, device_id=device_id, timeout=endpoint.timeout, ca_file=endpoint.ca_file or None
    )
    try:
        about = client.check()
        taken = "offsets" in about.features and client.is_taken(name)
    except Refused as error:
        if token is None:
            error.hint = "give it a token: --token-file FILE, or --invite CODE with the code of an invitation"
        raise
    finally:
        client.close()
    accepted = "accepts the token" if token else "needs no token"
    print(f"{escape(endpoint.url)} answers (version {escape(about.version)}) and {accepted}")
    if taken:
        from sessiond.endpoint.machine_name import describe_taken, taken_fix

        print(f"sessiond: warning: {escape(describe_taken(name))}\n  {escape(taken_fix(name))}", file=sys.stderr)


def _new_token_file(file: str) -> str:
    """Ask for a token and store it beside the configuration; return its path, or "" if none was given."""
    import getpass

    token = getpass.getpass("Token (not shown; empty: none): ", stream=sys.stderr).strip()
    return _write_token(file, token) if token else ""


def _enrol(code: str, file: str, token_file: str, chosen: Loaded) -> str:
    """Get a token for this device, store it beside the configuration, and return its path. Raises: SessiondError."""
    from sessiond import state
    from sessiond.config import state_dir
    from sessiond.device import identify
    from sessiond.endpoint.client import Client

    endpoint = chosen.config.endpoint
    if not endpoint.url:
        raise SessiondError("--invite needs the endpoint that it is from", hint="add --endpoint URL")
    if token_file:
        raise SessiondError("--invite makes a new token", hint="give either --invite or --token-file")
    _refuse_existing(file)  # before the code is used
    directory = state_dir(chosen.config)
    state.prepare(directory)
    device = identify(directory)
    client = Client(
        endpoint.url, None, device_id=device.device_id, timeout=endpoint.timeout, ca_file=endpoint.ca_file or None
    )
    try:
        enrolled = client.enrol(code, chosen.config.machine_id or device.machine_id)
    except Refused as error:
        raise Refused(error.message, hint="on the endpoint, make another one: sessiond serve invite") from error
    finally:
        client.close()
    print(f"{escape(endpoint.url)} gave this machine the token {escape(enrolled.name)}")
    return _write_token(file, enrolled.token)


def _token_path(file: str) -> str:
    return os.path.join(os.path.dirname(file), "token")


def _refuse_existing(file: str) -> None:
    path = _token_path(file)
    if os.path.lexists(path):
        raise SessiondError(f"{path} already exists", hint=f"use it: --token-file {path}")


def _write_token(file: str, token: str) -> str:
    """Write a token beside the configuration with mode 0600; return its path. Raises: SessiondError if one exists."""
    path = _token_path(file)
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    try:
        atomic_write(path, f"{token}\n".encode(), exclusive=True)
    except FileExistsError:
        _refuse_existing(file)
        raise
    return path


def _service(args: argparse.Namespace, file: str) -> int:
    if args.no_service or not (args.yes or _asks(args)):
        print("`sessiond run` starts it in this terminal, `sessiond install` as a service.", file=sys.stderr)
        return 0
    if _ask(args, "Install it as a service and start it? [Y/n]", "y").lower() not in ("y", "yes"):
        return 0
    from sessiond.cli import install

    again = argparse.Namespace(
        config=_chosen_file(args, file), environ=args.environ, linger=None, only_print=False, assent=args.yes
    )
    return install.run(again)


def _resume(args: argparse.Namespace, file: str) -> int:
    from sessiond.cli import resume

    parser = argparse.ArgumentParser()
    resume.add_arguments(parser)
    parser.set_defaults(config=_chosen_file(args, file), environ=args.environ)
    return resume.run(parser.parse_args(["--all"]))


def _chosen_file(args: argparse.Namespace, file: str) -> str | None:
    """Return the configuration for a further command; None if it finds the file by itself."""
    return file if args.config or args.environ.get("SESSIOND_CONFIG") else None


def _asks(args: argparse.Namespace) -> bool:
    return not args.yes and sys.stdin.isatty() and sys.stderr.isatty()


def _ask(args: argparse.Namespace, question: str, default: str) -> str:
    if not _asks(args):
        return default
    shown = f" [{default}]" if default and "[" not in question else ""
    print(f"{question}{shown}: ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip() or default


def _day(milliseconds: int) -> str:
    return datetime.fromtimestamp(milliseconds / 1000).astimezone().strftime("%Y-%m-%d")
