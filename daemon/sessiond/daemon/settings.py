"""The settings in force: the configuration, the token, and what is paused."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping

import msgspec

from sessiond import logs, pause
from sessiond.clock import now_ms
from sessiond.config import Config, Loaded, SourceSettings, Token, check_trust, load, read_token, state_dir
from sessiond.daemon.outage import authorities
from sessiond.daemon.resources import terms_of
from sessiond.device import identify
from sessiond.errors import ConfigError
from sessiond.logs import log
from sessiond.pause import Paused
from sessiond.privacy import Masking, Terms, has_only_built_in_rules
from sessiond.redact import Policy
from sessiond.redact.masked_text import TextMask
from sessiond.sources import find_sources


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """The settings of one run of the daemon."""

    loaded: Loaded
    token: Token | None
    """The token of the configured endpoint. The built-in archive has its own."""
    paused: Paused
    terms: str
    """Version of the redaction rules: their files may change without a change of the configuration."""
    authorities: bytes = b""
    """Content of `endpoint.ca_file`, so that a renewed certificate authority is used without a restart."""

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
        """Return whether the threads have to restart for new settings. Log and limits never need that."""
        same = msgspec.structs.replace(fresh.config, log=self.config.log, backlog=self.config.backlog)
        return same != self.config or fresh._files() != self._files()

    def _files(self) -> tuple[Token | None, str, bytes]:
        """Return the settings that the threads read from files beside the configuration."""
        return self.token, self.terms, self.authorities


def resolve_settings(loaded: Loaded, environ: Mapping[str, str]) -> Settings:
    """Return the settings for a configuration. The caller holds the lock.

    Raises: ConfigError if the token, the redaction rules or the certificates can't be used.
    """
    check_trust(loaded.config)
    terms = terms_of(loaded.config, environ, identify(state_dir(loaded.config)))
    token = read_token(loaded.config, environ) if loaded.config.endpoint.url else None
    paused = pause.read(state_dir(loaded.config), now_ms())
    ca = authorities(loaded.config.endpoint.ca_file) if loaded.config.endpoint.ca_file else b""
    return Settings(loaded=loaded, token=token, paused=paused, terms=terms.version, authorities=ca)


def reload_settings(file: str | None, environ: Mapping[str, str], directory: str) -> Settings:
    """Reload all settings of a running daemon whose state is in `directory`. Raises: ConfigError."""
    loaded = load(file, environ, tools=[source.tool for source in find_sources()])
    if state_dir(loaded.config) != directory:
        raise ConfigError("can't change while the daemon runs", key="state_dir", hint="restart sessiond")
    return resolve_settings(loaded, environ)


def open_log(config: Config, environ: Mapping[str, str]) -> None:
    """Configure logging as the configuration says."""
    file = os.path.join(state_dir(config), "log", "sessiond.log") if config.log.file else None
    if file:
        os.makedirs(os.path.dirname(file), mode=0o700, exist_ok=True)
    _mask_log(config, environ)
    # Each value of an event is masked by now. The stream that masks what commands print would search all of it again.
    stream = None if sys.stderr.isatty() else getattr(sys.stderr, "unmasked", None)
    logs.configure(level=config.log.level, format=config.log.format, file=file, stream=stream, environ=environ)


def _mask_log(config: Config, environ: Mapping[str, str]) -> None:
    """Mask secrets in the log by the rules of the configuration, also if `redact` is "off": logs are shared."""
    cache_dir = os.path.join(state_dir(config), "rules")

    def load() -> Callable[[str], str]:
        masked = msgspec.structs.replace(config, redact="mask") if config.redact == "off" else config
        try:
            masking = Masking(terms_of(masked, environ, identify(state_dir(config))), cache_dir)
            masking.load()
        except ConfigError:  # reported where the configuration is loaded; the built-in rules apply all the same
            masking = Masking(Terms(policy=Policy()), cache_dir)
        return masking.mask_text

    logs.mask_with(TextMask(load, lambda: has_only_built_in_rules(config)))


def log_warnings(loaded: Loaded) -> None:
    """Log the warnings about a configuration."""
    for warning in loaded.warnings:
        log.warning("config.doubted", reason=warning)


def change_log(before: Config, after: Config, environ: Mapping[str, str]) -> None:
    """Apply a change of the log settings and of what is masked; a change of the level alone keeps the file open."""
    _mask_log(after, environ)
    if (before.log.format, before.log.file) == (after.log.format, after.log.file):
        logs.set_level(after.log.level)
    else:
        open_log(after, environ)
