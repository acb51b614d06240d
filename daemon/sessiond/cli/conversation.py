"""Read a session of any machine for people: its facts, and the items of its streams, masked."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING, NamedTuple, Protocol

import msgspec

from sessiond.cli.children import stored_children
from sessiond.cli.lookup import endpoint_url, find_session, nothing_captured, short_ids
from sessiond.cli.masked import mask_pieces
from sessiond.cli.session_view import SessionView, local_view, remote_view
from sessiond.cli.streams import LocalSession, open_client, pieces, tool_bytes
from sessiond.cli.tool_folder import choose_file, folder_bytes
from sessiond.config import Config, state_dir
from sessiond.endpoint.read_client import ReadClient
from sessiond.endpoint.wire import RECORDS, StoredSession, StoredStream
from sessiond.errors import EndpointError, NotFound
from sessiond.ingest import Index, Location
from sessiond.ingest.files import list_folder
from sessiond.restored import RestoredSessions
from sessiond.session import Session
from sessiond.sources import find_roots
from sessiond.sources.base import Kind
from sessiond.spool import Spool
from sessiond.spool.rows import SessionState, StreamState
from sessiond.state import has_archive

if TYPE_CHECKING:
    from sessiond.redact import Redactor


WITHOUT_TOOL = "leave out `--from tool` to get what was captured of it"


class Position(NamedTuple):
    """How long a stream is: the number of its generation, and its bytes."""

    generation: int
    length: int


class StreamRef(msgspec.Struct, frozen=True):
    """A stream of a session."""

    name: str
    main: bool
    """Whether it belongs to the main thread, whose messages count."""
    media_type: str | None
    """That of a side file; None: records."""


class Reader(Protocol):
    """A session, wherever it is read from."""

    record: Session
    title: str | None
    scratch: str | None
    """The directory for an unnamed file of its long texts; None: where temporary files are."""

    def view(self) -> SessionView:
        """Return the record, further metadata and the streams. Raises: EndpointError."""

    def streams(self) -> list[StreamRef]:
        """Return the streams, those of records first. Raises: EndpointError."""

    def state(self) -> dict[str, Position]:
        """Return how long each stream is now. Raises: EndpointError."""

    def is_verbatim(self, name: str) -> bool:
        """Return whether a generation of a stream only grows, so that its content can be read from a position."""

    def content(self, name: str, start: int = 0) -> Iterator[bytes]:
        """Iterate the bytes of a stream, masked. `start` may be the end of a line of a verbatim stream.

        Raises: EndpointError, NotFound.
        """

    def folder_files(self) -> list[str]:
        """Return the names of the tool's files if the session is a folder of files on this machine; else nothing."""

    def tool_file(self, name: str) -> Iterator[bytes]:
        """Iterate the bytes of the tool's own file of a stream, or of a file of its folder, masked.

        Raises: NotFound, ReadError.
        """


class LocalReader:
    """A session of this machine: from the tool's files, or from the endpoint where they are gone."""

    def __init__(
        self,
        spool: Spool,
        config: Config,
        environ: Mapping[str, str],
        redactor: Redactor | None,
        session: SessionState,
        index: Index | None = None,
    ) -> None:
        """`redactor` None: nothing is masked, as the user asked for. `index`: that of all files, if there is one."""
        assert session.record is not None
        self.record, self.title = session.record, session.title
        self.scratch: str | None = state_dir(config)
        self._spool, self._config, self._environ = spool, config, environ
        self._redactor, self._session = redactor, session
        self._local = LocalSession(spool, config, environ, session, index)

    def view(self) -> SessionView:
        """Return the record, further metadata and the streams."""
        url, restored = endpoint_url(self._spool, self._config), RestoredSessions(state_dir(self._config))
        return local_view(self._spool, self._session, self._every(), url, restored)

    def streams(self) -> list[StreamRef]:
        """Return the streams, those of records first."""
        found = [StreamRef(stream.name, stream.thread, stream.media_type) for stream in self._every()]
        records = sorted((each for each in found if each.media_type is None), key=_main_first)
        return [*records, *(each for each in found if each.media_type is not None)]

    def state(self) -> dict[str, Position]:
        """Return how much of each stream was captured."""
        streams = self._spool.catalog.streams(self._session.id)
        return {stream.name: Position(stream.generation, stream.folded) for stream in streams}

    def is_verbatim(self, name: str) -> bool:
        """Return whether the stream is the tool's file as it is, and not a projection of a document or database."""
        return self._local.is_verbatim(self._stream(name))

    def content(self, name: str, start: int = 0) -> Iterator[bytes]:
        """Iterate the bytes of a stream, masked. Raises: EndpointError, NotFound."""
        stream = self._stream(name)
        path = next((file.path for file in self._spool.catalog.files(stream.id)), "")
        return mask_pieces(self._redactor, pieces(self._local, stream, start), path)

    def tool_file(self, name: str) -> Iterator[bytes]:
        """Iterate the bytes of the tool's own file of a stream, or of a file of its folder, masked.

        Raises: NotFound, ReadError.
        """
        folder = self._folder()
        if folder is not None and name in list_folder(folder)[0]:
            return mask_pieces(self._redactor, folder_bytes(folder, name), os.path.join(folder.path, name))
        path = next(self._paths(self._stream(name)), None)
        if path is None:
            raise NotFound(f"the tool has deleted its file of stream {name}", hint=WITHOUT_TOOL)
        if folder is not None and path == folder.path:
            raise choose_file(folder, short_ids(self._spool, [str(self.record.id)])[str(self.record.id)])
        return mask_pieces(self._redactor, tool_bytes(self._config, self._environ, path), path)

    def folder_files(self) -> list[str]:
        """Return the names of the tool's files if the session is a folder of files; else nothing."""
        folder = self._folder()
        return [] if folder is None else list_folder(folder)[0]

    def _folder(self) -> Location | None:
        """Return the folder that the session is read from; None if it is something else, or gone."""
        for path in {path for stream in self._every() for path in self._paths(stream)}:
            for place in self._local.locate(path):
                if place.unit.kind is Kind.FOLDER and os.path.isdir(place.path):
                    return place
        return None

    def _paths(self, stream: StreamState) -> Iterator[str]:
        """Iterate the tool's files of a stream that are not gone."""
        for file in self._spool.catalog.files(stream.id):
            if file.gone_ms is None:
                yield file.path.partition("::")[0]

    def _every(self) -> list[StreamState]:
        number = self._session.id
        return [*self._spool.catalog.streams(number), *self._spool.catalog.side_streams(number)]

    def _stream(self, name: str) -> StreamState:
        return next(stream for stream in self._every() if stream.name == name)


