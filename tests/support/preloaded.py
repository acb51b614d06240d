"""What the fork server imports once for all programs that tests start: `support.program`."""

import gc
import importlib
import pkgutil
from contextlib import suppress

import sessiond

gc.disable()
for module in pkgutil.walk_packages(sessiond.__path__, "sessiond."):
    if module.name != "sessiond.__main__":  # each program runs it
        with suppress(ImportError):  # an extra that is not installed
            importlib.import_module(module.name)
gc.collect()
gc.freeze()
gc.enable()
