"""The endpoint: the wire that both sides speak, the client that pushes, the reference server."""
