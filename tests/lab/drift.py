"""`make lab-drift`: runs newer versions of the tools than those that the lab has tested, and reports what differs.

For each tool it asks the registry (npm, PyPI) for its versions. If there are newer ones than the tested one, the newest
runs the cheap scenarios, and so does the tested one. The report names unknown record types, files whose bytes would be
lost, and differences in what the two write. The exit code is 1 if there is anything to look into.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import msgspec
from msgspec.structs import replace

from lab.runs import RUNS, Run

CHEAP = "plain tool resume write"
"""The scenarios that run."""
ATTEMPTS = 3
"""How many of the newest versions are tried until one can be installed: a registry may lack what one depends on."""
RELEASE = re.compile(r"\d+(?:\.\d+)*")
ID = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}|[0-9a-f]{8,}|\d+|(?<=_)[0-9A-Za-z]{16,}")
ERROR = re.compile(r"notarget|No matching version|can't|cannot|No such file|not found|\berror:", re.IGNORECASE)
KINDS = ("type", "role")
"""Fields whose values are names of record types."""
DEPTH = 3
"""How deep records are compared. Below are the arguments and results of tools."""


class Shape(msgspec.Struct, frozen=True, kw_only=True):
    """The form of a version's files, without ids, times and text."""

    sessions: int
    messages: int
    files: frozenset[str]
    """Paths of files, with * for ids, numbers and dates."""
    fields: frozenset[str]
    """Paths of the fields of records, with the record's type before them."""
    unknown: frozenset[str] = frozenset()
    """Record types that the source does not know."""
    missing: frozenset[str] = frozenset()
    """Paths of files whose bytes are in no stream, and which no gap names."""


def version_key(version: str) -> tuple[int, ...]:
    """Return the key by which versions are ordered."""
    return tuple(map(int, re.findall(r"\d+", version)))


def newer_versions(tested: str, published: Iterable[str]) -> list[str]:
    """Return the published releases that are newer than the tested one, oldest first. Pre-releases are left out."""
    releases = {version for version in published if RELEASE.fullmatch(version)}
    return sorted((it for it in releases if version_key(it) > version_key(tested)), key=version_key)


def field_paths(streams: Iterable[bytes]) -> frozenset[str]:
    """Return the paths of all fields of the records in streams of JSON lines; other streams have none."""
    found: set[str] = set()
    for content in streams:
        for line in content.split(b"\n"):
            try:
                record = msgspec.json.decode(line)
            except msgspec.DecodeError:
                continue  # the last line of a killed tool, or a side file
            found.update(_paths(record, _kind(record), DEPTH))
    return frozenset(found)


def path_pattern(path: str, repository: str = "") -> str:
    """Return a path with * for ids, numbers, dates, and the repository, whose path tools write with dashes."""
    if words := re.findall(r"[A-Za-z0-9]+", repository):
        path = re.sub("[^A-Za-z0-9/]?".join(words), "*", path)
    return re.sub(r"\*(?:[-_.T:]?\*)+", "*", ID.sub("*", path))


def differences(tested: Shape, newer: Shape) -> Iterator[str]:
    """Iterate over what a maintainer has to look into: what would be lost first, then what only differs."""
    yield from (f"unknown record type: {name}" for name in sorted(newer.unknown))
    yield from (f"file in no stream: {path}" for path in sorted(newer.missing))
    for what in ("sessions", "messages"):
        before, after = getattr(tested, what), getattr(newer, what)
        if before != after:
            yield f"{what}: {before} before, {after} now"
    for what, before, after in (("file", tested.files, newer.files), ("field", tested.fields, newer.fields)):
        yield from (f"new {what}: {name}" for name in sorted(after - before))
        yield from (f"{what} no longer written: {name}" for name in sorted(before - after))


