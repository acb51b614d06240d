"""The inboxes of the loops: messages wake their loop, stay in order, and do not pile up."""

from __future__ import annotations

import threading
import time

from hypothesis import given
from hypothesis import strategies as st

from sessiond.daemon.messages import Captured, Cause, Hold, Inbox, Ping, Retry, Stop, UploadMessage

MESSAGES: list[UploadMessage] = [Captured(), Ping(), Hold(True), Hold(False), *(Retry(cause) for cause in Cause)]


@given(put=st.lists(st.sampled_from(MESSAGES)))
def test_the_last_of_equal_messages_counts(put: list[UploadMessage]) -> None:
    """Of pause, resume, pause the loop gets each kind once, in order of the last ones, even if it hung meanwhile."""
    inbox = Inbox[UploadMessage]()
    for message in put:
        inbox.put(message)
    taken = inbox.take()
    assert taken == list(dict.fromkeys(reversed(put)))[::-1]
    assert inbox.take() == []


def test_a_message_that_waits_ends_the_wait_at_once() -> None:
    """It may have come while the loop was busy, and nothing wakes the loop later."""
    inbox = Inbox[UploadMessage]()
    inbox.put(Captured())
    inbox.wait(None)
    assert inbox.take() == [Captured()]


def test_a_message_wakes_the_loop() -> None:
    inbox, woken = Inbox[UploadMessage](), threading.Event()

    def wait() -> None:
        inbox.wait(None)
        woken.set()

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    inbox.put(Ping())
    assert woken.wait(60)
    thread.join()


def test_a_message_wakes_a_loop_that_waits_for_something_else() -> None:
    """The capture loop waits for its watcher. It is woken after the message is there, or it would miss it."""
    seen: list[list[UploadMessage]] = []
    inbox = Inbox[UploadMessage](lambda: seen.append(inbox.take()))
    inbox.put(Ping())
    assert seen == [[Ping()]]


def test_only_stop_ends_a_sleep_early() -> None:
    """The end of the process must not wait for the pause between two attempts of a push; other messages do."""
    inbox, slept = Inbox[UploadMessage](), list[float]()
    inbox.put(Captured())
    began = time.monotonic()
    inbox.sleep(0.05)
    assert time.monotonic() - began >= 0.05

    def sleep() -> None:
        inbox.sleep(3600)
        slept.append(time.monotonic())

    thread = threading.Thread(target=sleep, daemon=True)
    thread.start()
    inbox.put(Stop())
    thread.join(60)
    assert slept
    assert inbox.stopped
    assert inbox.take() == [Captured(), Stop()], "the loop takes what came meanwhile"
