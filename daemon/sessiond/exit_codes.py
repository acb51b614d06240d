"""The exit codes of every command; docs/operations.md has the same table.

The codes from 64 on are those of sysexits.h; 128 + N follows the shell's convention for signal N.
"""

from __future__ import annotations

OK = 0
FAILED = 1
USAGE = 2
"""The command line is not valid, or a confirmation was needed and stdin is not a terminal."""
NOT_RUNNING = 3
DEGRADED = 4
"""`status`, `doctor`: a problem was found; `sync`: not everything is at the endpoint."""
UNAVAILABLE = 69
"""The endpoint can't be reached, or is not a sessiond endpoint."""
CRASHED = 70
SHORTAGE = 71
"""The system refuses a thread or memory."""
ALREADY_RUNNING = 75
REFUSED = 77
"""The endpoint does not accept the token."""
CONFIG = 78
"""The configuration is not valid, or a newer sessiond wrote the spool."""
SIGNALLED = 128
INTERRUPTED = 130
BROKEN_PIPE = 141
