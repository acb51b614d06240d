"""The endpoint: the sync protocol, the client, and the reference server."""
