"""Opens what an engine works with: spool, roots, redaction, device."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack, suppress

import msgspec

from sessiond.clock import Clock
from sessiond.config import Config, read_token, state_dir
from sessiond.daemon.built_in_archive import BuiltInArchive
from sessiond.device import Device, first_start_ms, hostname, identify, installation, machine_identity
from sessiond.errors import SpoolDamaged, StateError, StateFull, Unsafe
from sessiond.ingest import IngestContext
from sessiond.ingest.backfill import here_ms, oldest_ms
from sessiond.ingest.endings import Endings
from sessiond.ingest.pins import Pins
from sessiond.ingest.policy_changes import apply_policy_changes, drop_excluded
from sessiond.logs import hide, log
from sessiond.memory import trim_memory
from sessiond.privacy import Exclusion, Masking, Terms, read_terms
from sessiond.reader import Digest
from sessiond.restored import RestoredSessions
from sessiond.sources import find_project_roots, find_roots, find_side_roots
from sessiond.sources.base import Root, Source
from sessiond.sources.links import Link, linked_root
from sessiond.spool import Spool
from sessiond.spool import damaged as damaged_spools
from sessiond.spool.health import CLEAN, REBUILT, note_host
from sessiond.spool.rows import FileState
from sessiond.watch import WatchedRoot, Watcher

NOT_FOLLOWED = "a link that is not followed: "
"""How the trouble of a link begins."""


class Resources(msgspec.Struct, kw_only=True):
    """The opened resources."""

    config: Config
    directory: str
    device: Device
    machine_id: str
    spool: Spool
    roots: list[tuple[Source, Root]]
    """All roots, including those in projects."""
    listed_roots: list[tuple[Source, Root]]
    """The roots named by the tools and the configuration."""
    ingest: IngestContext
    environ: Mapping[str, str]
    archive: BuiltInArchive
    """The archive beside the configured endpoint; there may be none."""
    clock: Clock = msgspec.field(default_factory=Clock)
    directories: list[str] = []
    """The working directories named by sessions, read when there were `counted` sessions."""
    counted: int = 0
    registries: set[str] = msgspec.field(default_factory=set)
    """The tools' files that list further roots. Each change is compared with them."""

    def __post_init__(self) -> None:
        self._note_registries(self.roots)

    @property
    def watched(self) -> list[WatchedRoot]:
        """The roots for the watcher."""
        return [WatchedRoot(root=root, owner=source.tool) for source, root in self.roots]

    def roots_changed(self) -> bool:
        """Return whether the tools name other roots now than when the resources were opened."""
        return find_roots(self.config, self.environ) != self.listed_roots

    def follow_links(self, watched: WatchedRoot, paths: Iterable[str], watcher: Watcher) -> list[WatchedRoot]:
        """Add the roots that links below a root lead to, and report the links that are not followed; return the new."""
        new: list[tuple[Source, Root]] = []
        for path in paths:
            for source in [source for source, root in self.roots if root == watched.root]:
                try:
                    root = linked_root(Link(source, watched.root, path), [*self.roots, *new], self.directory)
                except Unsafe as error:
                    self._report_link(source.tool, path, f"{NOT_FOLLOWED}{error}")
                else:
                    new += [(source, root)] if root is not None else []
        return self._add(new, watcher)

    def forget_removed_links(self) -> None:
        """Forget the reports of links that are gone. Each scan calls this once, however many roots it has."""
        with self.spool.reading():
            reported = self.spool.catalog.troubled(NOT_FOLLOWED)
        removed = [file for file in reported if not os.path.islink(file.path)]
        if removed:
            with self.spool.transaction():
                for file in removed:
                    gone = msgspec.structs.replace(file, trouble=None, gone_ms=self.clock.now_ms())
                    self.spool.catalog.save_file(gone)

    def _report_link(self, tool: str, path: str, trouble: str) -> None:
        """Store why a link is not followed, for `sources` and `status`."""
        known = self.spool.catalog.file(path)
        if known is None or known.trouble != trouble:
            with self.spool.transaction():
                self.spool.catalog.save_file(FileState(path=path, tool=tool, trouble=trouble))
            log.warning("ingest.skipped", tool=tool, path=path, reason=trouble)

    def discover_project_roots(self, watcher: Watcher | None = None) -> list[WatchedRoot]:
        """Add the roots found in the working directories of sessions; return the new ones."""
        self._count()
        known = {(source.tool, root.path) for source, root in self.roots}
        found = find_project_roots(self.config, self.environ, self.directories)
        return self._add([(source, root) for source, root in found if (source.tool, root.path) not in known], watcher)

    def _add(self, new: list[tuple[Source, Root]], watcher: Watcher | None) -> list[WatchedRoot]:
        self.roots += new
        self._note_registries(new)
        watched = [WatchedRoot(root=root, owner=source.tool) for source, root in new]
        if watched and watcher is not None:
            watcher.add(watched)
        return watched

    def _note_registries(self, roots: Iterable[tuple[Source, Root]]) -> None:
        self.registries |= {f"{root.path}/{root.registry}" for _, root in roots if root.registry}

    def release_memory(self) -> None:
        """Release memory after a scan or a backlog: from here on there are only single lines to read."""
        self.spool.release_memory()
        trim_memory()

    def apply_exclusions(self) -> None:
        """Drop sessions of newly ignored projects. If one is no longer ignored, mark its files to be read again."""
        self._count()
        if self.ingest.exclusion.excludes_any(self.directories):
            drop_excluded(self.ingest)
            self._count()
        if self.ingest.exclusion.lifted():
            with self.spool.transaction():
                self.spool.catalog.reread_files_without_session()

    def _count(self) -> None:
        """Read the working directories again if the number of sessions changed."""
        with self.spool.reading():
            if self.counted != (count := self.spool.catalog.count()):
                catalog = self.spool.catalog
                # Records may have hashes instead of paths. The folds have the paths, but are slower to read.
                known = catalog.directories() if self.config.hash_paths else catalog.working_directories()
                self.counted, self.directories = count, list(known)

    def close(self, *, clean: bool = True) -> None:
        """Close the spool. `clean` marks it as closed properly, so that the next start need not check it."""
        try:
            if clean:
                with suppress(StateError):  # on a full disk it is checked at the next start
                    self.spool.set_meta(CLEAN, "1")
        finally:
            self.spool.close()


