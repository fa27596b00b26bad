"""How many channels a server lets in on one connection."""

from __future__ import annotations

from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path

from restore_core.targets.kinds import make_target
from tests import servers
from tests.restore_core.targets.conftest import QUICK


def test_a_server_that_lets_in_one_channel_on_a_connection_serves_several_files_at_once(tmp_path: Path) -> None:
    """MaxSessions 1: the second channel cut the connection under the first, and a Delta could not be restored."""
    with servers.sshd(tmp_path, config=["MaxSessions 1"]) as served, ExitStack() as stack:
        (served.store / "f").mkdir()
        target = stack.enter_context(closing(make_target(served.spec, replace(QUICK, tries=1))))
        streams = []
        for name in "abc":
            (served.store / "f" / name).write_bytes(name.encode() * 100)
            source = stack.enter_context(target.open(f"f/{name}"))
            streams.append(stack.enter_context(closing(source.ranges(iter([(0, 50), (50, 50)])))))
        assert [bytes(next(stream)) for stream in streams] == [b"a" * 50, b"b" * 50, b"c" * 50]
        assert [bytes(next(stream)) for stream in streams] == [b"a" * 50, b"b" * 50, b"c" * 50]
