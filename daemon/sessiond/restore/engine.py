"""Checks a plan, carries it out, and undoes it if it fails."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from itertools import chain
from uuid import UUID

import msgspec

from sessiond.errors import SessiondError
from sessiond.restore.compare import Comparison, Relation, compare
from sessiond.restore.journal import IMPORT, Conflict, Journal, JournalFile, Staged, place, undo
from sessiond.restore.processes import running_programs
from sessiond.restored import Mark, RestoredSessions
from sessiond.sources.plan import IMPORT_FILE, Plan, PlannedEdit, PlannedFile, PlannedImport, Unrestorable

IMPORT_SECONDS = 300
SMALL_FILE = 16 << 20
"""Largest index that is read, in bytes."""


class Restoration(msgspec.Struct, frozen=True, kw_only=True):
    """A plan that was checked against this machine."""

    plan: Plan
    new: tuple[PlannedFile, ...]
    behind: tuple[tuple[PlannedFile, int], ...]
    """Transcripts of which this machine has the first bytes, and how many."""
    kept: tuple[PlannedFile, ...]
    """Files that are here already."""

    @property
    def complete(self) -> bool:
        """Whether everything is here already."""
        return not (self.new or self.behind or self.plan.edits or self.plan.imports)


class Restorer:
    """Carries out plans, one at a time, with a journal in the state directory."""

    def __init__(
        self,
        state_directory: str,
        environ: Mapping[str, str],
        running: Callable[[Iterable[str], str], list[str]] = running_programs,
    ) -> None:
        """`running` returns which of some programs have a process that may use a directory."""
        self._journal = JournalFile(state_directory)
        self._marks = RestoredSessions(state_directory)
        self._environ = environ
        self._running = running

    @property
    def scratch(self) -> str:
        """The directory for temporary content; it exists."""
        os.makedirs(self._journal.directory, mode=0o700, exist_ok=True)
        return self._journal.directory

    def recover(self) -> str | None:
        """Complete or undo a restore that was killed; return what was done. Raises: StateError."""
        with self._journal.locked():
            journal = self._journal.read()
            if journal is None:
                return None
            try:
                if not journal.placing:
                    raise Conflict("it had only begun")
                place(journal, again=True)
                outcome = "a restore that was interrupted is complete now"
                if journal.imports:
                    outcome = "a restore was interrupted before the tool's import: restore the session again"
            except (Conflict, FileNotFoundError) as error:
                undo(journal)
                outcome = f"a restore that was interrupted is undone: {error}"
            self._journal.remove()
            return outcome

    def check(self, plan: Plan) -> Restoration:
        """Compare a plan with this machine.

        Raises: Conflict if a transcript exists with other content, or a program of the tool holds what would change.
        """
        new, behind, kept = list[PlannedFile](), list[tuple[PlannedFile, int]](), list[PlannedFile]()
        paths = set[str]()
        for file in plan.files:
            if file.path in paths and not file.transcript:
                continue  # sessions that are restored together may share a side file
            paths.add(file.path)
            _check_path(plan, file.path)
            found = compare(file.path, file.content)
            match found.relation:
                case Relation.MISSING:
                    new.append(file)
                case Relation.BEHIND if file.transcript:
                    behind.append((file, found.size))
                case Relation.DIFFERENT if file.transcript:
                    raise _differs(file, found)
                case _:
                    kept.append(file)
        for edit in plan.edits:
            _check_path(plan, edit.path)
        running = self._running(plan.programs, os.path.realpath(plan.base)) if behind or plan.edits else []
        if running:
            changed = behind[0][0].path if behind else plan.edits[0].path
            raise Conflict(f"{', '.join(running)} is running and may write to {changed}", hint="end it and try again")
        return Restoration(plan=plan, new=tuple(new), behind=tuple(behind), kept=tuple(kept))

    def carry_out(self, restoration: Restoration, marks: Mapping[UUID, Mark] | None = None) -> None:
        """Write everything. A kill at any time leaves nothing, or what `recover` completes.

        `marks` are stored first: a daemon that meets the files must know already which messages are not from here.

        Raises: Conflict, SessiondError if the tool's import fails, OSError.
        """
        with self._journal.locked():
            for identity, mark in (marks or {}).items():
                self._marks.add(identity, mark)
            journal = self._plan_staging(restoration)
            self._journal.write(journal)
            try:
                journal = self._stage(restoration, journal)
                self._journal.write(journal)
                place(journal)
                for each in restoration.plan.imports:
                    self._import(each)
            except BaseException:
                undo(journal)
                self._journal.remove()
                raise
            self._journal.remove()

    def _plan_staging(self, restoration: Restoration) -> Journal:
        """Return the journal with the names of all that will be created before it is placed."""
        directories, files = dict[str, None](), list[Staged]()
        for path in _paths(restoration):
            directory = os.path.dirname(path)
            missing = []
            while directory not in directories and not os.path.isdir(directory):
                missing.append(directory)
                directory = os.path.dirname(directory)
            directories |= dict.fromkeys(reversed(missing))
            name = f".{os.path.basename(path)[:100]}.{os.urandom(4).hex()}.tmp"
            files.append(Staged(temporary=os.path.join(os.path.dirname(path), name), path=path))
        return Journal(directories=tuple(directories), files=tuple(files), imports=bool(restoration.plan.imports))

    def _stage(self, restoration: Restoration, journal: Journal) -> Journal:
        """Write all content under temporary names, and sync it."""
        for directory in journal.directories:
            with suppress(FileExistsError):
                os.mkdir(directory, 0o700)
        staged, names = list[Staged](), iter(journal.files)
        for file in restoration.new:
            staged.append(_write(next(names), file.content(), file.mode, file.mtime_ms))
        for file, size in restoration.behind:
            written = _write(next(names), _after(file.content(), size), file.mode, file.mtime_ms)
            staged.append(msgspec.structs.replace(written, offset=size, mtime_ms=file.mtime_ms))
        for edit in restoration.plan.edits:
            staged.append(_stage_edit(next(names), edit))
        return msgspec.structs.replace(journal, placing=True, files=tuple(staged))

    def _import(self, planned: PlannedImport) -> None:
        """Run the tool's import of a file. Raises: SessiondError."""
        path = os.path.join(self.scratch, f"{IMPORT}{os.urandom(4).hex()}{planned.suffix}")
        argv = [path if part == IMPORT_FILE else part for part in planned.command.argv]
        try:
            _write(Staged(path, path), planned.content(), 0o600, 0)
            environ = {**self._environ, **planned.command.environ}
            done = subprocess.run(  # noqa: S603 - the tool's own command, of a recipe
                argv,
                check=False,
                cwd=planned.command.directory,
                env=environ,
                capture_output=True,
                timeout=IMPORT_SECONDS,
            )
        except FileNotFoundError as error:
            raise SessiondError(f"{argv[0]} is not installed here", hint="install it and try again") from error
        except subprocess.TimeoutExpired as error:
            raise SessiondError(f"`{argv[0]} {argv[1]}` did not end within {IMPORT_SECONDS} s") from error
        finally:
            with suppress(FileNotFoundError):
                os.unlink(path)
        if done.returncode:
            last = (done.stderr or done.stdout).decode(errors="replace").strip().splitlines()[-1:]
            raise SessiondError(f"`{argv[0]} {argv[1]}` failed: {''.join(last) or done.returncode}")


