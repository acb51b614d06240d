"""What is searched for instead of the expressions of the rules."""

from __future__ import annotations

import msgspec

from sessiond.redact.budget import GLANCE, HIT
from sessiond.redact.rules import Rule
from sessiond.redact.scanner import Trigger


def share_triggers(rules: tuple[Rule, ...]) -> list[tuple[Trigger, list[int]]]:
    """Return each trigger once, with the numbers of its rules. To scan for one takes longer than to try a rule."""
    shared: dict[tuple[str, str, int], tuple[Trigger, list[int]]] = {}
    for number, rule in enumerate(rules):
        trigger = _rule_trigger(rule)
        key = (trigger.expression, trigger.front, trigger.before if rule.shape.scanned else -1 - number)
        first, numbers = shared.get(key, (trigger, []))
        words = tuple(dict.fromkeys(first.words + trigger.words)) if first.words and trigger.words else ()
        cost = max(first.cost, trigger.cost)
        shared[key] = msgspec.structs.replace(first, words=words, cost=cost), [*numbers, number]
    return list(shared.values())


def _rule_trigger(rule: Rule) -> Trigger:
    """Return what is searched for instead of the expression of a rule."""
    shape = rule.shape
    if shape.scanned:
        cost = GLANCE if rule.inside else HIT
        return Trigger(shape.scanned, 0, shape.before, rule.keywords, before=shape.before, cost=cost)
    return Trigger(shape.trigger, shape.low, shape.high, rule.keywords, shape.front if rule.bounded else "")
