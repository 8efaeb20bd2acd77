"""The model server: one process, one model bundle."""

import os

from aiservice import __version__ as VERSION

__all__ = ["VERSION"]

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # onnxruntime's wheels report to their maker; it reads this when it is imported