class Opening(msgspec.Struct, frozen=True, kw_only=True):
    """How resources are opened, besides the configuration. Tests replace what depends on the system."""

    clock: Clock = msgspec.field(default_factory=Clock)
    open_spool: Callable[[str], Spool] = Spool
    """Opens the spool in a state directory. Raises: StateError."""
    settle_ms: int = 1000
    """As in IngestContext."""
    archive: BuiltInArchive | None = None
    """None: the one in the state directory."""
    damaged: SpoolDamaged | None = None
    """Damage that was found while the spool was in use: a check might not find it."""


def open_resources(config: Config, environ: Mapping[str, str], opening: Opening | None = None) -> Resources:
    """Open the spool and find the roots. The caller holds the lock. A damaged spool is set aside and rebuilt.

    Raises: StateError (SpoolTooNew among them), ConfigError.
    """
    opening = opening or Opening()
    directory = state_dir(config)
    device = identify(directory)
    terms = terms_of(config, environ, device)
    spool = _open_spool(directory, opening)
    with suppress(StateFull):  # a full disk; the next start notes it
        note_host(spool, hostname(), machine_identity(), opening.clock.now_ms())
    roots = find_roots(config, environ)
    context = _ingest_context(config, environ, spool, roots, terms, opening)
    _apply_policy(context)
    resources = Resources(
        config=config,
        directory=directory,
        device=device,
        machine_id=context.machine_id,
        spool=spool,
        roots=roots,  # the same list as in the context: what is added later is captured too
        listed_roots=list(roots),
        ingest=context,
        environ=environ,
        archive=opening.archive or BuiltInArchive(directory, device.device_id),
        clock=opening.clock,
    )
    resources.discover_project_roots()
    return resources


