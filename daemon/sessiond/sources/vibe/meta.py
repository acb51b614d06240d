"""What Mistral Vibe writes of a session as a whole: the meta.json of 2.0 and later, in 1.x a part of the document."""

from __future__ import annotations

import msgspec

from sessiond.sources.base import Portrait


class _Environment(msgspec.Struct):
    working_directory: str | None = None


class _Config(msgspec.Struct):
    active_model: str | None = None
    model_name: str | None = None


class Meta(msgspec.Struct):
    """A description: beside this, user name, system prompt and the whole configuration (formats.md 1.8)."""

    session_id: str
    parent_session_id: str | None = None
    start_time: str | None = None
    end_time: str | None = None
    git_branch: str | None = None
    environment: _Environment | None = None
    config: _Config | None = None
    agent_config: _Config | None = None
    title: str | None = None


META = msgspec.json.Decoder(Meta)


def described(meta: Meta) -> Portrait:
    """Lay the description out as a stream of its own, for it is written at each save."""
    config = meta.config or meta.agent_config or _Config()
    known = {
        "cwd": meta.environment.working_directory if meta.environment else None,
        "branch": meta.git_branch,
        "model": config.model_name or config.active_model,
        "parent": meta.parent_session_id,
        "title": meta.title,
    }
    times = [time for time in (meta.start_time, meta.end_time) if time]
    records = [{"type": "meta", "time": time, **known} for time in times[:1]]
    records += [{"type": "meta", "time": time} for time in times[1:]]
    return Portrait(native_id=meta.session_id, stream="meta", records=map(msgspec.json.encode, records))
