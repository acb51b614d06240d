"""What all tests stand on: some tools write local times without a zone, and the samples' machine lives in UTC."""

import os
import time

os.environ["TZ"] = "UTC"
time.tzset()
