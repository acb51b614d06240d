"""What all tests stand on: a machine in UTC, as the samples' is, and Hypothesis without a clock.

Some tools write local times without a zone.
"""

import os
import time

from hypothesis import HealthCheck, settings

os.environ["TZ"] = "UTC"
time.tzset()
# How long an example takes, or to make one, is a matter of the machine and of who else uses it.
settings.register_profile("unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")
