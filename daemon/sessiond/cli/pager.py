"""Shows long output page by page on a terminal."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping

from sessiond.cli.output import mask_text


def page(lines: Iterable[str], environ: Mapping[str, str]) -> None:
    """Print lines; on a terminal through $PAGER, or `less` if there is none. An empty PAGER prints them directly."""
    command = environ.get("PAGER", "less -FRX" if shutil.which("less") else "")
    if not sys.stdout.isatty() or not command.strip():
        for line in lines:
            print(line)
        return
    # The user's own command, as every program that has a pager runs it.
    process = subprocess.Popen(command, shell=True, stdin=subprocess.PIPE, env=dict(environ))  # noqa: S602
    assert process.stdin is not None
    try:
        for line in lines:
            process.stdin.write(f"{mask_text(line)}\n".encode("utf-8", "replace"))
        process.stdin.close()
    except BrokenPipeError:
        pass  # the user left the pager
    except KeyboardInterrupt:
        process.terminate()
    process.wait()
