"""Checks of samples, as one test a tool: for hundreds of tests, pytest takes longer than the checks take."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest


def each_tool(names: Sequence[str]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Make a test for each tool of a check that takes the `name` of a sample; it fails with all samples that fail.

    Other parameters are fixtures. Each sample gets a `tmp_path` of its own.
    """
    samples: dict[str, list[str]] = {}
    for name in names:
        samples.setdefault(name.partition("/")[0], []).append(name)

    def decorate(check: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(check)
        def test(tool: str, **fixtures: Any) -> None:
            failures = []
            for name in samples[tool]:
                own = dict(fixtures)
                if "tmp_path" in own:
                    own["tmp_path"] = Path(own["tmp_path"], name.partition("/")[2])
                    own["tmp_path"].mkdir()
                try:
                    check(name=name, **own)
                except Exception as failure:  # noqa: BLE001 - it is raised below, with the others
                    failure.add_note(f"in the sample {name}")
                    failures.append(failure)
            if failures:
                raise ExceptionGroup(f"{len(failures)} of {len(samples[tool])} samples of {tool}", failures)

        given = [each for each in inspect.signature(check).parameters.values() if each.name != "name"]
        tool = inspect.Parameter("tool", inspect.Parameter.POSITIONAL_OR_KEYWORD)
        test.__signature__ = inspect.Signature([tool, *given])  # type: ignore[attr-defined] # pytest reads it
        return pytest.mark.parametrize("tool", samples)(test)

    return decorate
