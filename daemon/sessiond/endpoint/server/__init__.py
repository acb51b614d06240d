"""The reference endpoint: protocol v1 over one SQLite file.

`running` serves in a thread, for a daemon or a test; `serve` is `sessiond serve`. The web packages take 30 MB of
memory, and a daemon needs only the client, so nothing is imported before one of the two is called.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sessiond.endpoint.server.run import Options as Options
    from sessiond.endpoint.server.run import Running as Running
    from sessiond.endpoint.server.run import running as running
    from sessiond.endpoint.server.run import serve as serve

__all__ = ["Options", "Running", "running", "serve"]


def __getattr__(name: str) -> object:
    if name in __all__:
        from sessiond.endpoint.server import run

        return getattr(run, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
