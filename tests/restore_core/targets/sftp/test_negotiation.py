"""SSH servers as they are set up out there: what each is to us, by the lines of its sshd_config."""

from __future__ import annotations

import dataclasses
import subprocess
import types
from pathlib import Path

import pytest

from restore_core.errors import ExitCode, TargetRefused
from restore_core.targets.kinds import make_target, server_identity
from restore_core.targets.sftp.negotiation import MethodKind, not_accepted, why_not
from tests import servers
from tests.restore_core.targets.conftest import QUICK
from tests.servers import Served

SERVED = {
    "new names only": ("KexAlgorithms curve25519-sha256",),
    "hardened": ("KexAlgorithms curve25519-sha256", "Ciphers aes256-gcm@openssh.com", "MACs umac-128-etm@openssh.com"),
    "nist": ("KexAlgorithms ecdh-sha2-nistp384", "Ciphers aes256-ctr", "MACs hmac-sha2-512-etm@openssh.com"),
    "groups": ("KexAlgorithms diffie-hellman-group16-sha512", "Ciphers aes128-ctr", "MACs hmac-sha1"),
    "group exchange": ("KexAlgorithms diffie-hellman-group-exchange-sha256",),
    "compression, rekeying": ("Compression yes", "RekeyLimit 1M"),
    "one session": ("MaxSessions 1", "MaxStartups 1", "MaxAuthTries 1"),
    "SFTP alone": ("ForceCommand internal-sftp", "ChrootDirectory /", "DisableForwarding yes", "Banner /etc/hostname"),
    "without extensions": ("Subsystem sftp internal-sftp -P fsync,limits,statvfs,remove",),
}
"""Lines of sshd_config with which we can work."""

REFUSED = {
    "chacha20": (("Ciphers chacha20-poly1305@openssh.com",), "Ciphers are chacha20-poly1305@openssh.com, phd", "aes256-gcm"),
    "sntrup761": (("KexAlgorithms sntrup761x25519-sha512@openssh.com",), "are sntrup", "add curve25519-sha256 to"),
    "umac": (("Ciphers aes256-ctr", "MACs umac-128-etm@openssh.com"), "MACs are umac-128", "add hmac-sha2-256 to its line MACs"),
    "old ciphers": (("Ciphers aes128-cbc,3des-cbc",), "Ciphers are aes128-cbc, 3des-cbc", "is broken"),
    "old exchange": (("KexAlgorithms diffie-hellman-group14-sha1",), "KexAlgorithms are diffie-hellman-group14-sha1", "is broken"),
    "two at once": (
        ("KexAlgorithms diffie-hellman-group1-sha1", "Ciphers chacha20-poly1305@openssh.com"),
        "KexAlgorithms are .*; its Ciphers are chacha20",
        "add curve25519-sha256 to its line KexAlgorithms and aes256-gcm@openssh.com to its line Ciphers",
    ),
}  # fmt: skip
"""Lines of sshd_config with which we cannot, what is said of them, and what would help."""


NO_SFTP = {
    "a shell that talks": (("ForceCommand echo hello; exec /bin/cat",), "not an SFTP server: it says hello", ".bashrc"),
    "a shell that ends": (("ForceCommand echo This account is no login",), "it says This account is no login", "ForceCommand"),
    "no subsystem": (("Subsystem other /bin/true",), "lets this user in, and begins no SFTP", "Subsystem sftp"),
    "no program": (("Subsystem sftp /nonexistent",), "lets this user in, and begins no SFTP", "is its program there"),
    "password": (
        ("AuthenticationMethods password", "PasswordAuthentication yes"),
        "it takes password, and phd offers a key",
        "key_file",
    ),
    "both": (
        ("AuthenticationMethods publickey,password", "PasswordAuthentication yes"),
        "it takes password, and phd offers a key",
        "AuthenticationMethods",
    ),
}
"""Lines with which this user gets no SFTP, what is said of it, and what would help."""


def put_and_get(served: Served) -> bytes:
    target = make_target(served.spec, QUICK)
    try:
        new = target.create("2026.03.01-A.x/00-C.vmdk.gz-260301-0300.phd")
        new.write(b"x" * 3_000_000)
        new.publish()
        ((path,),) = ([each.path for each in target.listing()],)
        with target.open(path) as source:
            return b"".join(source.stream())
    finally:
        target.close()


@pytest.mark.parametrize("lines", SERVED.values(), ids=SERVED)
def test_a_server_with_these_lines_is_served(tmp_path: Path, lines: tuple[str, ...]) -> None:
    with servers.sshd(tmp_path, config=lines) as served:
        assert server_identity(served.spec, QUICK).trusted
        assert put_and_get(served) == b"x" * 3_000_000


@pytest.mark.parametrize(("lines", "said", "helps"), REFUSED.values(), ids=REFUSED)
def test_a_server_with_these_lines_is_told_where_the_two_would_meet(
    tmp_path: Path, lines: tuple[str, ...], said: str, helps: str
) -> None:
    """Each was "only methods that are broken", and `targets trust` printed a traceback."""
    with servers.sshd(tmp_path, config=lines) as served:
        for ask in (lambda: put_and_get(served), lambda: server_identity(served.spec, QUICK)):
            with pytest.raises(TargetRefused, match=said) as caught:
                ask()
            assert helps in caught.value.remedy
            assert not caught.value.try_again
            assert caught.value.exit_code is ExitCode.UNAVAILABLE


