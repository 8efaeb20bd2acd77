"""For every test: onnxruntime, where a test itself imports it, reports to nobody; hypothesis judges what is computed, never how long it took;
numerical libraries use one thread, since others run beside us.

Signals that whoever runs us ignores (nohup, a background job) are heard by what tests start: an ignored signal would be inherited.
"""

import os
import signal

from hypothesis import HealthCheck, settings

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")
settings.register_profile("project", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("project")

for number in (signal.SIGHUP, signal.SIGINT):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, lambda *_: None)
