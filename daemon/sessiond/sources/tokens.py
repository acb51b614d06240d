"""Reads the tokens of a model call, under the names that the tools and the model APIs give them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from msgspec.structs import replace

from sessiond.session import Item, ItemKind, Speaker, Usage
from sessiond.sources.content import find

INPUT = ("input_tokens", "inputTokens", "prompt_tokens", "promptTokenCount", "inputOther", "input_other", "input")
OUTPUT = ("output_tokens", "outputTokens", "completion_tokens", "candidatesTokenCount", "output")
CACHE_READ = (
    "cache_read_input_tokens",
    "cacheReadTokens",
    "cached_input_tokens",
    "cachedContentTokenCount",
    "input_tokens_details.cached_tokens",
    "prompt_tokens_details.cached_tokens",
    "inputCacheRead",
    "input_cache_read",
    "cacheRead",
    "cache.read",
    "cached",
)
CACHE_WRITE = (
    "cache_creation_input_tokens",
    "cacheWriteTokens",
    "inputCacheCreation",
    "input_cache_creation",
    "cacheWrite",
    "cache.write",
)
REASONING = (
    "reasoning_output_tokens",
    "output_tokens_details.reasoning_tokens",
    "completion_tokens_details.reasoning_tokens",
    "thoughtsTokenCount",
    "reasoningTokens",
    "reasoning",
    "thoughts",
)


def usage(
    block: Any, message: Item, *, cost: Any = None, cached_in_input: bool = False, total: bool = False
) -> Iterator[Item]:
    """Iterate the usage in an object of tokens: one item, or none if it has none above zero.

    `cached_in_input`: the tool counts tokens from the cache as input too, as OpenAI's and Gemini's APIs do.
    """
    read, written = _number(block, CACHE_READ), _number(block, CACHE_WRITE)
    given = _number(block, INPUT)
    if cached_in_input:
        given = max(given - read - written, 0)
    dollars = float(cost) if isinstance(cost, int | float) and not isinstance(cost, bool) else None
    found = Usage(
        input=given,
        output=_number(block, OUTPUT),
        cache_read=read,
        cache_write=written,
        reasoning=_number(block, REASONING),
        cost=dollars,
        total=total,
    )
    if found != Usage(cost=found.cost, total=total) or dollars:
        yield replace(
            message, kind=ItemKind.USAGE, speaker=Speaker.SYSTEM, text="", usage=found, counts=False, injected=False
        )


def _number(block: Any, paths: tuple[str, ...]) -> int:
    found = find(block, *paths)
    return int(found) if isinstance(found, int | float) and not isinstance(found, bool) and found > 0 else 0
