"""Pages, quotas and parameters of any size."""

from __future__ import annotations

import base64
import json
import random
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from endpoint_lines import SESSION, Pusher, append, generation, record
from hypothesis import given, settings
from hypothesis import strategies as st

from sessiond.endpoint.server import Running, running

MIB = 1 << 20


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pusher]:
    """A client of an endpoint with a session, for all examples."""
    with running(str(tmp_path_factory.mktemp("store"))) as it, Pusher(it.url, it.token) as pusher:
        assert pusher.said(record(), append(0, b"0123456789")) == ["stored"] * 2
        yield pusher


def test_pages_end_after_some_bytes_and_miss_nothing(endpoint: Running, pusher: Pusher) -> None:
    """Records with titles of nearly a megabyte: each page has one at least, and all pages together have all."""
    ids = [str(uuid.UUID(int=number + 1)) for number in range(7)]
    for number, one in enumerate(ids):
        line = record(id=one, started_at=f"2026-11-{number + 1:02}T10:00:00Z") | {"title": "x" * (MIB - 2000)}
        assert pusher.said(line) == ["stored"]
    for path, key in (("/v1/sessions", "after"), ("/v1/changes", "since")):
        seen: list[str] = []
        query: dict[str, str] = {}
        while True:
            answer = pusher.get(path, params=query)
            assert len(answer.content) < 3 * MIB
            page = answer.json()
            assert page["sessions"]
            seen += [each["record"]["id"] for each in page["sessions"]]
            if not page.get("more", page["next"] is not None):
                break
            query = {key: page["next"]}
        assert sorted(seen) == ids
        assert len(seen) == len(ids)


def test_the_quota_holds_for_everything(tmp_path: Path) -> None:
    """Transcripts stop first, records take what is kept for them, and then nothing grows any more."""
    title = random.Random(3).randbytes(20_000).hex()
    with running(str(tmp_path), quota=3 * MIB) as it, Pusher(it.url, it.token) as pusher:
        raw = random.Random(2).randbytes(300_000).hex().encode()
        offset = 0
        while (said := pusher.said(append(offset, raw))) == ["stored"]:
            offset += len(raw)
        assert said == ["quota"]
        revision, said = 1, ["stored"]
        while said == ["stored"] and revision < 50:
            line = record(revision, id=str(uuid.UUID(int=revision))) | {"title": title}
            said = pusher.said(line)
            revision += 1
        assert said == ["quota"]
        assert pusher.said(generation(1, 0, 5)) == ["quota"]
        assert pusher.bytes_of() == raw * (offset // len(raw))
    assert (tmp_path / "endpoint.db").stat().st_size < 4 * MIB


@pytest.mark.parametrize("number", [2**63, -(2**63) - 1, 10**400])
def test_a_cursor_beyond_what_the_store_can_compare_is_refused(shared: Pusher, number: int) -> None:
    """400, and never a failure of the endpoint."""
    sealed = base64.urlsafe_b64encode(json.dumps([number, "ada", SESSION]).encode()).rstrip(b"=").decode()
    assert shared.get("/v1/sessions", params={"after": sealed}).status_code == 400
    sealed = base64.urlsafe_b64encode(json.dumps([str(uuid.uuid4()), number]).encode()).rstrip(b"=").decode()
    assert shared.get("/v1/changes", params={"since": sealed}).status_code == 410


ANYTHING = st.one_of(
    st.text(st.characters(codec="utf-8"), max_size=40),
    st.integers().map(str),
    st.datetimes().map(lambda moment: moment.isoformat() + "Z"),
    st.recursive(st.one_of(st.none(), st.integers(), st.text(st.characters(codec="utf-8"), max_size=9)), st.lists).map(
        lambda value: base64.urlsafe_b64encode(json.dumps(value).encode()).decode()
    ),
    st.tuples(st.integers(), st.just("ada"), st.just(SESSION)).map(
        lambda value: base64.urlsafe_b64encode(json.dumps(value).encode()).decode()
    ),
)


@settings(max_examples=150, deadline=None)
@given(
    path=st.sampled_from(["/v1/sessions", "/v1/changes", f"/v1/sessions/ada/{SESSION}/streams/main"]),
    query=st.dictionaries(
        st.sampled_from(["tool", "machine_id", "since", "text", "after", "limit", "generation", "x"]),
        ANYTHING,
        max_size=3,
    ),
    wanted=st.one_of(
        st.just(""), st.tuples(st.integers(), st.integers()).map(lambda pair: f"bytes={pair[0]}-{pair[1]}")
    ),
)
def test_no_parameter_makes_the_endpoint_fail(shared: Pusher, path: str, query: dict[str, str], wanted: str) -> None:
    """Whatever is asked: an answer, or a problem of the one who asks."""
    answer = shared.get(path, params=query, headers={"Range": wanted} if wanted else {})
    assert answer.status_code in {200, 206, 400, 410, 416}
