"""An S3-compatible object store for the tests: the one that SESSIOND_TEST_S3 names, or moto on 127.0.0.1.

SESSIOND_TEST_S3 is an address such as s3://bucket/prefix. The AWS_* variables have the rest.
"""

from __future__ import annotations

import atexit
import os
import subprocess
import sys
import urllib.request
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from unittest import mock

import pytest

BUCKET = "sessiond-tests"
MOTO = (
    "import logging, sys, warnings\n"
    "warnings.simplefilter('ignore')\n"
    "from moto.server import ThreadedMotoServer\n"
    "logging.getLogger('werkzeug').setLevel(logging.ERROR)\n"
    "server = ThreadedMotoServer('127.0.0.1', 0, verbose=False)\n"
    "server.start()\n"
    "print(server.get_host_and_port()[1], flush=True)\n"
    "sys.stdin.read()\n"
)


@cache
def server() -> tuple[str, Mapping[str, str]]:
    """Start a server that ends with this process; return an address in it, and the variables that name it."""
    pytest.importorskip("obstore", reason="obstore is not installed")
    named = os.environ.get("SESSIOND_TEST_S3")
    if named:
        return named.rstrip("/"), {}
    pytest.importorskip("moto", reason="moto is not installed")
    process = subprocess.Popen([sys.executable, "-c", MOTO], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    atexit.register(process.communicate)
    url = f"http://127.0.0.1:{int(process.stdout.readline())}"
    with urllib.request.urlopen(urllib.request.Request(f"{url}/{BUCKET}", method="PUT")):
        pass
    variables = {"AWS_ENDPOINT_URL": url, "AWS_ACCESS_KEY_ID": "tests", "AWS_SECRET_ACCESS_KEY": "tests"}
    return f"s3://{BUCKET}", variables | {"AWS_REGION": "us-east-1"}


@contextmanager
def new_prefix() -> Iterator[str]:
    """Return a context with the address of an empty prefix. The AWS_* variables are set in it."""
    where, variables = server()
    with mock.patch.dict(os.environ, variables):
        yield f"{where}/{uuid.uuid4().hex}"
