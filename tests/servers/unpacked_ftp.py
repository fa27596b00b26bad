"""proftpd and pure-ftpd, which conflict with vsftpd as packages: tests/machine/debian.sh unpacks them into .work/debian.

`extra` are lines of proftpd's configuration or arguments of pure-ftpd. Both serve `folder/store` to one user with a password.
"""

from __future__ import annotations

import contextlib
import grp
import os
import pwd
import subprocess
from collections.abc import Iterator
from pathlib import Path

from restore_core.targets.base import TargetSpec
from tests.servers import PASSWORD, ROOT, USER, Missing, Served, free_port, make_certificate, program, running, write_password

UNPACKED = ROOT / ".work" / "debian"
_NOBODY = 65534


def _program(name: str) -> str:
    for folder in ("usr/sbin", "usr/bin"):
        found = UNPACKED / folder / name
        if found.exists():
            return str(found)
    raise Missing(f"{name} is not unpacked: tests/machine/debian.sh test does so where it may")


def _environment() -> list[str]:
    libraries = ":".join(str(path) for path in (UNPACKED / "usr/lib").glob("*-linux-gnu*"))
    return ["env", f"LD_LIBRARY_PATH={libraries}"]


def _spec(folder: Path, port: int, path: str, certificate: Path | None, user: str = USER) -> TargetSpec:
    scheme = "ftps" if certificate else "ftp"
    return TargetSpec(
        name=scheme,
        url=f"{scheme}://{user}@127.0.0.1:{port}{path}",
        password_file=write_password(folder),
        ca_file=str(certificate) if certificate else None,
        staging_dir=str(folder),
    )


@contextlib.contextmanager
def proftpd(folder: Path, *extra: str, tls: bool = False) -> Iterator[Served]:
    """proftpd for the user who runs this; without root it knows real paths."""
    command, passwd, port, store = _program("proftpd"), _program("ftpasswd"), free_port(), folder / "store"
    store.mkdir()
    if "DefaultRoot ~" in extra and os.geteuid() != 0:
        raise Missing("proftpd makes a chroot only as root")
    users, me, group = folder / "users", pwd.getpwuid(os.geteuid()).pw_name, grp.getgrgid(os.getegid()).gr_name
    subprocess.run(
        [
            passwd, "--passwd", f"--file={users}", f"--name={USER}", f"--uid={os.geteuid()}",
            f"--gid={os.getegid()}", f"--home={store}",
            "--shell=/bin/sh", "--stdin",
        ],
        input=PASSWORD + "\n", text=True, check=True, capture_output=True,
    )  # fmt: skip
    users.chmod(0o600)
    certificate = make_certificate(folder) if tls else None
    if certificate is not None:
        certificate.chmod(0o600)
    lines = [
        f"ModulePath {UNPACKED}/usr/lib/proftpd",
        "ServerType standalone", "DefaultAddress 127.0.0.1", f"Port {port}", "UseIPv6 off",
        "DefaultServer on", f"User {me}", f"Group {group}", "AuthOrder mod_auth_file.c", f"AuthUserFile {users}",
        "RequireValidShell off", "RootLogin on", f"PidFile {folder}/pid", f"ScoreboardFile {folder}/score", "DelayEngine off",
        "TransferLog none", f"SystemLog {folder}/sys", "WtmpLog off", "AllowStoreRestart on", "AllowRetrieveRestart on",
    ]  # fmt: skip
    if certificate is not None:
        lines += ["LoadModule mod_tls.c", "TLSEngine on", "TLSRequired on", f"TLSLog {folder}/tls"]
        lines += [f"TLSRSACertificateFile {certificate}", f"TLSRSACertificateKeyFile {certificate}"]
        lines = [line.replace("RSACertificate", "ECCertificate") for line in lines]
    config = folder / "proftpd.conf"
    config.write_text("\n".join([*lines, *extra]) + "\n")
    chrooted = "DefaultRoot ~" in extra
    spec = _spec(folder, port, "/" if chrooted else str(store), certificate)
    with running([*_environment(), command, "-n", "-c", str(config)], port, folder / "proftpd.log") as process:
        yield Served(spec=spec, store=store, process=process)


@contextlib.contextmanager
def pure_ftpd(folder: Path, *extra: str, tls: bool = False) -> Iterator[Served]:
    """pure-ftpd, which only root can start; its user is nobody, in a chroot."""
    command, pure_pw, port, store = _program("pure-ftpd"), _program("pure-pw"), free_port(), folder / "store"
    if os.geteuid() != 0:
        raise Missing("pure-ftpd is only started by root")
    store.mkdir()
    os.chown(store, _NOBODY, _NOBODY)
    folder.chmod(0o755)
    database = folder / "users.pdb"
    user = f"{USER}{port}"  # all pure-ftpd of a machine count the connections of a user together
    # Not by pure-pw: its hash is made to take a second of each login.
    said = subprocess.run(
        [program("openssl"), "passwd", "-1", "-stdin"], input=PASSWORD, text=True, check=True, capture_output=True
    )
    (folder / "users").write_text(f"{user}:{said.stdout.strip()}:{_NOBODY}:{_NOBODY}::{store}/./{':' * 12}\n")
    subprocess.run([pure_pw, "mkdb", str(database), "-f", str(folder / "users")], check=True, capture_output=True)
    certificate = make_certificate(folder) if tls else None
    arguments = ["-S", f"127.0.0.1,{port}", "-l", f"puredb:{database}", "-A", "-E", "-H", "-u", "100", *extra]
    if certificate is not None:
        arguments += ["-Y", "2", "-2", str(certificate)]
    spec = _spec(folder, port, "/", certificate, user)
    with running([*_environment(), command, *arguments], port, folder / "pure.log", as_root=True) as process:
        yield Served(spec=spec, store=store, process=process)
