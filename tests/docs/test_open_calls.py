"""Every module of daemon/ that opens a file by other means than SQLite is listed here, with what it opens.

Closing any descriptor of a database drops every lock that SQLite holds on it in this process; the next process to
close the database then deletes its write-ahead log, with every commit in it (daemon/sessiond/sqlite_files.py).
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from support.syntax import nodes

DAEMON = Path(__file__).parents[2] / "daemon/sessiond"
CALLS = {"open", "fdopen", "mknod", "read_bytes", "read_text", "write_bytes", "write_text", "file_digest", "mmap"}
COPIES = {"copy", "copy2", "copyfile", "copytree", "move", "make_archive", "sendfile", "copyfileobj"}
"""Functions of shutil and os that open what they copy."""
OWN_DATABASES = ("spool/", "endpoint/server/", "sqlite_files.py", "database.py", "reader.py")
"""Where our databases or a tool's are at hand: here each function is listed by itself."""
ALLOWED = {
    "atomic.py": "small files of our own, none of them a database",
    "cli/__init__.py": "/dev/null",
    "cli/demo.py": "the transcript that it has written itself",
    "cli/editing.py": "the configuration and its draft",
    "cli/elsewhere.py": "the sessions that `ls` listed last",
    "cli/logs.py": "log files",
    "cli/masked_stream.py": "files of the configuration",
    "cli/run.py": "/dev/null and the standard streams",
    "cli/streams.py": "the archive's token; descriptors of transcripts",
    "cli/tool_folder.py": "descriptors of the small files of a folder",
    "config/load.py": "configuration files",
    "config/token.py": "the token file",
    "config/write.py": "configuration files",
    "daemon/archive.py": "the archive's token",
    "daemon/outage.py": "/proc, and the certificates of endpoint.ca_file",
    "daemon/power.py": "/sys",
    "database.py:Database._is_closed": "a tool's database, under a guard: never while another connection locks it",
    "device.py": "device.toml, /etc/machine-id",
    "doctor/machine.py": "/proc",
    "endpoint/server/blobs.py:FileBlobs.get": "objects",
    "endpoint/server/blobs.py:_sync": "directories of objects",
    "endpoint/server/lock.py:StoreLock._take": "the lock file, which is not the database",
    "endpoint/server/metrics.py:process_lines": "/proc/self/statm",
    "endpoint/server/postgres_migration.py:migrations": "the migrations for PostgreSQL in the package",
    "endpoint/server/run.py:token_from": "the token file",
    "ingest/catch_up.py": "pins, which exist of files of lines only",
    "ingest/compressed.py": "descriptors of compressed files of lines",
    "logs/sinks.py": "log files",
    "pause.py": "the pause file",
    "privacy/secrets_scan.py": "a file that the user names, in a process that has no database open",
    "privacy/terms.py": ".sessiondignore",
    "reader.py:_below": "directories",
    "reader.py:open_regular": "transcripts; a database is checked with check_regular, which does not open it",
    "redact/cache.py": "the cache of compiled rules",
    "redact/policy.py": "our own rules",
    "redact/rule_file.py": "the code of this program",
    "redact/scanner.py": "/proc",
    "restore/compare.py": "transcripts and side files, as a recipe names them",
    "restore/engine.py": "its own temporary files; indexes of tools, in JSON",
    "restore/journal.py": "its journal; transcripts to which it appends",
    "restore/processes.py": "/proc",
    "restored.py": "marks of restored sessions, in JSON",
    "service/launchd.py": "property lists",
    "service/plan.py": "unit files",
    "service/systemd.py": "unit files",
    "sources/user_dirs.py": "settings of tools and their lists of projects, in JSON",
    "sources/processes.py": "/proc",
    "sqlite_files.py:create_private": "a database that does not exist yet, closed before anybody can connect to it",
    "unsaved.py": "/proc, and records of Claude Code's processes, in JSON",
    "state.py": "the lock of the state directory",
    "status/configured.py": "configuration files",
    "watch/kernel.py": "/proc",
}


def opens(source: str) -> Iterator[str]:
    """Iterate the functions (`Class.function`) of a module that open a file or copy one."""
    return (inside for node, inside in nodes(source) if isinstance(node, ast.Call) and _is_open(node.func))


def _is_open(called: ast.expr) -> bool:
    if isinstance(called, ast.Name):
        return called.id in {"open", "fdopen", "mmap", "file_digest"} | COPIES
    if not isinstance(called, ast.Attribute):
        return False
    module = called.value.id if isinstance(called.value, ast.Name) else ""
    if called.attr in COPIES:
        return module in {"shutil", "os"}
    if called.attr == "open":
        return module in {"os", "io", "gzip", "codecs", "tarfile", "zipfile"} or module[:1].isupper()
    return called.attr in CALLS and module != "config"


def found() -> set[str]:
    """Return what opens files, as ALLOWED names it."""
    names = set()
    for path in sorted(DAEMON.rglob("*.py")):
        module = str(path.relative_to(DAEMON))
        strict = module.startswith(OWN_DATABASES)
        names |= {f"{module}:{function}" if strict else module for function in opens(path.read_text(encoding="utf-8"))}
    return names


def test_every_place_that_opens_files_is_known_to_open_no_database() -> None:
    """Add a new one to ALLOWED with what it opens. If that may be a database, it must not be opened at all."""
    assert sorted(found() - ALLOWED.keys()) == []


def test_the_list_has_no_place_that_is_gone() -> None:
    assert sorted(ALLOWED.keys() - found()) == []


def test_the_rule_sees_every_way_to_open_a_file() -> None:
    source = (
        "import os, io, shutil\nfrom pathlib import Path\n"
        "def a(): open('x')\ndef b(): os.close(os.open('x', 0))\nclass C:\n    def d(self): Path('x').read_bytes()\n"
        "def e(): shutil.copyfile('x', 'y')\ndef f(): os.fdopen(3)\ndef g(): io.open('x')\ndef h(): {}.copy()\n"
    )
    assert list(opens(source)) == ["a", "b", "C.d", "e", "f", "g"]
