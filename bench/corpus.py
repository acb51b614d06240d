"""Make a pretend home with sessions of Claude Code and Codex, the same bytes each time.

    python bench/corpus.py DIRECTORY --size small|medium|large

`manifest.json` in the directory says what was made: of each file its session, bytes, lines, and how many
prompts and answers a record of it must count. Line and file sizes follow what the tools write: two thirds of
the lines are short, a third are tool results of 2-20 KB, a tenth of the bytes are in lines of 0.2-2 MB, and
file sizes are log-normal. Tool results now and then hold a made-up secret, for the redaction to find.
"""

from __future__ import annotations

import argparse
import bisect
import hashlib
import json
import math
import os
import random
import re
import shutil
import sys
import uuid
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta

SIZES = {"small": (200, 50 << 20), "medium": (2_000, 1 << 30), "large": (10_000, 4 << 30)}
"""Sessions and bytes."""
CLAUDE_SHARE = 0.75
SUBAGENT_SHARE = 0.08
LONG_SHARE = 0.10
"""Of the bytes: lines of 0.2-2 MB."""
SECRET_SHARE = 0.004
"""Of the tool results."""
POOL = 4 << 20
PROJECTS = 24
NOW = datetime(2026, 11, 1, tzinfo=UTC)
MANIFEST = "manifest.json"
FORMAT = 1
"""A corpus of another format is generated again."""

WORDS = (
    "def class return import self async await yield lambda const let function struct impl fn pub match error warning"
    " failed passed retry queue upload offset inode rename truncate hostname machine session record branch commit"
    " refactor please could you check why the daemon does not see the file after it was moved and then the watcher"
    " lost events because of overflow select insert update where index vacuum checkpoint fsync durable backoff naïve"
    ' café ☕ 日本語 → ✓ "quoted" <tag> &amp; {"k": 1} [1,2,3] $HOME/path/to/file.py:42 \\d+\\.log 0x7fff %s'
)
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"


@dataclass
class Made:
    """A generated file: its session, and the counts that its record must have."""

    tool: str
    session: str
    path: str
    thread: bool
    bytes: int = 0
    lines: int = 0
    prompts: int = 0
    answers: int = 0
    sha256: str = ""


class Text:
    """A pool of plausible text, already escaped as the inside of a JSON string; runs of its lines are bodies."""

    def __init__(self, rnd: random.Random) -> None:
        words, self._starts, parts, length = WORDS.split(" "), [0], [], 0
        while length < POOL:
            line = " " * rnd.choice((0, 0, 4, 8)) + " ".join(rnd.choices(words, k=rnd.randint(3, 14)))
            if rnd.random() < 0.3:
                line += f" {rnd.getrandbits(64):x}"
            parts.append(escape(line + "\n"))
            length += len(parts[-1])
            self._starts.append(length)
        self._pool = "".join(parts)

    def take(self, rnd: random.Random, length: int) -> str:
        """Return about this many characters, in whole lines."""
        first = self._starts[rnd.randrange(bisect.bisect_left(self._starts, max(len(self._pool) - length, 1)))]
        return self._pool[first : self._starts[bisect.bisect_left(self._starts, first + length)]]


def escape(text: str) -> str:
    """Write text as the inside of a JSON string."""
    return json.dumps(text, ensure_ascii=False)[1:-1]


def secret(rnd: random.Random) -> str:
    """Make up a credential that gives access to nothing."""
    kind = rnd.choice(("AKIA", "ghp_", "DB_PASSWORD="))
    alphabet = LETTERS[:26] + "234567" if kind == "AKIA" else LETTERS
    return kind + "".join(rnd.choices(alphabet, k={"AKIA": 16, "ghp_": 36, "DB_PASSWORD=": 20}[kind]))


