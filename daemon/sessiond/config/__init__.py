"""The configuration: its types, loading and validation."""

from __future__ import annotations

from sessiond.config.load import Loaded, load, load_valid, state_dir
from sessiond.config.model import Backlog, Config, Endpoint, Log, Outbox, Redaction, SourceSettings
from sessiond.config.token import Token, read_token, token_origin
from sessiond.config.trust import check_trust, make_ssl_context

__all__ = [
    "Backlog",
    "Config",
    "Endpoint",
    "Loaded",
    "Log",
    "Outbox",
    "Redaction",
    "SourceSettings",
    "Token",
    "check_trust",
    "load",
    "load_valid",
    "make_ssl_context",
    "read_token",
    "state_dir",
    "token_origin",
]
