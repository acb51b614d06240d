#!/usr/bin/env python3
"""Measure the redactor: recall and false positives by rule, speed, memory.

    PYTHONPATH=daemon python bench/redact.py [CORPUS] [--engine re] [--baseline OTHER/daemon]

The planted corpus is made of the rules' own templates, with other values each time, in JSON strings of one
and two levels, among noise. CORPUS is a directory of transcripts ; without it the speed is taken from the
planted noise. Speeds are CPU time, printed with the load of the machine. With `--baseline`, another version masks the
same ordinary text in turn with this one, run by run, and the ratio of the CPU times is printed.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator

from sessiond.redact import Policy, Redactor, load_rules
from sessiond.redact.examples import expand

WORDS = [
    "the",
    "daemon",
    "reads",
    "a",
    "session",
    "from",
    "disk,",
    "token",
    "usage",
    "was",
    "fine;",
    "password",
    "reset",
    "flow",
    "->",
    "key:",
    "value",
    "secret",
    "of",
    "pass",
]


def planted(copies: int, seed: int) -> Iterator[tuple[str, str, bytes, bytes]]:
    """Yield kind ("secret" or "decoy"), rule, the value and the JSON line that holds it."""
    chance = random.Random(seed)
    for rule in load_rules().rules:
        for kind, templates in (("secret", rule.match), ("decoy", rule.miss)):
            for template in templates:
                for copy in range(copies):
                    value = expand(template, (seed, copy))
                    noise = " ".join(chance.choices(WORDS, k=30))
                    text = f"{noise}\n{value}\n{noise}"
                    if copy % 2:
                        text = json.dumps({"output": text, "exit_code": 0})
                    line = json.dumps({"type": "tool_result", "content": text}).encode() + b"\n"
                    yield kind, rule.id, value.encode(), line


def accuracy(redactor: Redactor, copies: int) -> None:
    """Print recall and false positives of each rule."""
    found: Counter[str] = Counter()
    named: Counter[str] = Counter()
    total: Counter[str] = Counter()
    false: Counter[str] = Counter()
    decoys: Counter[str] = Counter()
    stray = 0
    for kind, rule, _value, line in planted(copies, 11):
        findings = redactor.mask(line).findings
        if kind == "secret":
            total[rule] += 1
            found[rule] += bool(findings)
            named[rule] += any(finding.rule == rule for finding in findings)
            stray += max(0, len(findings) - 2)
        else:
            decoys[rule] += 1
            false[rule] += any(finding.rule == rule for finding in findings)
    print(f"{'rule':32} {'recall':>12} {'by this rule':>13} {'false positives':>16}")
    for rule in total:
        print(f"{rule:32} {found[rule]:>5} of {total[rule]:<4} {named[rule]:>12} {false[rule]:>6} of {decoys[rule]}")
    print(
        f"{'all ' + str(len(total)) + ' rules':32} {found.total():>5} of {total.total():<4} {named.total():>12} "
        f"{false.total():>6} of {decoys.total()}; more than two findings for one secret: {stray}"
    )


def records(data: bytes, size: int = 1 << 20) -> list[bytes]:
    """Cut bytes into runs of whole lines, as the daemon reads them."""
    runs, position = [], 0
    while position < len(data):
        end = data.rfind(b"\n", position, position + size) + 1
        if end <= position:
            end = data.find(b"\n", position) + 1 or len(data)
        runs.append(data[position:end])
        position = end
    return runs


def seconds(redactor: Redactor, runs: list[bytes]) -> float:
    """Return the seconds of CPU that it takes to mask some runs of records."""
    start = time.process_time()
    for run in runs:
        redactor.mask(run)
    return time.process_time() - start


def speed(name: str, redactor: Redactor, data: bytes, ordinary: bytes = b"") -> None:
    """Print the megabytes for a second of CPU, the best of three, and how many times ordinary text costs less.

    Ordinary text is measured in turn with the other one, as the load of the machine changes what a second is worth.
    """
    runs, others = records(data), records(ordinary)
    best, least = 1e9, 1e9
    for _ in range(3 if len(data) > LINE // 2 else 7):
        least = min(least, seconds(redactor, others))
        best = min(best, seconds(redactor, runs))
    findings = sum(len(redactor.mask(run).findings) for run in runs)
    ratio = f"{best / len(data) / (least / len(ordinary)):6.1f} x" if ordinary else ""
    rate, load = len(data) / 1e6 / best, os.getloadavg()[0]
    print(f"{name:34} {rate:8.1f} MB/s {len(data) / 1e6:8.1f} MB {findings:7} findings  load {load:.1f} {ratio}")


LINE = 12 << 20
"""Bytes of a hostile line."""


def recut(data: bytes, size: int) -> bytes:
    """Return the text of records in records of `size` characters each."""
    text = data.decode(errors="replace")
    return b"".join(as_line(text[at : at + size]) for at in range(0, len(text), size))


def as_line(text: str) -> bytes:
    """Return a record with a text."""
    return json.dumps({"type": "user", "content": text}).encode() + b"\n"


def hostile() -> Iterator[tuple[str, bytes, int]]:
    """Yield inputs that were made to be slow, each a line of 12 MB, or as many records of a size that is not 0."""
    for name, data in long_lines():
        yield name, data, 0
    misses = [m for rule in load_rules().rules for m in rule.miss]
    near = " ".join(expand(misses[n % len(misses)], n) for n in range(1 << 16))
    for size in (200, 60):
        yield f"near-misses, {size} bytes a record", recut(near.encode()[: 4 << 20], size), size


def long_lines() -> Iterator[tuple[str, bytes]]:
    """Yield lines that were made to be slow."""
    misses = [m for rule in load_rules().rules for m in rule.miss]
    matches = [m for rule in load_rules().rules for m in rule.match]

    line = as_line

    def fill(make: Callable[[int], str], different: int = 1 << 21) -> str:
        """Repeat two megabytes of different pieces; nothing remembers that much."""
        parts: list[str] = []
        length = 0
        while length < different:
            parts.append(make(len(parts)))
            length += len(parts[-1])
        return "".join(parts) * (LINE // length)

    yield "one letter", line("A" * LINE)
    yield "password=", line("password=" * (LINE // 9))
    yield "backslashes", b'{"a":"' + b"\\" * LINE + b'"}\n'
    yield "Base64", line(fill(lambda n: expand("<B4096>", n)))
    near = fill(lambda n: expand(misses[n % len(misses)], n) + " ")
    yield "near-misses of all rules", line(near)
    yield "secrets of all rules", line(fill(lambda n: expand(matches[n % len(matches)], n) + " "))
    yield "a password in 13 bytes", line(fill(lambda n: "pwd:" + expand("<P8>", n) + " "))
    yield "BEGIN lines", line(fill(lambda n: f"-----BEGIN RSA PRIVATE KEY-----\n{n} "))
    yield "END lines", line(fill(lambda n: f"{n}\n-----END RSA PRIVATE KEY-----\n"))
    half = "-----BEGIN RSA PRIVATE KEY-----\n{}\n\n-- \n"
    yield "BEGIN and half a key", line(fill(lambda n: half.format(expand("<B40>", n))))
    yield "lines of Base64", line(fill(lambda n: expand("<B64>", n) + "\n"))
    yield "tokens on their own lines", line(fill(lambda n: "token: " + expand("<A16>", n) + "\n"))
    yield "broken tokens", line(fill(lambda n: f"ghp_\n{n}\n"))
    yield "colour codes", line(fill(lambda n: f"\x1b[{30 + n % 8}m{n}"))
    yield "coloured tokens", line(fill(lambda n: "\x1b[31m" + expand("ghp_<A36>", n) + "\x1b[0m "))
    yield "passwords in Base64", line(fill(lambda n: "cGFzc3dvcmQ9" + expand("<B20>", n) + " "))
    rows = "a,password\n" + "".join(f"x,{expand('<P8>', n)}\n" for n in range(300))
    yield "tables of passwords", line(fill(lambda _: rows))
    yield "short strings", json.dumps([f"token={n}" for n in range(LINE // 16)]).encode() + b"\n"


CHILD = """
import sys, time
from sessiond.redact import Policy, Redactor
redactor = Redactor(Policy())
print("ready", flush=True)
while size := int(sys.stdin.buffer.readline() or 0):
    data = sys.stdin.buffer.read(size)
    start = time.process_time()
    redactor.mask(data)
    print(time.process_time() - start, flush=True)
