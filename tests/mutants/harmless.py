"""Drawn mutants that change nothing which anybody could notice, each with the reason.

A mutant is known by its key (see draw.py), so an entry outlives changes elsewhere in the file. When the code of a
key changes, its mutant is judged again: `make mutants` names the entries whose code is gone.
"""

HARMLESS: dict[str, str] = {}
