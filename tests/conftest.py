"""For every test: onnxruntime, where a test itself imports it, reports to nobody; hypothesis judges what is computed, never how long it took."""

import os

from hypothesis import HealthCheck, settings

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
settings.register_profile("project", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("project")
