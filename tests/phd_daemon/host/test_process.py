"""What a restoring process asks for itself; each in a child, since there is no way back."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest


def child(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def test_no_core_file_and_no_debugger() -> None:
    code = (
        "from phd_daemon.host.process import forbid_core_dumps; import ctypes, resource; forbid_core_dumps();"
        "print(resource.getrlimit(resource.RLIMIT_CORE), ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))"
    )
    assert child(code) == "(0, 0) 0"


def test_a_worker_is_killed_before_the_daemon_when_memory_runs_out() -> None:
    code = "from phd_daemon.host.process import be_killed_first; be_killed_first(); print(open('/proc/self/oom_score_adj').read())"
    assert int(child(code)) == 500


def test_buffers_are_not_given_back_and_fetched_again_for_every_frame() -> None:
    if platform.libc_ver()[0] != "glibc":
        pytest.skip("not glibc: there is nothing to tune")
    code = """
import resource, sys
from phd_daemon.host.process import tune_malloc
if sys.argv[1] == "tuned":
    tune_malloc()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(100):
    held = [bytearray(b"x") * (1 << 20) for _ in range(4)]
    del held
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
    tuned, untuned = (
        int(subprocess.run([sys.executable, "-c", code, how], capture_output=True, text=True, check=True).stdout)
        for how in ("tuned", "untuned")
    )
    assert tuned * 10 < untuned