def read_small(path: str, *, links: bool = False) -> bytes:
    """Return the content of a tool's index; b"" if there is none. With `links`, it may be behind a link.

    Raises: Conflict for a large file, or one that can't be read; without `links` for a link.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | (0 if links else os.O_NOFOLLOW) | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(descriptor, "rb") as file:
            content = file.read(SMALL_FILE + 1) or b""  # None for a pipe that another process has open
    except (FileNotFoundError, NotADirectoryError):
        return b""
    except OSError as error:
        raise Conflict(f"{path} can't be read: {error.strerror}") from error
    if len(content) > SMALL_FILE:
        raise Conflict(f"{path} is larger than expected")
    return content


def read_linked(path: str) -> bytes:
    """Return the content of a tool's file that is never written, also behind a link, as the tool reads it.

    Raises: Conflict for a large file, or one that can't be read.
    """
    return read_small(path, links=True)


def _paths(restoration: Restoration) -> Iterator[str]:
    files = chain(restoration.new, (file for file, _ in restoration.behind))
    return chain((file.path for file in files), (edit.path for edit in restoration.plan.edits))


def _check_path(plan: Plan, path: str) -> None:
    """Refuse a path outside the tool's directory: parts of it come from the endpoint. Raises: Conflict."""
    if os.path.normpath(path) != path or not path.startswith(plan.base.rstrip("/") + "/"):
        raise Conflict(f"{path!a} is not below {plan.base}")


def _differs(file: PlannedFile, found: Comparison) -> Conflict:
    length = sum(map(len, file.content()))
    return Conflict(
        f"{file.path} exists with other content ({found.size} bytes here, {length} in the archive)",
        hint="both are kept; to get the archived one too, restore it into another home: --home DIR",
    )


def _after(content: Iterator[bytes], offset: int) -> Iterator[bytes]:
    """Iterate the bytes after an offset."""
    for piece in content:
        yield piece[offset:]
        offset = max(0, offset - len(piece))


def _write(staged: Staged, content: Iterator[bytes], mode: int, mtime_ms: int) -> Staged:
    """Write a new file and sync it; return it with its inode."""
    descriptor = os.open(staged.temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(descriptor, "wb") as file:
        for piece in content:
            file.write(piece)
        file.flush()
        os.fchmod(descriptor, mode)
        if mtime_ms:
            os.utime(descriptor, ns=(mtime_ms * 1_000_000, mtime_ms * 1_000_000))
        os.fsync(descriptor)
        return msgspec.structs.replace(staged, inode=os.fstat(descriptor).st_ino)


def _stage_edit(staged: Staged, edit: PlannedEdit) -> Staged:
    """Write the new content of an index under a temporary name."""
    try:
        before = os.lstat(edit.path)
    except FileNotFoundError:
        before = None
    try:
        content = edit.change(read_small(edit.path))
    except Unrestorable as error:  # the tool has changed it since the plan was made
        raise Conflict(str(error), hint="try again") from error
    mode = edit.mode if before is None else before.st_mode & 0o777
    written = _write(staged, iter([content]), mode, 0)
    if before is None:
        return written
    return msgspec.structs.replace(written, replaces=before.st_ino, replaces_ns=before.st_mtime_ns)