"""


def compare(data: bytes, baseline: str) -> None:
    """Print the CPU time of another version and of this one for the same text, masked in turn."""
    total: dict[str, float] = {}
    children = {}
    for name, path in (("baseline", baseline), ("now", os.environ["PYTHONPATH"])):
        environment = {**os.environ, "PYTHONPATH": path}
        command = [sys.executable, "-c", CHILD]
        child = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        children[name] = child
        assert child.stdout is not None and child.stdout.readline() == b"ready\n"
    for turn in range(4):
        for run in records(data):
            for name, child in children.items():
                assert child.stdin is not None and child.stdout is not None
                child.stdin.write(b"%d\n" % len(run) + run)
                child.stdin.flush()
                seconds = float(child.stdout.readline())
                if turn:  # the first one compiles expressions
                    total[name] = total.get(name, 0.0) + seconds
    for child in children.values():
        assert child.stdin is not None
        child.stdin.close()
        child.wait()
    before, now = (3 * len(data) / 1e6 / total[name] for name in ("baseline", "now"))
    print(f"ordinary text, in turn: baseline {before:.1f} MB/s, now {now:.1f} MB/s, {now / before:.2f} of the baseline")


def memory(cache: str) -> None:
    """Print what hyperscan and the rules cost in resident memory, each in a process of its own."""
    probe = """
