"""Every expression must be fast on hostile input: a few hundred bytes of ordinary output must never stop the daemon."""

from __future__ import annotations

import importlib
import json
import pkgutil
import re
import subprocess
import sys
from typing import Any

import sessiond
from sessiond.redact.rules import load_rules

RUNS = 'a A 0 aA a_ a. a0 a- = a= : a: \\ \\" / a/ @ %2'
PARTS = (*RUNS.split(), " ", "a ", "\n")
ENDS = ("", "!", "\r", "\n", '"', "\x00", "=", "@", "é")
LENGTH = 150
"""Far more than an expression survives that tries all divisions of a run, and nothing for one that does not."""
SECONDS = 60
PROGRAM = """
import json, re, sys
expressions, texts = json.load(sys.stdin)
for pattern, flags, binary in expressions:
    matcher = re.compile(pattern.encode("latin-1") if binary else pattern, flags)
    for text in texts:
        hostile = text.encode("latin-1") if binary else text
        matcher.search(hostile), matcher.fullmatch(hostile)
"""


def expressions() -> list[tuple[str, int, bool]]:
    """Return (pattern, flags, whether it matches bytes) of the package's expressions and of the rules for secrets."""
    values: list[Any] = [rule.regex for rule in load_rules().rules if hasattr(rule, "regex")]
    for module in pkgutil.walk_packages(sessiond.__path__, "sessiond."):
        if not module.name.endswith("__main__"):
            variables = vars(importlib.import_module(module.name))
            values += variables.values()
            values += [value for each in variables.values() if isinstance(each, type) for value in vars(each).values()]
    found = {
        (pattern if isinstance(pattern, str) else pattern.decode("latin-1"), value.flags, isinstance(pattern, bytes))
        for value in values
        if isinstance(value, re.Pattern) and (pattern := value.pattern) is not None
    }
    return sorted(found)


def test_no_expression_tries_all_divisions_of_a_run() -> None:
    """The match runs in a process that can be killed: Python handles no signal while an expression is matched."""
    hostile = [(part * LENGTH)[:LENGTH] + end for part in PARTS for end in ENDS]
    assert len(expressions()) > 100
    command = [sys.executable, "-c", PROGRAM]
    subprocess.run(command, input=json.dumps([expressions(), hostile]), text=True, check=True, timeout=SECONDS)


def check(program: str, text: str = "") -> None:
    code = f"import sys; from sessiond.redact import Policy, Redactor; mask = Redactor(Policy()).mask; {program}"
    subprocess.run([sys.executable, "-c", code], input=text, text=True, check=True, timeout=SECONDS)


def test_long_names_at_the_end_of_a_line_are_judged_at_once() -> None:
    """`apt install ca-certificates` prints such lines: many words, and an end that is not a word."""
    name = "Autoridad_de_Certificacion_de_una_sociedad_muy_profesional_CIF_A62634068"
    lines = [f"Adding debian:{name}.pem", f"Adding debian:{name}_2.pem", "Adding debian:Another_Root_CA.pem"]
    program = "data = sys.stdin.buffer.read(); assert mask(data).data == data"
    check(program, json.dumps({"output": "\n".join(lines * 4)}) + "\n")


def test_a_secret_of_digits_is_covered_at_once() -> None:
    digits = "830194756201938475620193847561029384756102938475"
    check(f"assert b'83019' not in mask(b'{{\"a\":\"password={digits}x\"}}').data")
