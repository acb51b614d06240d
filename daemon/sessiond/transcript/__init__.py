"""Transcripts as items, for `show`, exports and search. Nothing here depends on a tool.

items.py          the items of a stream, each with the position of its record
spilled.py        keeps many items outside of memory
texts.py          keeps long texts outside of memory
conversation.py   the streams of a session as one conversation
labels.py         short labels of an item, for every rendering
text.py           a conversation for a terminal or a pipe
markdown.py       a conversation as Markdown
page.py           a conversation as one HTML file
atif.py           a session as a trajectory in ATIF, made of the parts in trajectory.py; steps.py keeps its steps
"""

from __future__ import annotations

from sessiond.transcript.conversation import Step, Thread, converse
from sessiond.transcript.items import Merger, Place, Placed, fields, merge, read_items
from sessiond.transcript.texts import Texts

__all__ = ["Merger", "Place", "Placed", "Step", "Texts", "Thread", "converse", "fields", "merge", "read_items"]
