"""Who waits for a server may be told to stop, and a server that does not answer is named in words."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Generator
from pathlib import Path

import pytest

from restore_core.errors import Stopped, TargetUnavailable
from restore_core.targets import TargetSet
from restore_core.targets.base import TargetSpec
from restore_core.targets.kinds import make_target
from restore_core.targets.remote.server import first_interruptibly, run_interruptibly
from tests.restore_core.targets.conftest import HASTY
from tests.servers import free_port
from tests.servers.line import line_to


class Told:
    """A `stop` that lets `after` questions pass."""

    def __init__(self, after: int = 1) -> None:
        self.left = after

    def __call__(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise Stopped("cancelled")


def test_what_is_attended_gives_its_result_or_its_error() -> None:
    assert run_interruptibly(lambda: 3, None) == 3
    assert run_interruptibly(lambda: 3, Told()) == 3
    with pytest.raises(TargetUnavailable):
        run_interruptibly(lambda: list(broken()), Told())


def broken() -> Generator[int]:
    yield 1
    raise TargetUnavailable("broke")


def test_one_that_waits_leaves_when_told() -> None:
    never = threading.Event()
    try:
        with pytest.raises(Stopped):
            run_interruptibly(lambda: never.wait(60), Told())
        assert not never.is_set()
    finally:
        never.set()


def test_only_the_first_item_is_waited_for_apart_and_all_are_closed() -> None:
    threads, closed = [], []

    def items() -> Generator[int]:
        try:
            for number in range(3):
                threads.append(threading.current_thread())
                yield number
        finally:
            closed.append(True)

    assert list(first_interruptibly(items(), Told())) == [0, 1, 2]
    assert threads[0] is not threading.current_thread()
    assert set(threads[1:]) == {threading.current_thread()}
    early = first_interruptibly(items(), Told())
    assert next(early) == 0
    early.close()
    assert closed == [True, True]


@pytest.mark.parametrize("scheme", ["sftp", "ftp"])
@pytest.mark.parametrize("what", ["stat", "listing"])
def test_a_silent_server_is_left_at_once(scheme: str, what: str) -> None:
    with line_to(0, "silent") as line:
        spec = TargetSpec(name="s1", url=f"{scheme}://u@127.0.0.1:{line.port}/")
        targets = TargetSet((spec,), stop=Told(after=3))
        with pytest.raises(Stopped):
            list(targets["s1"].listing()) if what == "listing" else targets["s1"].stat("a/b")
        assert line.connections <= 1
        targets.close()


@pytest.mark.parametrize(
    ("scheme", "fault", "text"),
    [
        ("sftp", "silent", "does not answer as an SSH server does within 2 s"),
        ("sftp", "refuse", "cannot be reached: Connection refused"),
        ("ftp", "refuse", "cannot be reached: Connection refused"),
    ],
)
def test_words_for_a_server_that_does_not_answer(scheme: str, fault: str, text: str) -> None:
    with line_to(free_port(), fault) as line:
        target = make_target(TargetSpec(name="s1", url=f"{scheme}://u@127.0.0.1:{line.port}/"), HASTY)
        with pytest.raises(TargetUnavailable) as caught:
            target.stat("a/b")
        target.close()
    assert text in caught.value.message
    assert "Errno" not in caught.value.message
    assert "phd targets" not in caught.value.remedy


def test_paramiko_prints_nothing(tmp_path: Path) -> None:
    script = tmp_path / "ask.py"
    with line_to(0, "silent") as line:
        script.write_text(
            "from restore_core.targets.kinds import make_target\n"
            "from restore_core.targets.base import TargetSpec\n"
            "from restore_core.targets.base import ServerLimits\n"
            f"spec = TargetSpec(name='s1', url='sftp://u@127.0.0.1:{line.port}/')\n"
            "target = make_target(spec, ServerLimits(tries=1, connect=1.0, login=1.0))\n"
            "try:\n    target.stat('a/b')\nexcept Exception as error:\n    print(type(error).__name__)\n"
        )
        ran = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=False, cwd=Path.cwd())
    assert (ran.stdout, ran.stderr) == ("TargetUnavailable\n", "")
