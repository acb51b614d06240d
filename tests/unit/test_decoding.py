"""Threads that use a type for the first time at the same moment (sessiond/decoding.py)."""

from __future__ import annotations

import subprocess
import sys

# Each runs in another process: a failure would end the process.

RACE = """
from __future__ import annotations
import sys, threading, types
import msgspec
from sessiond.decoding import convert, json_decoder, msgpack_decoder

fields = "".join(f"    f{n}: int | None = None\\n    g{n}: list[int] | None = None\\n" for n in range(12))
source = f"import msgspec\\nclass Inner(msgspec.Struct):\\n{fields}class Outer(msgspec.Struct):\\n    a: Inner\\n"
sys.setswitchinterval(1e-6)
for number in range(300):
    module = sys.modules[f"made{number}"] = types.ModuleType(f"made{number}")
    exec(compile(source, "made", "exec", dont_inherit=True), vars(module))
    outer, together, done = module.Outer, threading.Barrier(3), []
    def use(decode):
        together.wait()
        done.append(decode().a.f11)
    ways = (
        lambda: json_decoder(outer).decode(b'{"a":{"f11":3,"g5":[1]}}'),
        lambda: msgpack_decoder(outer).decode(msgspec.msgpack.encode({"a": {"f11": 3, "g5": [1]}})),
        lambda: convert({"a": {"f11": 3, "g5": [1]}}, outer),
    )
    threads = [threading.Thread(target=use, args=(way,)) for way in ways]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert done == [3, 3, 3]
"""

IMPORTS = """
import sys, threading
import msgspec

imported = []
def note(event, args):
    if event == "import" and threading.current_thread() is not threading.main_thread():
        imported.append(args[0])
sys.addaudithook(note)
from sessiond.cli import main
assert main(["demo"]) == 0
assert imported  # the hook works
kinds = (msgspec.json.Decoder, msgspec.msgpack.Decoder)
for name in imported:
    late = [each for each in vars(sys.modules.get(name, sys)).values() if isinstance(each, kinds)]
    assert not late, name
"""


def run(script: str) -> None:
    """Run a script in another process; it has to succeed."""
    done = subprocess.run([sys.executable, "-c", script], check=False, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, (done.returncode, done.stderr[-2000:])


def test_threads_may_use_a_type_for_the_first_time_at_the_same_moment() -> None:
    """msgspec alone crashes here (SIGSEGV) within a few rounds: a thread sees fields without types."""
    run(RACE)


def test_no_thread_imports_a_module_that_builds_decoders() -> None:
    """A module's own decoders are built without the lock, so daemon and endpoint import it in the main thread."""
    run(IMPORTS)
