"""The socket of a server: who may use it, and one server on it."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import pytest

from restore_core.errors import DestinationError, DestinationInUse, UsageError
from restore_core.serve.nbd.own_socket import own_socket


def test_only_its_owner_may_use_it_and_it_is_gone_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "new" / "s.sock"
    with own_socket(path):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert not path.exists()


def test_the_socket_of_a_dead_server_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "s.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
        dead.listen()
    with own_socket(path), socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))


def test_the_socket_of_a_server_that_lives_is_refused_and_stays(tmp_path: Path) -> None:
    path = tmp_path / "s.sock"
    with own_socket(path):
        with pytest.raises(DestinationInUse, match="another server"), own_socket(path):
            pass
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))


@pytest.mark.parametrize("kind", ["file", "folder", "link"])
def test_what_is_no_socket_stays(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "s.sock"
    if kind == "link":
        path.symlink_to(tmp_path / "nowhere")
    elif kind == "folder":
        path.mkdir()
    else:
        path.touch()
    with pytest.raises(DestinationError, match="no socket"), own_socket(path):
        pass
    assert path.is_symlink() or path.exists()


def test_a_folder_that_others_may_change_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "open"
    folder.mkdir()
    folder.chmod(0o777)
    with pytest.raises(DestinationError, match="others may change"), own_socket(folder / "s.sock"):
        pass
    folder.chmod(0o1777)
    with own_socket(folder / "s.sock"):
        pass


def test_a_path_no_socket_can_have_is_refused_by_its_length(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="107"), own_socket(tmp_path / ("x" * 110)):
        pass


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DestinationError), own_socket(tmp_path / "file" / "s.sock"):
        pass


def test_what_another_server_put_in_its_place_is_left(tmp_path: Path) -> None:
    path = tmp_path / "s.sock"
    with own_socket(path):
        os.unlink(path)
        path.touch()
    assert path.exists()
