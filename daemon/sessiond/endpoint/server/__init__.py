"""The reference endpoint: protocol v1 over one SQLite file.

Two ways to run it: `running` in a thread, for a test, and `serve`, which is `sessiond serve`. Nothing is
imported before one of them is called: the web packages weigh 30 MB, and a daemon imports
`sessiond.endpoint` for its client only.
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
