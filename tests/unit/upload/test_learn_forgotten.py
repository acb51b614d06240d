"""The list of erased sessions that an endpoint answers."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from sessiond.endpoint.erasure import ForgottenAnswer
from sessiond.spool import Spool
from sessiond.upload import forgotten
from sessiond.upload.forgotten import learn_forgotten


def test_a_list_without_an_end_is_left_for_later(tmp_path: Path) -> None:
    """A lying endpoint always has more: pushing goes on, and the list is read on from there the next time."""
    asked: list[str | None] = []

    def list_forgotten(since: str | None) -> ForgottenAnswer:
        asked.append(since)
        return ForgottenAnswer(forgotten=[], next=str(len(asked)), more=True)

    with closing(Spool(str(tmp_path))) as spool:
        assert learn_forgotten(spool, list_forgotten, 0) == 0
        assert len(asked) == forgotten.MOST_PAGES
        assert (spool.meta(forgotten.POSITION) or "").endswith(f" {forgotten.MOST_PAGES}")
