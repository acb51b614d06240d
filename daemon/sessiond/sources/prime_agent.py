"""Prime Agent, a fork of Pi: docs/formats/prime-agent.md."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import ClassVar

import msgspec

from sessiond.session import Entry
from sessiond.sources.base import Memory, Root, UserDirs
from sessiond.sources.damaged import to_utf8
from sessiond.sources.pi import KNOWN, Pi
from sessiond.sources.records import UUID, parse
from sessiond.sources.side_files import SideFiles, side_roots
from sessiond.sources.user_dirs import unique_paths

OWN_TYPES = "service_tier_change child_usage_attributed session_state agent_status git_state"
ARTIFACTS = "session-artifacts"


class _Git(msgspec.Struct, gc=False):
    branch: str | None = None


class _Line(msgspec.Struct, gc=False):
    git: _Git | None = None


LINE = msgspec.json.Decoder(_Line)


class PrimeAgent(Pi):
    """Session files of Prime Agent: Pi's entries, in files that are named by the session's id alone."""

    tool: ClassVar[str] = "prime-agent"
    variables: ClassVar[tuple[str, ...]] = (
        "PRIME_AGENT_SESSION_DIR",
        "PRIME_AGENT_CODING_AGENT_SESSION_DIR",
        "PRIME_AGENT_CODING_AGENT_DIR",
    )
    versions: ClassVar[tuple[str, ...]] = ("0.8.0",)
    gaps: ClassVar[tuple[str, ...]] = (
        "no version is stored",
        "a branch that is continued after another one was begun is not counted",
    )
    # Releases before the flat directory had one for each project, which is migrated.
    files: ClassVar[re.Pattern[str]] = re.compile(rf"(?:[^/]+/)?(?:[^/]+_)?(?P<id>{UUID})\.jsonl", re.ASCII)
    side_files: ClassVar[tuple[SideFiles, ...]] = (SideFiles(rf"{ARTIFACTS}/(?P<id>{UUID})/(?P<name>.+)", "artifacts"),)
    known: ClassVar[frozenset[str]] = KNOWN.union(OWN_TYPES.split())

    def roots(self, dirs: UserDirs) -> Iterable[Root]:
        """Return the session directories in the variables, those of the agent directories, and their artifacts."""
        session, legacy, agent = (dirs.from_variable(variable) for variable in self.variables)
        homes = unique_paths(agent, f"{dirs.home}/.prime/agent")
        paths = unique_paths(session, legacy, *(f"{home}/sessions" for home in homes))
        for path in paths:
            yield Root(path=path, depth=1)
        # The artifacts are beside the directory of the sessions, wherever that is.
        parents = unique_paths(*(path.rpartition("/")[0] for path in paths))
        yield from side_roots(parents, (ARTIFACTS,))

    def decode(self, record: bytes, memory: Memory) -> Entry | None:
        """Decode an entry as Pi's. The header and later entries say which branch of Git is checked out."""
        entry = super().decode(record, memory)
        if entry is None or b'"git"' not in to_utf8(bytes(record)):
            return entry
        git = parse(LINE, record).git
        return msgspec.structs.replace(entry, branch=git.branch if git else None)


SOURCES = (PrimeAgent(),)
