"""The fold from entries to a session, for cases without a sample of a source."""

from __future__ import annotations

import uuid

import pytest

from sessiond.session import Entry, Fold, Folds, Messages, Role, Rules, distinct, is_positional, summarize

NOW_MS = 1_790_000_000_000


def test_a_record_that_says_the_history_anew_replaces_it() -> None:
    """Messages that it leaves out are removed; one that it repeats keeps the model that it no longer names."""
    fold = Fold()
    said = [Entry(role=Role.USER, key="1"), Entry(role=Role.ASSISTANT, key="2", model="pro")]
    fold.add([*said, Entry(role=Role.USER, key="3")], NOW_MS)
    replayed = (Entry(role=Role.USER, key="1"), Entry(role=Role.ASSISTANT, key="2"), Entry(role=Role.USER, key="4"))
    fold.add([Entry(rewind="", more=(Entry(role=Role.USER, key="1"),))], NOW_MS)
    fold.add([Entry(rewind="", more=replayed), Entry(role=Role.USER, key="4")], NOW_MS)
    other = Fold()
    other.add([*said, Entry(role=Role.USER, key="4")], NOW_MS)
    assert (fold.messages, fold.models) == (other.messages, other.models)


def test_a_first_answer_without_an_id_is_no_evidence_of_a_copy() -> None:
    """All sessions of a tool without message ids have a first answer; they are not forks of one another."""
    fold = Fold()
    fold.add([Entry(role=Role.USER), Entry(role=Role.ASSISTANT)], NOW_MS)
    assert (len(fold.messages), fold.first_answer_key) == (2, None)
    fold.add([Entry(role=Role.ASSISTANT, key="a")], NOW_MS)
    assert fold.first_answer_key == list(fold.messages)[-1]


@pytest.mark.parametrize(("more", "ended"), [([], True), ([Entry(time_ms=NOW_MS - 1, role=Role.USER)], False)])
def test_a_session_that_says_it_ended_has_ended(more: list[Entry], ended: bool) -> None:
    """A process that was seen a minute ago may have gone since. A resume removes the end."""
    fold = Fold()
    fold.add([Entry(time_ms=NOW_MS - 3, role=Role.USER), Entry(time_ms=NOW_MS - 2, ended=True), *more], NOW_MS)
    rules = Rules(machine_id="testbox", now_ms=NOW_MS, idle_after_ms=1_800_000)
    folds = Folds(threads=[fold], live=True)
    session = summarize(uuid.UUID(int=1), "copilot-cli", folds, rules=rules, source_path=None)
    assert session is not None
    assert (session.ended_at is not None) == ended


def messages_of(*keys: str | None) -> Messages:
    """Fold prompts and answers in turn; a key of None is a message without one."""
    fold = Fold()
    fold.add([Entry(role=(Role.USER, Role.ASSISTANT)[n % 2], key=key) for n, key in enumerate(keys)], NOW_MS)
    return fold.messages


def test_what_has_no_name_is_whichever_has_its_place() -> None:
    """An import without ids and times counts the messages after it; alone, it counts as a whole."""
    named, bare = messages_of("a", "b"), messages_of(None, None, None, None)
    assert distinct([named, bare]) == distinct([bare, named]) == [*named, *list(bare)[2:]]
    assert distinct([bare, messages_of("a", "b", "c", "d", "e")]) == list(messages_of("a", "b", "c", "d", "e"))
    assert distinct([bare, Messages()]) == list(bare)


def test_places_are_no_evidence_of_a_copy() -> None:
    """Every session has a first message."""
    assert is_positional(messages_of(None))
    assert not is_positional(messages_of("a"))
    assert not is_positional(Messages())
