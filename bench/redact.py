#!/usr/bin/env python3
"""Measure the redactor: recall and false positives by rule, speed, memory.

    PYTHONPATH=daemon python bench/redact.py [CORPUS] [--engine re]

The planted corpus is made of the rules' own templates, with other values each time, in JSON strings of one
and two levels, among noise. CORPUS is a directory of transcripts ; without it the speed is taken from the
planted noise. Speeds are CPU time; the load of the machine stands beside them.
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
from collections.abc import Iterator

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


def speed(name: str, redactor: Redactor, data: bytes, ordinary: float = 0.0) -> float:
    """Print how many bytes a CPU second covers, the best of three, and what that is to ordinary text; return MB/s."""
    runs = records(data)
    best, findings = 1e9, 0
    for _ in range(3):
        start = time.process_time()
        findings = sum(len(redactor.mask(run).findings) for run in runs)
        best = min(best, time.process_time() - start)
    rate = len(data) / 1e6 / best
    ratio = f"{ordinary / rate:6.1f} x" if ordinary else ""
    load = os.getloadavg()[0]
    print(f"{name:34} {rate:8.1f} MB/s {len(data) / 1e6:8.1f} MB {findings:7} findings  load {load:.1f} {ratio}")
    return rate


def adversarial() -> Iterator[tuple[str, bytes]]:
    """Yield inputs made to be slow."""
    chance = random.Random(5)

    def line(text: str) -> bytes:
        return json.dumps({"type": "user", "content": text}).encode() + b"\n"

    misses = [m for rule in load_rules().rules for m in rule.miss]
    lines = [
        line(expand(chance.choice(misses), n) + " " + " ".join(chance.choices(WORDS, k=20))) for n in range(30_000)
    ]
    yield "30,000 near-misses, all rules", b"".join(lines)
    yield "30,000 near-misses: short ghp_", b"".join(line(expand("ghp_<A35> and so on", n)) for n in range(30_000))
    yield "30,000 near-misses: password=", line("password=${X} token: string " * 30_000)
    yield "30,000 placeholders", b"".join(line('api_key = "your-api-key-here"') for _ in range(30_000))
    yield "30,000 glued keys", line("xAKIAABCDEFGHIJKLMNOPx " * 30_000)
    yield "4 MB of one letter", line("a" * (4 << 20))
    yield "4 MB of A, zero bytes in base64", line("A" * (4 << 20))
    yield "12 MB of A in one line", line("A" * (12 << 20))
    yield "1 MB of password=", line("password=" * (1 << 17))
    yield "4 MB of colour codes", line("\x1b[31ma" * (1 << 19))
    yield "4 MB of digits", line("1234567890" * 420_000)
    yield "4 MB of backslashes", b'{"a":"' + b"\\" * (4 << 20) + b'"}\n'
    yield "4 MB of escaped quotes", line('"' * (2 << 20))
    yield "key headers without ends", line("-----BEGIN RSA PRIVATE KEY-----\n" * 60_000)
    yield "key headers, half a key", line(("-----BEGIN RSA PRIVATE KEY-----\n" + "MIIE" * 10 + "\n\n-- \n") * 20_000)
    yield "4 MB of base64", line(expand("<B65536>", 1) * 64)
    yield "open tokens eyJ", line("eyJhbGciOiJIUzI1NiJ9." * 100_000)


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
        ordinary = speed("transcripts", redactor, bytes(data))
    else:
        ordinary = speed("planted noise", redactor, b"".join(line for *_, line in planted(20, 7)))
    for name, content in adversarial():
        speed(name, redactor, content, ordinary)
    if arguments.engine is None:
        memory(f"/tmp/sessiond-bench-redact-{os.getuid()}")


if __name__ == "__main__":
    main()