import sys, msgspec, re, json, threading, hashlib, tomllib
def rss():
    with open("/proc/self/status") as f:
        return {l.split(":")[0]: int(l.split()[1]) for l in f if l.startswith(("VmRSS", "RssAnon"))}
a = rss()
import sessiond.redact as r
b = rss(); print("import", {k: b[k] - a[k] for k in a})
x = r.Redactor(r.Policy(), cache_dir=sys.argv[1] or None)
c = rss(); print("redactor", {k: c[k] - b[k] for k in a})
x.mask(b"{}" * 500_000)
d = rss(); print("first MB", {k: d[k] - c[k] for k in a})
"""
    for name, where in (("compiled", ""), ("cached", cache), ("cached", cache)):
        out = subprocess.run([sys.executable, "-c", probe, where], capture_output=True, text=True, check=True).stdout
        print(f"KB, rules {name}: " + out.replace("\n", "; "))


def main() -> None:
    """Run all of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", nargs="?")
    parser.add_argument("--engine", choices=["hyperscan", "re"])
    parser.add_argument("--baseline", help="the `daemon` directory of another version to compare with")
    parser.add_argument("--copies", type=int, default=20)
    parser.add_argument("--skip-accuracy", action="store_true")
    arguments = parser.parse_args()
    start = time.perf_counter()
    redactor = Redactor(Policy(), engine=arguments.engine)
    print(f"{len(redactor.rules)} rules, engine {redactor.engine}, made in {time.perf_counter() - start:.2f} s")
    if not arguments.skip_accuracy:
        accuracy(redactor, arguments.copies)
    if arguments.corpus:
        data = bytearray()
        for folder, _, names in sorted(os.walk(arguments.corpus)):
            for name in sorted(names):
                if name.endswith(".jsonl"):
                    with open(os.path.join(folder, name), "rb") as file:
                        data += file.read()
        text = bytes(data)
    else:
        chance = random.Random(7)
        text = b"".join(
            json.dumps({"type": "assistant", "content": " ".join(chance.choices(WORDS, k=200))}).encode() + b"\n"
            for _ in range(8000)
        )
    speed("ordinary text", redactor, text)
    if arguments.baseline:
        compare(text, arguments.baseline)
    ordinary = {0: text[: 4 << 20]}
    for name, content, size in hostile():
        if size not in ordinary:
            ordinary[size] = recut(text[: 4 << 20], size)
            speed(f"ordinary text, {size} bytes a record", redactor, ordinary[size])
        speed(name, redactor, content, ordinary[size])
    if arguments.engine is None:
        memory(f"/tmp/sessiond-bench-redact-{os.getuid()}")


if __name__ == "__main__":
    main()
