"""The program, for tests that start it as a process with an environment of its own."""

from __future__ import annotations

import os

import sessiond

SOURCE = os.path.dirname(os.path.dirname(os.path.abspath(sessiond.__file__)))
"""The directory of the package, as PYTHONPATH. All of `sys.path` would have each import search the tests as well."""