class Writer:
    """The common parts of both tools' writers: a clock, random ids and text."""

    def __init__(self, rnd: random.Random, text: Text, cwd: str, start: datetime, session: str = "") -> None:
        self.rnd, self.text, self.cwd, self.time = rnd, text, cwd, start
        self.session = session or self.uuid()
        self.prompts = self.answers = 0

    def uuid(self) -> str:
        """Make an id."""
        return str(uuid.UUID(int=self.rnd.getrandbits(128), version=4))

    def now(self) -> str:
        """Advance the time, and return it."""
        self.time += timedelta(milliseconds=self.rnd.randint(200, 12_000))
        return f"{self.time:%Y-%m-%dT%H:%M:%S}.{self.time.microsecond // 1000:03d}Z"

    def body(self, least: int, most: int) -> str:
        """Return some text."""
        return self.text.take(self.rnd, self.rnd.randint(least, most))

    def output(self, length: int) -> str:
        """Return a tool's output, which now and then has a secret."""
        taken = self.text.take(self.rnd, length)
        return f"export TOKEN={secret(self.rnd)}\\n{taken}" if self.rnd.random() < SECRET_SHARE else taken


class Claude(Writer):
    """Lines as Claude Code 2.1 writes them."""

    def __init__(self, *parts, agent: str = "", **more) -> None:
        super().__init__(*parts, **more)
        self.parent, self.agent = "null", agent
        self.model = self.rnd.choice(("claude-opus-4-5-20251101", "claude-sonnet-4-5-20250929"))

    def head(self) -> list[str]:
        """Write the first records."""
        if self.agent:
            return []
        mark = self.uuid()
        return [
            f'{{"type":"file-history-snapshot","messageId":"{mark}","snapshot":{{"messageId":"{mark}",'
            f'"trackedFileBackups":{{}},"timestamp":"{self.now()}"}},"isSnapshotUpdate":false}}'
        ]

    def _line(self, kind: str, message: str, more: str = "") -> str:
        own, parent = self.uuid(), self.parent
        self.parent = f'"{own}"'
        agent = f'"agentId":"{self.agent}",' if self.agent else ""
        return (
            f'{{"parentUuid":{parent},"isSidechain":{"true" if self.agent else "false"},{agent}"userType":"external",'
            f'"cwd":"{self.cwd}","sessionId":"{self.session}","version":"2.1.44","gitBranch":"main","type":"{kind}",'
            f'"message":{message}{more},"uuid":"{own}","timestamp":"{self.now()}"}}'
        )

    def prompt(self) -> list[str]:
        """Write what the human says."""
        self.prompts += not self.agent
        return [self._line("user", f'{{"role":"user","content":"{self.body(40, 800)}"}}')]

    def _says(self, content: str, why: str) -> str:
        rnd = self.rnd
        self.answers += not self.agent
        usage = (
            f'{{"input_tokens":{rnd.randint(3, 3000)},"cache_creation_input_tokens":{rnd.randint(0, 9000)},'
            f'"cache_read_input_tokens":{rnd.randint(0, 150_000)},"output_tokens":{rnd.randint(10, 3000)},'
            '"service_tier":"standard"}'
        )
        message = (
            f'{{"model":"{self.model}","id":"msg_{rnd.getrandbits(96):024x}","type":"message","role":"assistant",'
            f'"content":[{content}],"stop_reason":"{why}","stop_sequence":null,"usage":{usage}}}'
        )
        return self._line("assistant", message, f',"requestId":"req_{rnd.getrandbits(96):024x}"')

    def answer(self) -> list[str]:
        """Write what the model says."""
        return [self._says(f'{{"type":"text","text":"{self.body(60, 1400)}"}}', "end_turn")]

    def tool(self, length: int) -> list[str]:
        """Write a call of a tool and its result, which Claude Code writes twice."""
        call = f"toolu_{self.rnd.getrandbits(96):024x}"
        used = f'{{"type":"tool_use","id":"{call}","name":"Bash","input":{{"command":"{self.body(20, 300)}"}}}}'
        out = self.output(max(1, length // 2))
        result = f'{{"tool_use_id":"{call}","type":"tool_result","content":"{out}","is_error":false}}'
        more = f',"toolUseResult":{{"stdout":"{out}","stderr":"","interrupted":false,"isImage":false}}'
        message = f'{{"role":"user","content":[{result}]}}'
        return [self._says(used, "tool_use"), self._line("user", message, more)]


class Codex(Writer):
    """Lines as Codex 0.77 writes them: each message is in two kinds of records, and counts once."""

    def __init__(self, *parts, **more) -> None:
        super().__init__(*parts, **more)
        self.model, self.total = "gpt-5.1-codex", 0

    def head(self) -> list[str]:
        """Write the first records."""
        start = self.now()
        return [
            f'{{"timestamp":"{start}","type":"session_meta","payload":{{"id":"{self.session}","timestamp":"{start}",'
            f'"cwd":"{self.cwd}","originator":"codex_cli_rs","cli_version":"0.77.0","instructions":null,"source":"cli",'
            f'"model_provider":"openai","git":{{"commit_hash":"{self.rnd.getrandbits(160):040x}","branch":"main"}}}}}}'
        ]

    def _line(self, kind: str, payload: str) -> str:
        return f'{{"timestamp":"{self.now()}","type":"{kind}","payload":{{{payload}}}}}'

    def prompt(self) -> list[str]:
        """Write what the human says."""
        said, self.prompts = self.body(40, 800), self.prompts + 1
        context = f'"cwd":"{self.cwd}","approval_policy":"on-request","model":"{self.model}","effort":"medium"'
        sent = f'"type":"message","role":"user","content":[{{"type":"input_text","text":"{said}"}}]'
        return [
            self._line("turn_context", context),
            self._line("response_item", sent),
            self._line("event_msg", f'"type":"user_message","message":"{said}","images":[]'),
        ]

    def answer(self) -> list[str]:
        """Write what the model says."""
        said, self.answers, used = self.body(60, 1400), self.answers + 1, self.rnd.randint(1000, 9900)
        self.total += used
        sent = f'"type":"message","role":"assistant","content":[{{"type":"output_text","text":"{said}"}}]'
        usage = f'"total_token_usage":{{"total_tokens":{self.total}}},"last_token_usage":{{"total_tokens":{used}}}'
        return [
            self._line("response_item", sent),
            self._line("event_msg", f'"type":"agent_message","message":"{said}"'),
            self._line("event_msg", f'"type":"token_count","info":{{{usage},"model_context_window":272000}}'),
        ]

    def tool(self, length: int) -> list[str]:
        """Write a call of a tool and its result."""
        call = f"call_{self.rnd.getrandbits(96):024x}"
        asked = escape(f'{{"command":"{self.body(20, 200)}","workdir":"{self.cwd}"}}')
        return [
            self._line(
                "response_item", f'"type":"function_call","name":"shell","arguments":"{asked}","call_id":"{call}"'
            ),
            self._line(
                "response_item", f'"type":"function_call_output","call_id":"{call}","output":"{self.output(length)}"'
            ),
        ]


def session_lines(writer: Claude | Codex, size: int, long: int) -> Iterator[str]:
    """Write a session of about `size` bytes; `long` tool results of it are very long ones."""
    rnd = writer.rnd
    done = 0
    for line in writer.head():
        done += len(line)
        yield line
    while True:
        turn = writer.prompt()
        for _ in range(max(1, int(rnd.expovariate(1 / 6)))):
            if rnd.random() < 0.32:
                turn += writer.answer()
            else:
                turn += writer.tool(_spread(rnd, 2_000, 20_000) if rnd.random() < 0.62 else rnd.randint(30, 700))
            if long:
                turn += writer.tool(_spread(rnd, 200_000, 2_000_000))
                long -= 1
        turn += writer.answer()
        for line in turn:
            done += len(line)
            yield line
        if done >= size and not long:
            return


def _spread(rnd: random.Random, least: int, most: int) -> int:
    return int(math.exp(rnd.uniform(math.log(least), math.log(most))))


def claude_path(session: str, cwd: str, agent: str = "") -> str:
    """Return the path of a session of Claude Code."""
    folder = f".claude/projects/{re.sub(r'[^A-Za-z0-9]', '-', cwd)}/{session}"
    return f"{folder}/subagents/agent-{agent}.jsonl" if agent else f"{folder}.jsonl"


def codex_path(session: str, start: datetime) -> str:
    """Return the path of a session of Codex."""
    return f".codex/sessions/{start:%Y/%m/%d}/rollout-{start:%Y-%m-%dT%H-%M-%S}-{session}.jsonl"


def make(directory: str, sessions: int, size: int, seed: int = 1) -> list[Made]:
    """Make the sessions and the manifest."""
    rnd = random.Random(seed)
    text = Text(rnd)
    weights = [math.exp(rnd.gauss(0, 1.1)) for _ in range(sessions)]
    share = size * (1 - LONG_SHARE) / sum(weights)
    long = [0] * sessions
    for _ in range(int(size * LONG_SHARE / 780_000)):
        long[rnd.randrange(sessions)] += 1
    made: list[Made] = []
    for number, weight in enumerate(weights):
        own = random.Random(seed * 1_000_003 + number)
        cwd = f"/home/ada/work/project-{int(PROJECTS * own.random() ** 2):02d}"
        start = NOW - timedelta(seconds=int(own.random() * 120 * 86_400))
        wanted = max(3_000, int(share * weight))
        if number < sessions * CLAUDE_SHARE:
            writer = Claude(own, text, cwd, start)
            path = claude_path(writer.session, cwd)
            made.append(_write(directory, path, "claude-code", writer, wanted, long[number]))
            if own.random() < SUBAGENT_SHARE:
                agent = f"a{own.getrandbits(64):016x}"
                helper = Claude(own, text, cwd, start, session=writer.session, agent=agent)
                path = claude_path(writer.session, cwd, agent)
                made.append(_write(directory, path, "claude-code", helper, wanted // 6, 0, thread=False))
        else:
            rollout = Codex(own, text, cwd, start)
            path = codex_path(rollout.session, start)
            made.append(_write(directory, path, "codex", rollout, wanted, long[number]))
    with open(os.path.join(directory, MANIFEST), "w") as file:
        json.dump({"format": FORMAT, "files": [asdict(one) for one in made]}, file)
    return made


def _write(
    directory: str, path: str, tool: str, writer: Claude | Codex, size: int, long: int, *, thread: bool = True
) -> Made:
    whole = os.path.join(directory, path)
    os.makedirs(os.path.dirname(whole), exist_ok=True)
    one, digest = Made(tool=tool, session=writer.session, path=path, thread=thread), hashlib.sha256()
    with open(whole, "wb") as file:
        for line in session_lines(writer, size, long):
            data = line.encode() + b"\n"
            file.write(data)
            digest.update(data)
            one.bytes += len(data)
            one.lines += 1
    one.prompts, one.answers, one.sha256 = writer.prompts, writer.answers, digest.hexdigest()
    os.utime(whole, (writer.time.timestamp(), writer.time.timestamp()))
    return one


def read(directory: str) -> list[Made]:
    """Read a manifest. Raises: FileNotFoundError where there is none of this format."""
    with open(os.path.join(directory, MANIFEST)) as file:
        manifest = json.load(file)
    if manifest["format"] != FORMAT:
        raise FileNotFoundError(f"{directory} holds a corpus of another format")
    return [Made(**one) for one in manifest["files"]]


def ensure(base: str, size: str) -> str:
    """Make a corpus unless it exists; return its directory."""
    directory = os.path.join(base, f"corpus-{size}")
    try:
        read(directory)
    except FileNotFoundError:
        shutil.rmtree(directory, ignore_errors=True)
        print(f"making the {size} corpus in {directory} ...", file=sys.stderr, flush=True)
        make(directory, *SIZES[size])
    return directory


def main() -> None:
    """Make one corpus."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("directory")
    parser.add_argument("--size", choices=SIZES, default="small")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    made = make(options.directory, *SIZES[options.size], seed=options.seed)
    lengths = sorted(one.bytes for one in made)
    print(
        f"{len(made)} files, {sum(lengths):,} bytes, {sum(one.lines for one in made):,} lines,"
        f" half of the files over {lengths[len(lengths) // 2]:,} bytes"
    )


if __name__ == "__main__":
    main()
