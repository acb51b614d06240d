"""Settings for all tests: UTC, Hypothesis without a clock, default signals, files in memory, rules compiled once."""

import gc
import os
import signal
import time

import pytest
from hypothesis import HealthCheck, settings

from support.rules_cache import compile_once, share_rules
from support.scratch import use_memory

# Some tools write local times without a zone, and the samples were made in UTC.
os.environ["TZ"] = "UTC"
time.tzset()
# How long an example takes depends on the machine and on what else runs on it.
settings.register_profile("unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")
# A shell starts a job in the background with SIGINT ignored, and nohup ignores SIGHUP. Programs inherit that, and
# tests that send these signals would never end.
for number in (signal.SIGINT, signal.SIGHUP):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, signal.default_int_handler if number is signal.SIGINT else signal.SIG_DFL)
use_memory()
compile_once()
# All that is imported and collected stays: to look through it again and again took a fifth of the time of a start.
gc.disable()


def pytest_configure(config: pytest.Config) -> None:
    """Compile the rules before the workers start, which would all do it."""
    if config.getoption("numprocesses", None):
        share_rules()


def pytest_collection_finish() -> None:
    """Make garbage collections rare, and keep what was collected out of them: they took a tenth of all time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)
    gc.enable()


@pytest.hookimpl(optionalhook=True)  # the tests run without pytest-xdist too
def pytest_xdist_auto_num_workers() -> int:
    """Return how many workers `-n auto` starts: one more than processors, as some tests wait for a program."""
    return (os.cpu_count() or 1) + 1
