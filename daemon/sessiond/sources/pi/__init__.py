"""Pi, and what is built on it."""

from __future__ import annotations

from sessiond.sources.pi.oh_my_pi import OhMyPi
from sessiond.sources.pi.openclaw import OpenClaw
from sessiond.sources.pi.tool import Pi

SOURCES = (Pi(), OpenClaw(), OhMyPi())
__all__ = ["SOURCES", "OhMyPi", "OpenClaw", "Pi"]