@pytest.mark.parametrize(("lines", "said", "helps"), NO_SFTP.values(), ids=NO_SFTP)
def test_a_server_that_gives_this_user_no_sftp_says_why(tmp_path: Path, lines: tuple[str, ...], said: str, helps: str) -> None:
    """It was "a packet of 1751477351 bytes", "Channel closed", and tried again and again."""
    with servers.sshd(tmp_path, config=lines) as served:
        with pytest.raises(TargetRefused, match=said) as caught:
            put_and_get(served)
        assert helps in caught.value.remedy
        assert not caught.value.try_again


def test_one_session_is_enough_for_two_archives_at_a_time(tmp_path: Path) -> None:
    with servers.sshd(tmp_path, config=["MaxSessions 1"]) as served:
        for name in "ab":
            (served.store / name).write_bytes(name.encode() * 900_000)
        target = make_target(served.spec, QUICK)
        with target.open("a") as one, target.open("b") as other:
            pieces = list(zip(one.stream(chunk=100_000), other.stream(chunk=100_000), strict=True))
        target.close()
        assert b"".join(piece for piece, _ in pieces) == b"a" * 900_000
        assert b"".join(piece for _, piece in pieces) == b"b" * 900_000


@pytest.mark.parametrize(
    ("algorithms", "key_type", "said", "helps"),
    [
        ("ssh-rsa", "rsa", "HostKeyAlgorithms are ssh-rsa", "rsa-sha2-512"),
        ("ssh-ed25519-cert-v01@openssh.com,ssh-dss", "ed25519", "HostKeyAlgorithms are (none|ssh-)", "ssh-ed25519"),
        ("rsa-sha2-256", "rsa", "", ""),
        ("ecdsa-sha2-nistp521", "ecdsa-521", "", ""),
    ],
)
def test_host_keys_of_each_type(tmp_path: Path, algorithms: str, key_type: str, said: str, helps: str) -> None:
    kind, _, bits = key_type.partition("-")
    extra = tmp_path / "extra"
    subprocess.run(
        [servers.program("ssh-keygen"), "-q", "-t", kind, *(["-b", bits] if bits else []), "-N", "", "-f", str(extra)], check=True
    )
    found = [MethodKind(key="HostKeyAlgorithms", theirs=tuple(algorithms.split(",")), ours=("ssh-ed25519", "rsa-sha2-512"))]
    if "cert" in algorithms:  # sshd does not start with it: only the sentence is looked at
        assert helps in (why_not(found) or ("", ""))[1]
        return
    with servers.sshd(tmp_path, config=[f"HostKey {extra}", f"HostKeyAlgorithms {algorithms}"]) as served:
        if said:
            with pytest.raises(TargetRefused, match=said) as caught:
                server_identity(served.spec, QUICK)
            assert helps in caught.value.remedy
            return
        name = Path(str(served.spec.known_hosts)).read_text().split()[0]
        Path(str(served.spec.known_hosts)).write_text(f"{name} {Path(f'{extra}.pub').read_text()}")
        assert put_and_get(served) == b"x" * 3_000_000


@pytest.mark.parametrize("ours", ["ed25519", "rsa"])
def test_a_key_of_ours_that_the_server_does_not_take_is_said(tmp_path: Path, ours: str) -> None:
    key = tmp_path / "mine"
    subprocess.run([servers.program("ssh-keygen"), "-q", "-t", ours, "-N", "", "-f", str(key)], check=True)
    accepted = "ecdsa-sha2-nistp256" if ours == "rsa" else "rsa-sha2-512"
    with servers.sshd(tmp_path, config=[f"PubkeyAcceptedAlgorithms {accepted}"]) as served:
        (tmp_path / "authorized_keys").write_text((tmp_path / "mine.pub").read_text())
        spec = dataclasses.replace(served.spec, key_file=str(key))
        with pytest.raises(TargetRefused, match="refuses the login") as caught:
            put_and_get(dataclasses.replace(served, spec=spec))
        # OpenSSH before 9.6 names all that it knows, whatever it accepts.
        assert f"ssh-{ours}" in str(caught.value)
        assert "PubkeyAcceptedAlgorithms" in str(caught.value)


@pytest.mark.parametrize(
    ("said", "key_type", "found"),
    [
        (b"ssh-ed25519,rsa-sha2-512", "ssh-rsa", None),
        (b"ssh-ed25519,ssh-rsa", "ssh-rsa", "ssh-ed25519, ssh-rsa"),
        (b"rsa-sha2-256", "ssh-ed25519", "rsa-sha2-256"),
        (b"", "ssh-ed25519", None),
    ],
)
def test_a_server_that_names_the_keys_it_takes(said: bytes, key_type: str, found: str | None) -> None:
    transport = types.SimpleNamespace(server_extensions={"server-sig-algs": said})
    assert not_accepted(transport, key_type) == found


def test_what_both_have_is_no_reason() -> None:
    assert why_not([MethodKind(key="Ciphers", theirs=("a", "b"), ours=("b",))]) is None
    gcm = MethodKind(key="Ciphers", theirs=("aes256-gcm@openssh.com",), ours=("aes256-gcm@openssh.com",))
    assert why_not([gcm, MethodKind(key="MACs", theirs=("umac",), ours=("hmac",))]) is None
