"""What a file of known hosts says, as OpenSSH reads it; and what becomes of it when a server is trusted."""

from __future__ import annotations

import base64
import dataclasses
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from restore_core.errors import TargetNotTrusted
from restore_core.targets.base import TargetSpec
from restore_core.targets.kinds import make_target, server_identity
from restore_core.targets.remote.trust import record
from restore_core.targets.sftp.known_hosts import KeyStatus, known_host, name_of, without_keys
from tests import servers
from tests.restore_core.targets.conftest import QUICK
from tests.servers import Served

ED = "ssh-ed25519"
A, B = ("AAAAC3NzaC1lZDI1NTE5AAAAI" + letter * 43 for letter in "AB")
OTHER = "AAAAC3NzaC1lZDI1NTE5AAAAIIRjOBFbMCfsUoq7o7AoKGoQx1aUAVHvZDNAvaoAV0UD"
Edit = Callable[[str, str], str]


def blob(text: str) -> bytes:
    return base64.b64decode(text)


@pytest.mark.parametrize(
    ("line", "host", "port", "found"),
    [
        (f"nas {ED} {A}", "nas", 22, True),
        (f"nas {ED} {A}", "NAS", 22, True),
        (f"NAS {ED} {A} root@nas", "nas", 22, True),
        (f"nas {ED} {A}", "nas2", 22, False),
        (f"nas,10.0.0.1 {ED} {A}", "10.0.0.1", 22, True),
        (f"[nas]:2222 {ED} {A}", "nas", 2222, True),
        (f"[nas]:2222 {ED} {A}", "nas", 22, False),
        (f"[nas]:22 {ED} {A}", "nas", 22, True),
        (f"nas {ED} {A}", "nas", 2222, True),
        (f"*.example {ED} {A}", "nas.example", 22, True),
        (f"nas? {ED} {A}", "nas1", 22, True),
        (f"*.example,!nas.example {ED} {A}", "nas.example", 22, False),
        (f"[*.example]:2222 {ED} {A}", "nas.example", 2222, True),
        (f"# nas {ED} {A}", "nas", 22, False),
        (f"   nas   {ED}   {A}   ", "nas", 22, True),
        (f"fe80::1 {ED} {A}", "fe80::1", 22, True),
        ("nas 1024 35 14234", "nas", 22, False),
        (f"nas {ED} no-base64", "nas", 22, False),
        (f"|1|AAAA|AAAA {ED} {A}", "nas", 22, False),
        (f"|1|nonsense {ED} {A}", "nas", 22, False),
        (f"\udcff\udcfe {ED} {A}", "nas", 22, False),
    ],
)
def test_a_line_names_a_server_as_openssh_says(line: str, host: str, port: int, found: bool) -> None:
    known = known_host(line.encode("utf-8", "surrogateescape"), host, port)
    assert (known.status_of(ED, blob(A)) is KeyStatus.KNOWN) is found


@pytest.mark.parametrize(("host", "port"), [("nas.example", 22), ("nas.example", 2222)])
def test_a_name_that_ssh_keygen_has_hashed_is_found(tmp_path: Path, host: str, port: int) -> None:
    file = tmp_path / "known"
    file.write_text(f"{name_of(host, port)} {ED} {A}\nother {ED} {B}\n")
    subprocess.run([servers.program("ssh-keygen"), "-q", "-H", "-f", str(file)], check=True, capture_output=True)
    content = file.read_bytes()
    assert content.count(b"|1|") == 2
    assert known_host(content, host, port).status_of(ED, blob(A)) is KeyStatus.KNOWN
    assert without_keys(content, host, port) == content.splitlines(keepends=True)[1]


def test_each_thing_that_a_file_can_say_of_a_key() -> None:
    def status_of(content: str, key: str = A, type_: str = ED) -> KeyStatus:
        return known_host(content.encode(), "nas", 22).status_of(type_, blob(key))

    assert status_of("") is KeyStatus.UNKNOWN
    assert status_of(f"nas {ED} {B}\nnas {ED} {A}\n") is KeyStatus.KNOWN
    assert status_of(f"nas {ED} {B}\n") is KeyStatus.CHANGED
    assert status_of(f"nas ssh-rsa {B}\n") is KeyStatus.OTHER_TYPE
    assert status_of(f"nas {ED} {A}\n@revoked * {ED} {A}\n") is KeyStatus.REVOKED
    assert status_of(f"nas {ED} {A}\n@revoked * {ED} {B}\n") is KeyStatus.KNOWN
    assert status_of(f"nas {ED} {A}\n@revoked other {ED} {A}\n") is KeyStatus.KNOWN
    assert status_of(f"@cert-authority * {ED} {A}\n") is KeyStatus.UNKNOWN
    assert status_of(f"@unheard-of nas {ED} {A}\n") is not KeyStatus.KNOWN
    # A key of the host without its port may be that of another server of the same machine: it proves, and does not disprove.
    assert known_host(f"nas {ED} {B}".encode(), "nas", 2222).status_of(ED, blob(A)) is KeyStatus.UNKNOWN


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (f"nas {ED} {A}\n", ""),
        (f"nas,10.0.0.1,other {ED} {A} note\n", f"10.0.0.1,other {ED} {A} note\n"),
        (f"other,nas {ED} {A}\n", f"other {ED} {A}\n"),
        (f"*.lan,nas {ED} {A}\n", f"*.lan {ED} {A}\n"),
        (f"n* {ED} {A}\n", f"!nas,n* {ED} {A}\n"),
        (f"!n2,nas {ED} {A}\n", ""),
        (f"[nas]:2222 {ED} {A}\n", f"[nas]:2222 {ED} {A}\n"),
        (f"@revoked nas {ED} {A}\n@cert-authority n* {ED} {B}\n", f"@revoked nas {ED} {A}\n@cert-authority n* {ED} {B}\n"),
        (f"# nas\n\nother {ED} {A}\n", f"# nas\n\nother {ED} {A}\n"),
        (f"nas ssh-rsa {B}\nnas {ED} {A}\nother {ED} {A}", f"other {ED} {A}"),
    ],
)
def test_only_the_server_that_is_trusted_anew_loses_its_keys(before: str, after: str) -> None:
    """Lines that other names share were deleted with it."""
    assert without_keys(before.encode(), "NAS", 22).decode() == after
    assert not known_host(after.encode(), "nas", 22).keys