def published_versions(package: str) -> list[str]:
    """Ask a registry for the versions of a package. Raises: CalledProcessError, TimeoutExpired."""
    registry, _, name = package.partition(":")
    if registry == "npm":
        command = ["npm", "view", name, "versions", "--json"]
    else:
        command = [sys.executable, "-m", "pip", "index", "versions", "--json", "--ignore-requires-python", name]
    answer = json.loads(subprocess.run(command, capture_output=True, check=True, timeout=120, text=True).stdout)
    versions = answer if registry == "npm" else answer["versions"]
    return [versions] if isinstance(versions, str) else versions


def observe_shape(run: Run, version: str) -> Shape:
    """Run the cheap scenarios on a version. Raises: AssertionError if it does not even start."""
    from lab.observe import observe

    with tempfile.TemporaryDirectory(prefix="sessiond-drift-") as directory:
        seen = observe(replace(run, version=version, only=CHEAP), Path(directory))
    mine = seen.sessions(run.tool)
    assert mine, seen.output
    every = (*seen.files.captured, *seen.files.named, *seen.files.missing)
    return Shape(
        sessions=len(mine),
        messages=sum(session["record"]["message_count"] for session in mine),
        files=frozenset(path_pattern(path, seen.repository) for path in every),
        fields=field_paths(seen.streams),
        unknown=frozenset(seen.unknown),
        missing=frozenset(path_pattern(path, seen.repository) for path in seen.files.missing),
    )


def report(runs: Sequence[Run]) -> Iterator[tuple[str, bool]]:
    """Iterate over lines of the report, in Markdown, and whether each needs a maintainer."""
    for run in runs:
        try:
            newer = newer_versions(run.version, published_versions(run.package))
        except (subprocess.SubprocessError, ValueError) as error:
            yield f"- {run.tool}: the registry does not list {run.package}: {error}", True
            continue
        if not newer:
            yield f"- {run.tool} {run.version}: nothing newer is published", False
            continue
        yield f"- {run.tool} {run.version}: newer are {', '.join(newer)}", True
        yield from ((line, True) for line in _compare(run, newer))


def _compare(run: Run, newer: Sequence[str]) -> Iterator[str]:
    """Iterate over what differs in the newest version that can be installed and run."""
    for version in list(reversed(newer))[:ATTEMPTS]:
        try:
            shape = observe_shape(run, version)
        except (AssertionError, subprocess.SubprocessError) as error:
            yield f"  - {version} can't be run: {_reason(str(error))}"
            continue
        try:
            tested = observe_shape(run, run.version)
        except (AssertionError, subprocess.SubprocessError) as error:
            yield f"  - {version} runs, but {run.version} can't any more: {_reason(str(error))}"
            return
        found = list(differences(tested, shape))
        yield from (f"  - {version}: {line}" for line in found or ["no difference in the cheap scenarios"])
        return


def _reason(output: str) -> str:
    """Return the first line of what a script printed that names an error, else the last: scripts go on to their end."""
    lines = output.strip().splitlines() or [""]
    return next((line for line in lines if ERROR.search(line)), lines[-1]).strip()


def _kind(record: object) -> str:
    """Return the names of a record's types: of its own, and of the message or payload in it."""
    if not isinstance(record, dict):
        return "?"
    own = [str(record[name]) for name in KINDS if isinstance(record.get(name), str)]
    inner = [_kind(record[name]) for name in ("message", "payload") if isinstance(record.get(name), dict)]
    return "/".join([*own, *inner]) or "?"


def _paths(value: object, prefix: str, depth: int) -> Iterator[str]:
    if isinstance(value, dict) and depth:
        for name, each in value.items():
            path = f"{prefix}.{path_pattern(str(name))}"
            yield path
            yield from _paths(each, path, depth - 1)
    elif isinstance(value, list):
        for each in value:
            yield from _paths(each, f"{prefix}[]", depth)


def main(tools: Sequence[str]) -> int:
    """Print the report for some tools, or for all."""
    attention = False
    for line, needs_attention in report([run for run in RUNS if run.package and (not tools or run.tool in tools)]):
        print(line, flush=True)
        attention |= needs_attention
    return int(attention)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
