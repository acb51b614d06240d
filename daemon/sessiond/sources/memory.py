"""The memory of a source between two records of a stream."""

from __future__ import annotations

from typing import Any

Memory = dict[str, Any]
"""What a source remembers between two records of a stream: small, and JSON types only."""
