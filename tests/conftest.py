"""What all tests share: how hypothesis searches, and a last word on what was skipped."""

from __future__ import annotations

import gc
import signal

import pytest
from hypothesis import HealthCheck, settings

# The same examples every time, so that a red run can be repeated; no deadline, since the machine is shared.
settings.register_profile("house", deadline=None, derandomize=True, max_examples=100, suppress_health_check=[HealthCheck.too_slow])
# New examples every time, and many: pytest --hypothesis-profile=wander
settings.register_profile("wander", deadline=None, max_examples=2000, print_blob=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("house")

# Begun by nohup or behind '&', a shell lets us ignore these, and so would everything we start: a test that sends one would wait
# for ever. Handlers of Python's are not inherited over exec.
for _number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, lambda *_: None)

# Nothing of what is collected is let go: to look through it again and again took a quarter of the time until the first test.
gc.disable()


def pytest_collection_finish() -> None:
    """From here on the garbage of tests is collected, and what they are made of is left alone."""
    gc.freeze()
    gc.enable()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    skipped = terminalreporter.stats.get("skipped", [])
    terminalreporter.write_line(f"{len(skipped)} skipped: what this machine could not prove stands above, with its reason.")
