"""Orders: what the user wants of the daemon now. The configuration, the token, and what is paused."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping

import msgspec

from sessiond import logs, pause
from sessiond.config import Config, Loaded, SourceSettings, Token, check_trust, load, read_token, state_dir
from sessiond.daemon.outage import authorities
from sessiond.daemon.resources import terms_of
from sessiond.device import identify
from sessiond.errors import ConfigError
from sessiond.logs import log
from sessiond.pause import Paused
from sessiond.sources import find_sources


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What holds between two edits."""

    loaded: Loaded
    token: Token | None
    """Of the configured endpoint; the built-in archive has its own."""
    paused: Paused
    terms: str
    """The version of what is masked: files of rules and secrets may change where the configuration does not."""
    authorities: bytes = b""
    """What `endpoint.ca_file` holds: a renewed certificate authority must not wait for a restart."""

    @property
    def config(self) -> Config:
        """The configuration without the sources that are paused."""
        config = self.loaded.config
        if not self.paused.sources:
            return config
        off = {
            tool: msgspec.structs.replace(config.sources.get(tool, SourceSettings()), enabled=False)
            for tool in self.paused.sources
        }
        return msgspec.structs.replace(config, sources={**config.sources, **off})

    def requires_restart(self, fresh: Settings) -> bool:
        """Tell whether the threads have to start anew for other orders; a log or a limit never needs it."""
        same = msgspec.structs.replace(fresh.config, log=self.config.log, backlog=self.config.backlog)
        return same != self.config or fresh._beside() != self._beside()

    def _beside(self) -> tuple[Token | None, str, bytes]:
        """Return what the threads work with that is read from other files than the configuration's."""
        return self.token, self.terms, self.authorities


def resolve_settings(loaded: Loaded, environ: Mapping[str, str]) -> Settings:
    """Complete a configuration to orders. The lock is held already.

    Raises: ConfigError for a token that can't be read, and for rules and certificates that can't be used.
    """
    check_trust(loaded.config)
    terms = terms_of(loaded.config, environ, identify(state_dir(loaded.config)))
    token = read_token(loaded.config, environ) if loaded.config.endpoint.url else None
    paused = pause.read(state_dir(loaded.config), time.time_ns() // 1_000_000)
    ca = authorities(loaded.config.endpoint.ca_file) if loaded.config.endpoint.ca_file else b""
    return Settings(loaded=loaded, token=token, paused=paused, terms=terms.version, authorities=ca)


def reload_settings(file: str | None, environ: Mapping[str, str], directory: str) -> Settings:
    """Read all of it anew for a daemon that runs with its state in `directory`. Raises: ConfigError."""
    loaded = load(file, environ, tools=[source.tool for source in find_sources()])
    if state_dir(loaded.config) != directory:
        raise ConfigError("can't change while the daemon runs", key="state_dir", hint="restart sessiond")
    return resolve_settings(loaded, environ)


def open_log(config: Config, environ: Mapping[str, str]) -> None:
    """Send events where the configuration says."""
    file = os.path.join(state_dir(config), "log", "sessiond.log") if config.log.file else None
    if file:
        os.makedirs(os.path.dirname(file), mode=0o700, exist_ok=True)
    logs.configure(level=config.log.level, format=config.log.format, file=file, environ=environ)


def log_warnings(loaded: Loaded) -> None:
    """Log what is odd about a configuration and yet no error."""
    for warning in loaded.warnings:
        log.warning("config.doubted", reason=warning)