def _ingest_context(
    config: Config,
    environ: Mapping[str, str],
    spool: Spool,
    roots: list[tuple[Source, Root]],
    terms: Terms,
    opening: Opening,
) -> IngestContext:
    directory, now_ms = state_dir(config), opening.clock.now_ms
    device = identify(directory)
    return IngestContext(
        spool=spool,
        roots=roots,
        machine_id=config.machine_id or device.machine_id,
        dormant=[*find_roots(config, environ, enabled=False), *find_side_roots(config, environ)],
        digest=Digest(device.seed),
        pins=Pins(os.path.join(directory, "pins")),
        budget=config.outbox.max_bytes,
        idle_after_ms=int(config.idle_after * 1000),
        now_ms=now_ms,
        masking=Masking(terms, os.path.join(directory, "rules")),
        endings=Endings(spool=spool),
        restored=RestoredSessions(directory),
        exclusion=Exclusion(config.exclude, environ.get("HOME") or os.path.expanduser("~")),
        oldest_ms=oldest_ms(spool, config.backfill, min(now_ms(), first_start_ms(directory))),
        settle_ms=opening.settle_ms,
        side_file_max_bytes=config.side_file_max_bytes,
        here_ms=here_ms(spool, installation(directory), now_ms()),
        records_only=frozenset(source.tool for source, _ in roots if not _keeps_transcripts(config, source.tool)),
    )


def _apply_policy(context: IngestContext) -> None:
    """Apply the configuration to the spool. Raises: SpoolDamaged; the spool is closed then, so it can be set aside."""
    with ExitStack() as undo:
        undo.callback(context.spool.close)
        changed = apply_policy_changes(context)
        undo.pop_all()
    if changed:
        log.info("ingest.renewed", segments=changed)


def terms_of(config: Config, environ: Mapping[str, str], device: Device) -> Terms:
    """Read the redaction config. The user's secrets and the endpoint's token are masked in the log too.

    Raises: ConfigError.
    """
    token = read_token(config, environ) if config.endpoint.url else None
    own = () if token is None else (token.reveal().encode(),)
    terms = read_terms(config, environ, bytes.fromhex(device.key), own)
    if terms.rules:
        # An invalid rule is reported now, not by the capture thread later.
        terms.complete(os.path.join(state_dir(config), "rules"))
    for secret in terms.policy.secrets:
        hide(os.fsdecode(secret))
    return terms


def _keeps_transcripts(config: Config, tool: str) -> bool:
    settings = config.sources.get(tool)
    return config.transcripts and (settings is None or settings.transcripts)


def _open_spool(directory: str, opening: Opening) -> Spool:
    rebuilt = None
    try:
        if opening.damaged is not None:
            raise opening.damaged
        spool = opening.open_spool(directory)
        with spool.reading():
            known = spool.catalog.count()
        if spool.meta(CLEAN) is None and known:
            damaged_spools.check(directory)  # it was not closed properly, so it may be damaged
    except SpoolDamaged as error:
        rebuilt = damaged_spools.set_aside(directory)
        log.error("spool.rebuilt", path=rebuilt, reason=str(error))
        for path in damaged_spools.drop_damaged(directory):
            log.warning("spool.removed", path=path)
        spool = opening.open_spool(directory)
    if rebuilt is not None:
        with spool.transaction():
            # Before anything is captured: the tools' files still have the sessions that the user erased.
            spool.forgotten.put_rows(damaged_spools.read_tombstones(rebuilt))
            spool.set_meta(REBUILT, str(opening.clock.now_ms()))
    spool.set_meta(CLEAN, None)
    return spool
