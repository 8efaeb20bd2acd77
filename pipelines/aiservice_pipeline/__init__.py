"""A trained model to a bundle."""

import os

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # onnxruntime's wheels report to their maker; it reads this when it is imported
