"""Takes back what `verify` has found missing at the endpoint."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import closing

from sessiond.cli.lookup import notify_daemon
from sessiond.cli.output import warn
from sessiond.config import Config, state_dir
from sessiond.errors import StateError
from sessiond.spool import Spool
from sessiond.spool.verification import Claim
from sessiond.upload.read_back import distrust
from sessiond.upload.verify import Comparison, apply_comparison


def take_back(
    config: Config, result: Comparison, different: Collection[Claim], url: str, at_ms: int | None, *, retry: bool
) -> None:
    """Store that the endpoint lacks something. It no longer counts as acknowledged, and a running daemon pushes it.

    `different`: streams of which the endpoint has other bytes. `at_ms`: when all sessions were compared, for `status`;
    None if only some were. With `retry`, what is parked is tried again too.

    Raises: StateError if the spool can't be written. Without `retry`, that is a warning.
    """
    directory = state_dir(config)
    try:
        with closing(Spool(directory)) as spool, spool.transaction():
            apply_comparison(spool, result, url, at_ms, different)
            for claim in different:
                distrust(spool, claim)
            if retry:
                spool.outbox.retry()
                spool.archived.retry()
    except StateError as error:
        if retry:
            raise
        warn(f"`status` will not show this result: {error}")
        return
    if result.wrong or different:
        notify_daemon(directory)
