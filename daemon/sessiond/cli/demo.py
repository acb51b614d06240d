"""Follow a sample session from a tool's file to an endpoint and back; leaves no files behind."""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from sessiond.cli.output import columns, size, wrapped
from sessiond.clock import now_ms
from sessiond.errors import SessiondError
from sessiond.text import count

if TYPE_CHECKING:
    from sessiond.daemon.engine import Engine
    from sessiond.daemon.resources import Resources
    from sessiond.endpoint.server import Running

PATIENCE = 20.0
"""Seconds after which a step that has not happened is a failure."""
POLL_INTERVAL = 0.005
PROMPT = "Why does the tide come twice a day?"
ANSWER = "The moon pulls the near ocean more than the Earth, and the Earth more than the far ocean."
THANKS = "So there are two bulges. Thanks!"


class Stuck(SessiondError):
    """A step of the demo did not happen."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.description = (
        "Write a sample Claude Code session into a temporary home, capture it, push it to a temporary endpoint, and"
        " read it back. Needs no AI tool and no network, and leaves no files behind."
    )


def run(args: argparse.Namespace) -> int:
    """Run the demo. Raises: Stuck, StateError."""
    from sessiond.endpoint.read_client import ReadClient
    from sessiond.endpoint.server import running

    began = time.monotonic()
    with ExitStack() as closing:
        base = closing.enter_context(tempfile.TemporaryDirectory(prefix="sessiond-demo-"))
        endpoint = closing.enter_context(running(os.path.join(base, "endpoint")))
        _say(began, f"endpoint: listening at {endpoint.url}")
        engine = closing.enter_context(_daemon(base, endpoint))
        resources = engine.resources
        _say(began, "daemon: watching a new home directory")
        identity = uuid.uuid4()
        path = os.path.join(base, "home", ".claude", "projects", "-tide", f"{identity}.jsonl")
        os.makedirs(os.path.dirname(path))
        _append(path, identity, ("user", PROMPT), ("assistant", ANSWER))
        _say(began, f"sample: Claude Code wrote a prompt and an answer, {size(os.path.getsize(path))}")
        _await(lambda: _messages(resources, identity) == 2, engine, "captured")
        _say(began, "captured: 2 messages in the record, the transcript in the outbox")
        _await(lambda: _acknowledged(resources, os.path.getsize(path)), engine, "acknowledged")
        _say(began, "acknowledged: the endpoint has everything, the outbox is empty")
        appended = time.monotonic()
        _append(path, identity, ("user", THANKS))
        _await(lambda: _acknowledged(resources, os.path.getsize(path)), engine, "acknowledged")
        _say(began, f"one more line: acknowledged {time.monotonic() - appended:.2f} s after it was written")
        client = ReadClient(endpoint.url, endpoint.token, device_id=resources.device.device_id)
        closing.callback(client.close)
        held = b"".join(client.stream(resources.machine_id, identity, "main"))
        with open(path, "rb") as file:
            if held != file.read():
                raise Stuck("the endpoint returned other bytes than were written", hint="please report this")
        records = count(held.count(b"\n"), "record")
        _say(began, f"read back: {records}, {size(len(held))}, identical to what was written")
    _say(began, "done: all files of the demo are removed; for your own sessions: sessiond run")
    return 0


@contextmanager
def _daemon(base: str, endpoint: Running) -> Iterator[Engine]:
    """Run the engine of a daemon in a temporary home."""
    from sessiond import state
    from sessiond.config import Config, Endpoint, Loaded, Token
    from sessiond.daemon.engine import Engine
    from sessiond.daemon.settings import Settings
    from sessiond.pause import Paused

    environ = {"HOME": os.path.join(base, "home")}
    os.makedirs(environ["HOME"])
    directory = os.path.join(base, "state")
    state.prepare(directory)
    config = Config(state_dir=directory, machine_id="demo", endpoint=Endpoint(url=endpoint.url))
    settings = Settings(loaded=Loaded(config=config), token=Token(endpoint.token), paused=Paused(), terms="")
    lock = state.Lock(directory)
    try:
        with Engine(settings, environ, lock) as engine:
            engine.start()
            yield engine
    finally:
        lock.release()


def _append(path: str, identity: uuid.UUID, *messages: tuple[str, str]) -> None:
    with open(path, "a") as file:
        for role, text in messages:
            file.write(json.dumps(_line(identity, role, text)) + "\n")


def _line(identity: uuid.UUID, role: str, text: str) -> dict[str, object]:
    at = datetime.fromtimestamp(now_ms() / 1000, UTC)
    message: dict[str, object] = {"role": role, "content": text}
    if role == "assistant":
        message |= {"id": "msg_demo", "model": "a-model", "content": [{"type": "text", "text": text}]}
    return {
        "type": role,
        "sessionId": str(identity),
        "uuid": str(uuid.uuid4()),
        "timestamp": at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "cwd": "/home/demo/tide",
        "version": "2.1.0",
        "message": message,
    }


def _messages(resources: Resources, identity: uuid.UUID) -> int:
    with resources.spool.reading():
        session = resources.spool.catalog.session(identity)
    return 0 if session is None or session.record is None else session.record.message_count


def _acknowledged(resources: Resources, length: int) -> bool:
    with resources.spool.reading():
        totals, waiting = resources.spool.stats.totals(), resources.spool.stats.waiting()
        streams = resources.spool.catalog.streams(1)
    empty = not (waiting.sessions or waiting.segments)
    return empty and totals.acknowledged == 1 and sum(stream.acked for stream in streams) == length


def _await(done: Callable[[], bool], engine: Engine, step: str) -> None:
    until = time.monotonic() + PATIENCE
    while not done():
        if not engine.intact:
            raise Stuck("a thread of the daemon ended", hint="please report this")
        if time.monotonic() > until:
            raise Stuck(f"after {PATIENCE:.0f} s the session is not {step}", hint="please report this")
        time.sleep(POLL_INTERVAL)


def _say(began: float, text: str) -> None:
    first, *more = wrapped(text, columns(sys.stdout) - 9)
    print(f"{time.monotonic() - began:5.2f} s  {first}", *(f"{'':9}{line}" for line in more), sep="\n", flush=True)
