"""Shared by `restore` and `resume`: fetch a session, carry out the plan of its tool's recipe, and show it."""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import NoReturn
from uuid import UUID

import msgspec

from sessiond import state
from sessiond.cli.output import columns, escape, load_config, size, tilde, wrapped
from sessiond.cli.path_list import folded, shortened
from sessiond.cli.spooled import SpooledSessions
from sessiond.cli.streams import open_client, read_archive
from sessiond.clock import now_ms
from sessiond.config import state_dir
from sessiond.device import identify
from sessiond.endpoint import wire
from sessiond.errors import EndpointError, NotFound, SessiondError
from sessiond.restore import (
    Archive,
    Conflict,
    Here,
    Restoration,
    Restorer,
    Sessions,
    identity_here,
    keep_from_cleanup,
    marked,
    masked_notes,
    missing,
    read_linked,
    read_small,
)
from sessiond.restored import Mark, RestoredSessions
from sessiond.session import Session
from sessiond.sources.plan import ArchivedSession, Command, Plan, Recipe, Target, Unrestorable
from sessiond.sources.recipes import find_recipe, reason_without_recipe
from sessiond.sources.user_dirs import UserDirs
from sessiond.spool import NAME, Spool
from sessiond.spool.rows import SessionState
from sessiond.text import count

LABEL = 10
"""Columns of the labels before what is shown."""


class RestoreContext(msgspec.Struct, frozen=True, kw_only=True):
    """The archive, this machine's state, and the arguments of the command."""

    args: argparse.Namespace
    """With `all`, `directory`, `home`, `dry_run`, `fork`, `launch` and `environ`."""
    archive: Archive
    restorer: Restorer
    restored: RestoredSessions
    machine_id: str
    is_erased: Callable[[UUID], bool]
    """Whether the user erased a session (`sessiond forget`)."""
    captured: Callable[[UUID], SessionState | None]
    """What this machine captured of a session."""

    def directory(self, stored: wire.StoredSession) -> str:
        """Return the project's directory here: as asked, else where this machine has the session, else this directory.

        Of a list of all projects, a directory of the same path comes before this one. Raises: NotFound without it.
        """
        asked: str | None = self.args.directory
        if asked is None:
            same = stored.record.working_directory if self.args.all else ""
            known = self._known_directory(stored.record.id, stored.record)
            return known or (same if os.path.isdir(same) else os.getcwd())
        directory = os.path.realpath(os.path.expanduser(asked))  # as the tool will see it, whatever links lead to it
        if not os.path.isdir(directory):
            raise NotFound(
                f"the directory {directory} does not exist", hint="make it, or name another with --directory"
            )
        return directory

    def target(self, directory: str) -> Target:
        """Return where to restore to."""
        if self.args.home:
            dirs = UserDirs(home=os.path.abspath(os.path.expanduser(self.args.home)), environ={})
        else:
            dirs = UserDirs.current(self.args.environ)
        return Target(
            dirs=dirs,
            directory=directory,
            exists=os.path.lexists,
            read=read_small,
            read_linked=read_linked,
            names=_names,
        )

    def elsewhere(
        self, recipe: Recipe, session: ArchivedSession, plan: Plan, target: Target, identity: UUID
    ) -> str | None:
        """Return the transcript that this machine has of the session for another directory; None if there is none.

        `identity` is the id of the session on this machine.
        """
        known = self._known_directory(identity, session.record)
        if known is None or known == target.directory:
            return None
        planned = {file.path for file in plan.files}
        others = recipe.plan(session, msgspec.structs.replace(target, directory=known)).files
        return next((each.path for each in others if each.path not in planned and target.exists(each.path)), None)

    def _known_directory(self, identity: UUID, newest: Session) -> str | None:
        """Return where this machine has a session. `newest`, its newest record, may be another machine's."""
        if self.args.home:
            return None  # what this home has is not in the other one
        mark, here = self.restored.find(identity), self.captured(identity)
        if mark is not None:
            directory = mark.directory
        else:
            record = newest if here is None or here.record is None else here.record
            directory = record.working_directory if record.machine_id == self.machine_id else ""
        return directory if directory and os.path.isdir(directory) else None


def _names(directory: str) -> list[str]:
    """Return the names in a directory; nothing if there is none."""
    try:
        return os.listdir(directory)
    except (FileNotFoundError, NotADirectoryError):
        return []


@contextmanager
def opened(args: argparse.Namespace) -> Iterator[RestoreContext]:
    """Open the archive, and complete a restore that was interrupted. Raises: EndpointError, StateError."""
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
        local = list[Callable[[], Sessions]]()
        if config.endpoint.url and state.has_archive(directory):
            local.append(lambda: stack.enter_context(read_archive(directory)))
        if spool is not None:
            local.append(partial(SpooledSessions, spool, config, args.environ))
        try:
            client = stack.enter_context(open_client(spool, config, args.environ))
        except (EndpointError, FileNotFoundError):  # not even an archive, or one that a daemon is about to create
            if not local:
                raise
            client = None
        archive = Archive(client, restorer.scratch, local, _warn)
        stack.callback(archive.close)
        yield RestoreContext(
            args=args,
            archive=archive,
            restorer=restorer,
            restored=RestoredSessions(directory),
            machine_id=config.machine_id or identify(directory).machine_id,
            is_erased=lambda identity: spool is not None and spool.forgotten.has(str(identity)),
            captured=lambda identity: None if spool is None else spool.catalog.session(identity),
        )


def _warn(text: str) -> None:
    print(f"warning: {escape(text)}", file=sys.stderr)


