"""Bring a session of any machine back: put it where its tool looks for it, and print the command that resumes it."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING
from uuid import UUID

from sessiond.cli.output import columns, count, escape, load_config, size, tilde, wrapped
from sessiond.config import state_dir
from sessiond.errors import NotFound, SessiondError

if TYPE_CHECKING:
    from sessiond.endpoint import wire
    from sessiond.restore import Archive, Restoration, Restorer
    from sessiond.restored import Mark
    from sessiond.sources.plan import ArchivedSession, Command, Recipe, Target

LABEL = 10


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.description = (
        "Bring a session of any of your machines back: put it where its tool looks for it, and print the command that"
        " resumes it. Files that exist are never overwritten. Secrets that were masked stay masked."
    )
    parser.add_argument("id", metavar="ID", help="the id of the session, or a unique prefix of it")
    parser.add_argument("--directory", metavar="DIR", help="the project's directory here (default: this directory)")
    parser.add_argument("--home", metavar="DIR", help="another home directory to restore into")
    parser.add_argument("--dry-run", action="store_true", help="show what would be written, and write nothing")
    parser.add_argument("--fork", action="store_true", help="continue in a copy with a new id, if the tool can")
    parser.add_argument("--launch", action="store_true", help="start the tool with the session")


def run(args: argparse.Namespace) -> int:
    """Restore a session. Raises: NotFound, EndpointError, SessiondError."""
    from sessiond import state
    from sessiond.cli.streams import open_client
    from sessiond.restore import Archive, Restorer
    from sessiond.spool import NAME, Spool

    config = load_config(args).config
    directory = state_dir(config)
    state.prepare(directory)
    restorer = Restorer(directory, args.environ)
    recovered = restorer.recover()
    if recovered:
        print(recovered, file=sys.stderr)
    with ExitStack() as stack:
        spool = None
        if os.path.exists(os.path.join(directory, NAME)):
            spool = Spool(directory, readonly=True)
            stack.callback(spool.close)
        client = stack.enter_context(open_client(spool, config, args.environ))
        archive = Archive(client, restorer.scratch)
        stack.callback(archive.close)
        command = _restore(args, archive, restorer, config.machine_id or _machine_id(directory))
    if args.launch and not args.dry_run:
        sys.stdout.flush()
        os.chdir(command.directory)
        os.execvpe(command.argv[0], command.argv, {**args.environ, **command.environ})  # noqa: S606 - as asked
    return 0


def _restore(args: argparse.Namespace, archive: Archive, restorer: Restorer, machine_id: str) -> Command:
    from sessiond.sources.plan import Unrestorable
    from sessiond.sources.recipes import find_recipe, restorable_tools

    copies = archive.find(args.id)
    stored = copies[0]
    tool, identity = stored.record.tool, stored.record.id
    recipe = find_recipe(tool)
    handoff = f"to continue it in any tool: sessiond export --format handoff {str(identity)[:8]}"
    if recipe is None or stored.prompts_only:
        known = ", ".join(restorable_tools())
        why = "only its prompts are known" if stored.prompts_only else f"restoring works for {known}"
        raise SessiondError(f"a session of {tool} can't be restored: {why}", hint=handoff)
    target = _target(args)
    try:
        restoration, marks = _prepare(archive, restorer, recipe, copies, target, machine_id)
    except Unrestorable as error:
        raise SessiondError(f"the session can't be restored: {error}", hint=handoff) from error
    command = restoration.plan.fork if args.fork else restoration.plan.resume
    if command is None:
        raise SessiondError(f"{tool} can't continue a session in a copy", hint="leave out --fork")
    _show(stored, restoration, target, args)
    if not args.dry_run and not restoration.complete:
        restorer.carry_out(restoration, marks)
    print(f"{'resume':<{LABEL}}{escape(_shell(command))}")
    return command


def _prepare(
    archive: Archive,
    restorer: Restorer,
    recipe: Recipe,
    copies: list[wire.StoredSession],
    target: Target,
    machine_id: str,
) -> tuple[Restoration, dict[UUID, Mark]]:
    """Fetch a session with those that come along, and check the plan for all of them."""
    from msgspec.structs import replace

    from sessiond.restore import marked

    stored = copies[0]
    session = archive.fetch(stored)
    plan, marks = recipe.plan(session, target), dict[UUID, "Mark"]()
    own = next((each for each in copies if each.record.machine_id == machine_id), None)
    marked(marks, session, None if own is None or own is stored else archive.fetch(own), machine_id, target)
    for each in archive.relatives(stored, parents=recipe.parents, children=recipe.children):
        relative: ArchivedSession = archive.fetch(each)
        further = recipe.plan(relative, target)
        marked(marks, relative, None, machine_id, target)
        plan = replace(
            plan,
            files=(*further.files, *plan.files),
            edits=(*further.edits, *plan.edits),
            imports=(*plan.imports, *further.imports),
        )
    return restorer.check(plan), marks


def _target(args: argparse.Namespace) -> Target:
    from sessiond.restore import read_small
    from sessiond.sources.plan import Target
    from sessiond.sources.user_dirs import UserDirs

    directory = os.path.abspath(os.path.expanduser(args.directory or os.getcwd()))
    if not os.path.isdir(directory):
        raise NotFound(f"the directory {directory} does not exist", hint="make it, or name another with --directory")
    if args.home:
        dirs = UserDirs(home=os.path.abspath(os.path.expanduser(args.home)), environ={})
    else:
        dirs = UserDirs.current(args.environ)
    return Target(dirs=dirs, directory=directory, exists=os.path.lexists, read=read_small)


def _show(stored: wire.StoredSession, restoration: Restoration, target: Target, args: argparse.Namespace) -> None:
    """Print what is restored from where to where."""
    from sessiond.restore import missing

    record, home = stored.record, args.environ.get("HOME", "")
    rows = [
        ("session", f"{record.id}  {stored.title or ''}".rstrip()),
        ("tool", f"{record.tool} {record.tool_version or ''}".rstrip() + f", on {record.machine_id}"),
        ("project", f"{record.working_directory or '(unknown)'} -> {target.directory}"),
    ]
    will = "would be " if args.dry_run else ""
    rows += [("file", f"{will}created: {tilde(each.path, home)}") for each in restoration.new]
    rows += [("file", f"{will}continued: {tilde(each.path, home)}") for each, _ in restoration.behind]
    rows += [("file", f"already here: {tilde(each.path, home)}") for each in restoration.kept]
    rows += [("import", f"{will}run: {_shell(each.command)}") for each in restoration.plan.imports]
    left = missing(stored)
    if left:
        rows.append(("missing", f"{record.machine_id} has not pushed the last {size(left)} yet"))
    rows.append(("masked", "secrets were masked before they left their machine; the tool sees asterisks instead"))
    rows += [("note", each) for each in restoration.plan.notes]
    for label, text in rows:
        for number, line in enumerate(wrapped(escape(text), columns(sys.stdout) - LABEL)):
            print(f"{'' if number else label:<{LABEL}}{line}")
    if restoration.complete:
        print(f"{'':<{LABEL}}{count(len(restoration.kept), 'file')} here already; nothing to do")


def _shell(command: Command) -> str:
    """Return a command as a line for a shell."""
    variables = [f"{name}={shlex.quote(value)}" for name, value in command.environ.items()]
    return f"cd {shlex.quote(command.directory)} && " + " ".join([*variables, shlex.join(command.argv)])


def _machine_id(directory: str) -> str:
    from sessiond.device import identify

    return identify(directory).machine_id
