"""The built-in archive beside a configured endpoint, as its files show it and as a client reads it."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

from sessiond.state import archive_files, has_archive

if TYPE_CHECKING:
    from sessiond.endpoint.read_client import ReadClient


class BuiltInArchive:
    """The archive in a state directory, which another process may serve and change at any time."""

    def __init__(self, directory: str, device_id: UUID) -> None:
        self.directory, self._device_id = directory, device_id

    def exists(self) -> bool:
        """Return whether there is an archive."""
        return has_archive(self.directory)

    def files(self) -> str:
        """Return what its files look like; see `state.archive_files`."""
        return archive_files(self.directory)

    def open(self) -> ReadClient:
        """Serve it and return a client that reads it. Closing the client ends both.

        Raises: ArchiveUnreadable, here and from each method of the client.
        """
        from sessiond.daemon.archive import open_archive  # late: most machines have no archive beside an endpoint

        return open_archive(self.directory, self._device_id)
