"""`sessiond ls --said`: sessions are found by what was said in them, on any machine."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from sessiond import exit_codes
from sessiond.cli import main
from sessiond.cli.said import Phrase
from support.harness import CLAUDE, SESSION, TOKEN, DaemonHarness, claude, daemon_harness, encode

GONE = SESSION[:-1] + "7"
SILENT = SESSION[:-1] + "9"
PATIENT = ("--wait", "600")


@pytest.fixture(scope="module")
def harness(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaemonHarness]:
    """Yield a machine with three sessions, one of which its tool has deleted, and an endpoint with one of another."""
    base = tmp_path_factory.mktemp("said")
    with daemon_harness(base) as made:
        made.address = made.uploading.address = made.endpoint.url
        made.write(CLAUDE, claude(SESSION, 1, text="We fixed the Retry of the pusher"), claude(SESSION, 2))
        made.write(CLAUDE.replace(SESSION, SILENT), claude(SILENT, 1, text="Weave a scarf"))
        text = 'the retry is "late"; see d\u00e9j\u00e0 vu'
        gone = made.write(CLAUDE.replace(SESSION, GONE), claude(GONE, 1, text=text))
        made.settle()
        os.unlink(gone)
        made.settle()
        yield made


def found(harness: DaemonHarness, capsys: pytest.CaptureFixture[str], words: str, *arguments: str) -> set[str]:
    """Return the ids of the sessions in which the words were said."""
    environ = {
        "HOME": harness.home,
        "SESSIOND_STATE_DIR": harness.state,
        "SESSIOND_CONFIG": os.devnull,
        "SESSIOND_ENDPOINT__URL": harness.endpoint.url,
        "SESSIOND_TOKEN": TOKEN,
    }
    assert main(["ls", "--json", "--said", words, *PATIENT, *arguments], environ) == 0
    return {json.loads(line)["id"] for line in capsys.readouterr().out.splitlines()}


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("retry", {SESSION, GONE}),
        ("pusher fixed", {SESSION}),
        ("RETRY", {SESSION, GONE}),
        ('"late";', {GONE}),
        ("D\u00c9J\u00c0", {GONE}),
        ("scarf retry", set()),
        ("user", set()),  # a word of the format, which was not said
    ],
)
def test_sessions_are_found_by_what_was_said(
    harness: DaemonHarness, capsys: pytest.CaptureFixture[str], words: str, expected: set[str]
) -> None:
    """All words in one message, in any order. What the tool has deleted is read from the endpoint."""
    assert found(harness, capsys, words) == expected


def test_filters_and_the_limit_apply(harness: DaemonHarness, capsys: pytest.CaptureFixture[str]) -> None:
    """The limit counts sessions that were found, not those that were read."""
    assert found(harness, capsys, "retry", "--only-here") == {GONE}
    assert len(found(harness, capsys, "retry", "--limit", "1")) == 1
    assert found(harness, capsys, "scarf", "--limit", "1") == {SILENT}


def test_another_machine_finds_them_at_the_endpoint(
    harness: DaemonHarness, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It has captured nothing itself."""
    environ = {
        "HOME": str(tmp_path),
        "SESSIOND_STATE_DIR": str(tmp_path / "state"),
        "SESSIOND_CONFIG": os.devnull,
        "SESSIOND_ENDPOINT__URL": harness.endpoint.url,
        "SESSIOND_TOKEN": TOKEN,
    }
    assert main(["ls", "--json", "--said", "retry", *PATIENT], environ) == 0
    assert {json.loads(line)["id"] for line in capsys.readouterr().out.splitlines()} == {SESSION, GONE}


def test_a_session_that_can_not_be_read_is_counted(
    harness: DaemonHarness, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without its file and without the endpoint, nothing is known of what was said in it."""
    shutil.copytree(harness.state, tmp_path / "state")
    environ = {
        "HOME": str(tmp_path),
        "SESSIOND_STATE_DIR": str(tmp_path / "state"),
        "SESSIOND_CONFIG": os.devnull,
        "SESSIOND_ENDPOINT__URL": "http://127.0.0.1:1",
        "SESSIOND_TOKEN": TOKEN,
    }
    assert main(["ls", "--said", "retry", "--wait", "0"], environ) == 0
    assert "1 session could not be searched: http://127.0.0.1:1" in capsys.readouterr().err
    assert main(["ls", "--said", " "], environ) == exit_codes.USAGE


@pytest.mark.parametrize("cut", range(1, 12))
def test_a_word_that_is_cut_by_a_read_is_found(cut: int) -> None:
    """Streams are read in pieces."""
    data = b"..the retry was.."
    assert Phrase("Retry").may_be_in([data[:cut], data[cut:]])
    assert Phrase("the retry").may_be_in(bytes([each]) for each in data)
    assert not Phrase("retries").may_be_in([data[:cut], data[cut:]])


def test_words_that_json_may_escape_are_looked_for_in_decoded_text() -> None:
    """So their absence in the bytes proves nothing; nor does it in another encoding."""
    phrase = Phrase('say "no"')
    assert phrase.may_be_in([encode({"text": 'they say "no"'})])
    assert not phrase.may_be_in([b"nothing"])
    assert Phrase("no").may_be_in(["no".encode("utf-16")])
    assert phrase.is_in('They SAY: "No"')