def bring_back(context: RestoreContext, copies: list[wire.StoredSession]) -> Command:
    """Restore a session, given its copies at the endpoint; return the command that resumes it.

    Raises: SessiondError, EndpointError, OSError.
    """
    args, stored = context.args, copies[0]
    tool, identity = stored.record.tool, stored.record.id
    _require_not_erased(context, identity)
    recipe = find_recipe(tool)
    handoff = f"to continue it in any tool: sessiond export --format handoff {str(identity)[:8]}"
    if recipe is None or stored.prompts_only:
        why = "only its prompts are known" if stored.prompts_only else reason_without_recipe(tool)
        raise SessiondError(f"a session of {tool} can't be restored: {why}", hint=handoff)
    target = context.target(context.directory(stored))
    try:
        restoration, marks = _prepare(context, recipe, stored, target)
    except Unrestorable as error:
        raise SessiondError(f"the session can't be restored: {error}", hint=handoff) from error
    command = restoration.plan.fork if args.fork else restoration.plan.resume
    if command is None:
        raise SessiondError(f"{tool} can't continue a session in a copy", hint="leave out --fork")
    if args.home:
        command = msgspec.structs.replace(command, environ={"HOME": target.dirs.home, **command.environ})
    if args.launch and not args.dry_run:
        _require(command, args.environ)
    _show(stored, restoration, target, args)
    if not args.dry_run and not restoration.complete:
        context.restorer.carry_out(restoration, marks)
    print(f"{'resume':<{LABEL}}{escape(_shell(command))}")
    return command


def launch(command: Command, environ: Mapping[str, str]) -> NoReturn:
    """Replace this process by the tool. Raises: OSError."""
    sys.stdout.flush()
    os.chdir(command.directory)
    os.execvpe(command.argv[0], command.argv, {**environ, **command.environ})  # noqa: S606 - as asked


def _require(command: Command, environ: Mapping[str, str]) -> None:
    """Check that the tool is installed, before anything is written for it. Raises: NotFound."""
    if shutil.which(command.argv[0], path=environ.get("PATH")) is None:
        raise NotFound(
            f"{command.argv[0]} is not installed here", hint="install it, or see what it would run: --dry-run"
        )


def _prepare(
    context: RestoreContext, recipe: Recipe, stored: wire.StoredSession, target: Target
) -> tuple[Restoration, dict[UUID, Mark]]:
    """Fetch a session with those that come along, and check the plan for all of them."""
    archive, marks = context.archive, dict[UUID, Mark]()
    here = Here(machine_id=context.machine_id, directory=target.directory, endpoint=archive.endpoint())
    session = archive.fetch(stored)
    plan = recipe.plan(session, target)
    identity = identity_here(stored.record, plan, here.machine_id)
    _require_not_erased(context, identity)
    elsewhere = context.elsewhere(recipe, session, plan, target, identity)
    if elsewhere is not None:
        # Two files of one session would each be continued, and become different sessions with one id.
        raise Conflict(f"the session is here already, for another directory: {elsewhere}", hint="leave out --directory")
    _mark(archive, session, here, identity, marks)
    for relative in archive.relatives(stored, recipe):
        further = recipe.plan(relative, target)
        _mark(archive, relative, here, identity_here(relative.record, further, here.machine_id), marks)
        plan = msgspec.structs.replace(
            plan,
            files=(*further.files, *plan.files),
            edits=(*further.edits, *plan.edits),
            imports=(*plan.imports, *further.imports),
        )
    return context.restorer.check(keep_from_cleanup(plan, stored.record.tool, target.dirs, now_ms())), marks


def _mark(archive: Archive, session: ArchivedSession, here: Here, identity: UUID, marks: dict[UUID, Mark]) -> None:
    """Add the mark of a session, given its id here, unless it is this machine's own session."""
    if (session.record.machine_id, session.record.id) == (here.machine_id, identity):
        return
    copy = archive.copy(here.machine_id, identity)
    marked(marks, session, None if copy is None else archive.fetch(copy), here, identity)


def _require_not_erased(context: RestoreContext, identity: UUID) -> None:
    """Check that the user has not erased a session. Raises: SessiondError."""
    if context.is_erased(identity):
        raise SessiondError(f"session {identity} was erased on this machine: it is not restored")


def _show(stored: wire.StoredSession, restoration: Restoration, target: Target, args: argparse.Namespace) -> None:
    """Print what is restored from where to where."""
    record, home = stored.record, args.environ.get("HOME", "")
    rows = [
        ("session", f"{record.id}  {stored.title or ''}".rstrip()),
        ("tool", f"{record.tool} {record.tool_version or ''}".rstrip() + f", on {record.machine_id}"),
        ("project", f"{record.working_directory or '(unknown)'} -> {target.directory}"),
    ]
    will = "would be " if args.dry_run else ""
    documents = [each.path for each in restoration.plan.edits if each.transcript]
    for what, found in (
        (f"{will}created", [each.path for each in restoration.new]),
        (f"{will}continued", [*(each.path for each, _ in restoration.behind), *documents]),
        ("already here", [each.path for each in restoration.kept]),
    ):
        paths = [tilde(each, home) for each in found]
        rows += [("file", f"{what}: {text}") for text in (folded(paths) if args.dry_run else shortened(paths))]
    rows += [("import", f"{will}run: {_shell(each.command)}") for each in restoration.plan.imports]
    if left := missing(stored):
        rows.append(("missing", f"{record.machine_id} has not pushed the last {size(left)} yet"))
    rows += [("masked", each) for each in masked_notes(restoration, target.read)]
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
