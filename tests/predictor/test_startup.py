from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from aiservice_predictor.startup import _clean

SMAPS = """\
7f0000000000-7f0000001000 r--p 00000000 08:01 42   /lib/a.so
Anonymous:             0 kB
7f0000001000-7f0000005000 r-xp 00001000 08:01 42   /lib/a.so
Rss:                  16 kB
Anonymous:             0 kB
7f0000005000-7f0000006000 rw-p 00005000 08:01 42   /lib/a.so
Anonymous:             0 kB
7f0000010000-7f0000014000 r-xp 00001000 08:01 43   /lib/relocated.so
Anonymous:             4 kB
7f0000020000-7f0000024000 r-xp 00000000 00:00 0    [vdso]
Anonymous:             0 kB
7f0000030000-7f0000034000 r-xp 00000000 00:00 0
Anonymous:             0 kB
"""


def test_only_code_of_files_of_which_no_page_is_our_own_is_released() -> None:
    assert _clean(SMAPS) == [(0x7F0000001000, 0x7F0000005000)]


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="the kernel does not tell what is mapped")
def test_what_is_released_works_as_before_and_takes_less() -> None:
    program = """
import re, numpy, onnxruntime
from pathlib import Path
from aiservice_predictor.startup import release_code
def resident(): return int(re.search(r"RssFile:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
before = resident(); release_code(); after = resident()
assert numpy.linalg.solve(numpy.eye(9) * 2, numpy.ones(9)).tolist() == [0.5] * 9
assert "CPUExecutionProvider" in onnxruntime.get_available_providers()
print(before - after)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert int(done.stdout) > 4096, "KiB"
