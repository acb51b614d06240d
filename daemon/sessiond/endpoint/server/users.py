"""The users of an endpoint, to whom all data belongs."""

DEFAULT_USER = "default"
"""The user of tokens that were added without `--user`, and of all data in a store of version 1."""