def listed(spec: TargetSpec) -> None:
    target = make_target(spec, QUICK)
    try:
        list(target.listing())
    finally:
        target.close()


def known_as(served: Served, file: Path, text: str) -> TargetSpec:
    """The target of a server, with a known_hosts. In `text`, HOST is its name there and KEY its key."""
    (name, _, key) = Path(str(served.spec.known_hosts)).read_text().split()
    file.write_text(text.replace("HOST", name).replace("KEY", f"{ED} {key}"))
    return dataclasses.replace(served.spec, known_hosts=str(file))


@pytest.mark.parametrize(
    "text",
    [
        "@cert-authority *.example ssh-ed25519 " + OTHER + "\nHOST KEY\n",
        "@revoked * ssh-ed25519 " + OTHER + "\nHOST KEY\n",
        "HOST ssh-ed25519 " + OTHER + "\nHOST KEY\n",
        "HOST 1024 35 9999\nnas.example,HOST,10.0.0.1 KEY root@nas\n",
        "127.0.0.1 KEY\n",
        "[127.0.0.*]:* KEY\n",
    ],
)
def test_lines_of_every_kind_let_us_log_in(sftp: Served, tmp_path: Path, text: str) -> None:
    """A marker was a crash, and of several keys of one type only one counted."""
    listed(known_as(sftp, tmp_path / "known", text))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("HOST KEY\n@revoked * KEY\n", "ITS HOST KEY IS REVOKED.*line 2"),
        ("@cert-authority * KEY\n", "is not known.*@cert-authority"),
        ("HOST ssh-ed25519 " + OTHER + "\n", "THE HOST KEY HAS CHANGED"),
        ("HOST ssh-rsa " + OTHER + "\n", "of a type that is not recorded.*ssh-rsa SHA256"),
        ("", "is not known"),
    ],
)
def test_what_is_wrong_with_a_host_key_is_said(sftp: Served, tmp_path: Path, text: str, said: str) -> None:
    spec = known_as(sftp, tmp_path / "known", text)
    with pytest.raises(TargetNotTrusted, match=said) as caught:
        listed(spec)
    if "REVOKED" in said:
        assert "targets trust" not in caught.value.remedy
        with pytest.raises(TargetNotTrusted, match=said):
            server_identity(spec, QUICK)
        return
    assert "phd targets trust sftp" in caught.value.remedy
    shown = server_identity(spec, QUICK)
    assert not shown.trusted
    record(shown)
    listed(spec)
    assert Path(str(spec.known_hosts)).read_text().count("@cert-authority") == text.count("@cert-authority")


def test_the_types_that_are_recorded_are_asked_for_first(tmp_path: Path) -> None:
    """A server with several keys showed one that was not recorded, which was called a change."""
    for type_ in ("rsa", "ecdsa"):
        key = str(tmp_path / f"key_{type_}")
        subprocess.run([servers.program("ssh-keygen"), "-q", "-t", type_, "-N", "", "-f", key], check=True)
    lines = [f"HostKey {tmp_path}/key_{type_}" for type_ in ("rsa", "ecdsa")]
    with servers.sshd(tmp_path, config=lines) as served:
        name = Path(str(served.spec.known_hosts)).read_text().split()[0]
        file = tmp_path / "known"
        spec = dataclasses.replace(served.spec, known_hosts=str(file))
        shown = []
        for type_ in ("rsa", "ecdsa"):
            file.write_text(f"{name} {(tmp_path / f'key_{type_}.pub').read_text()}")
            listed(spec)
            found = server_identity(spec, QUICK)
            assert found.trusted
            shown.append(re.sub(r"type +", "", found.about[0]))
        assert shown == ["ssh-rsa", "ecdsa-sha2-nistp256"]