class RemoteReader:
    """A session that only the endpoint has: of another machine, or from before this machine's spool was lost."""

    def __init__(self, client: ReadClient, redactor: Redactor | None, stored: StoredSession) -> None:
        """`redactor` None: what the endpoint has is shown as it is."""
        self.record, self.title = stored.record, stored.title
        self.scratch: str | None = None
        self._client, self._redactor, self._stored = client, redactor, stored
        self._machine = stored.record.machine_id or ""

    def view(self) -> SessionView:
        """Return the record, further metadata and the streams. Raises: EndpointError."""
        children = stored_children(self._client, self.record)
        return remote_view(self._stored, {each.name: each.media_type for each in self._every()}, children)

    def streams(self) -> list[StreamRef]:
        """Return the streams, those of records first. Raises: EndpointError."""
        kinds = {each.name: None if each.media_type == RECORDS else each.media_type for each in self._every()}
        records = [name for name, kind in kinds.items() if kind is None]
        main = main_streams(records)
        found = sorted((StreamRef(name, name in main, None) for name in records), key=_main_first)
        return [*found, *(StreamRef(name, False, kind) for name, kind in kinds.items() if kind is not None)]

    def state(self) -> dict[str, Position]:
        """Return how much of each stream the endpoint has. Raises: EndpointError."""
        self._stored = self._client.session(self._machine, self.record.id)
        return {each.name: Position(each.generation, each.length) for each in self._stored.held}

    def is_verbatim(self, name: str) -> bool:
        """Return True: at the endpoint, bytes of a generation are only appended."""
        return True

    def content(self, name: str, start: int = 0) -> Iterator[bytes]:
        """Iterate the bytes of a stream's current generation, masked. Raises: EndpointError, NotFound."""
        current = next(each.generations[-1] for each in self._every() if each.name == name)
        # Up to the length that the list has: more may be appended while the bytes are read.
        found = self._client.stream(
            self._machine, self.record.id, name, generation=current.generation, start=start, end=current.length
        )
        return mask_pieces(self._redactor, found, self.record.source_path or "")

    def folder_files(self) -> list[str]:
        """Return nothing: the tool's files are on another machine, or gone."""
        return []

    def tool_file(self, name: str) -> Iterator[bytes]:
        """Raise NotFound: the tool's file is on another machine, or gone."""
        where = f"on machine {self._machine}" if self._machine else "on another machine"
        raise NotFound(f"the tool's file of stream {name} is {where}, if it still exists", hint=WITHOUT_TOOL)

    def _every(self) -> list[StoredStream]:
        return self._client.streams(self._machine, self.record.id)


def _main_first(stream: StreamRef) -> tuple[bool, bool, str]:
    """Sort the main thread before subagents, and its transcript before further streams."""
    return not stream.main, stream.name != "main", stream.name


class Library:
    """Finds sessions: in the spool first, then at the endpoint."""

    def __init__(
        self, spool: Spool | None, config: Config, environ: Mapping[str, str], redactor: Redactor | None
    ) -> None:
        """`spool` None: nothing was captured on this machine yet."""
        self._spool, self._config, self._environ, self._redactor = spool, config, environ, redactor
        # The built-in archive too: after the spool was lost, some sessions exist only there.
        self._elsewhere = bool(config.endpoint.url) or has_archive(state_dir(config))
        self._stack = ExitStack()
        self._client: ReadClient | None = None
        self._index: Index | None = None

    def close(self) -> None:
        """Close the connection to the endpoint."""
        self._stack.close()

    def find(self, text: str) -> Reader:
        """Return the session with this id, or this unique prefix of an id.

        Raises: NotFound, EndpointError, ConfigError.
        """
        if self._spool is not None:
            found = self._spool.stats.ids(text.strip().lower()) if text.strip() else []
            if found or not self._elsewhere:
                session = find_session(self._spool, text)
                if self._index is None:
                    self._index = Index(find_roots(self._config, self._environ))
                return LocalReader(self._spool, self._config, self._environ, self._redactor, session, self._index)
        elif not self._elsewhere:
            raise nothing_captured()
        from sessiond.cli.remote import find_stored

        if self._client is None:
            self._client = self._stack.enter_context(open_client(self._spool, self._config, self._environ))
        try:
            return RemoteReader(self._client, self._redactor, find_stored(self._client, text))
        except EndpointError as error:
            error.hint = f"this machine has no session {text!a}; those of other machines come from the endpoint"
            raise


def main_streams(names: list[str]) -> set[str]:
    """Return which streams of records may be the main thread. The endpoint has only their names.

    Subagents are in a folder or named as such. Others are found by their calls; see `cli/threads.py`.
    """
    if "main" not in names and "prompts" in names:
        return {"prompts"}
    return {name for name in names if name == "main" or not ("/" in name or "agent" in name or name == "prompts")}
