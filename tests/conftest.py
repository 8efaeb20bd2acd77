"""For every test: onnxruntime, where a test itself imports it, reports to nobody."""

import os

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
