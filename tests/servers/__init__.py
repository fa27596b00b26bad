"""Real servers on loopback, each its own process on a free port, started by whoever runs the tests, stopped with them.

    sshd          OpenSSH's, with a key of its own
    ssh_password  paramiko's own, with a password
    vsftpd        no MLSD; plain or inside TLS, where it demands that sessions are reused
    pyftpd        pyftpdlib: MLSD; plain or inside TLS; all the lies of pyftpd.py, and the imitations of imitations.py

Nothing here needs root, and nothing is left running.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from restore_core.targets.base import TargetSpec

USER, PASSWORD = "phd", "canary-5ecret%100"
PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
ROOT = Path(__file__).resolve().parents[2]


def _without_rights_of_root() -> list[str]:
    """A command before a command: root's right to read everything is taken away, so that a folder may be closed to a server."""
    setpriv = shutil.which("setpriv", path=PATH) if os.geteuid() == 0 else None
    return [setpriv, "--bounding-set=-dac_override,-dac_read_search"] if setpriv else []


_WITHOUT_RIGHTS_OF_ROOT = _without_rights_of_root()


class Missing(Exception):
    """The server's program is not installed here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """A running server. `store` is the folder it serves, here on this machine."""

    spec: TargetSpec
    store: Path
    process: subprocess.Popen[bytes]

    def pause(self) -> None:
        """Stop it and all of its children, as a machine that hangs."""
        _signal_all(self.process.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        """Wake it."""
        _signal_all(self.process.pid, signal.SIGCONT)


def free_port() -> int:
    """A port of loopback that nobody listens on."""
    with socket.socket() as line:
        line.bind(("127.0.0.1", 0))
        port: int = line.getsockname()[1]
        return port


def program(name: str) -> str:
    """The path of a server's program; `Missing` says which package has it."""
    found = shutil.which(name, path=PATH)
    if found is None:
        raise Missing(f"{name} is not installed: tests/machine/debian.sh test installs it where it may")
    return found


@contextlib.contextmanager
def running(command: Sequence[str], port: int, log: Path, *, as_root: bool = False) -> Iterator[subprocess.Popen[bytes]]:
    """The server's process, in a group of its own, once it listens. `as_root` if it gives up the rights of root by itself."""
    with log.open("w+b") as output:
        # vsftpd writes its complaints to descriptor 0.
        process = subprocess.Popen(
            [*([] if as_root else _WITHOUT_RIGHTS_OF_ROOT), *command],
            stdin=output,
            stdout=output,
            stderr=output,
            start_new_session=True,
            cwd=ROOT,
        )
        try:
            _wait_for(port, process, log)
            yield process
        finally:
            for number in (signal.SIGCONT, signal.SIGTERM, signal.SIGKILL):
                _signal_all(process.pid, number)
                if number == signal.SIGTERM:
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        process.wait(1)
            process.wait()


def _signal_all(pid: int, number: signal.Signals) -> None:
    """A server and those it forked, whatever session they have made their own."""
    parents: dict[int, int] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = stat.read_text().rpartition(")")[2].split()
            parents[int(stat.parent.name)] = int(fields[1])
    family = {pid}
    while more := {child for child, parent in parents.items() if parent in family} - family:
        family |= more
    for member in family:
        with contextlib.suppress(ProcessLookupError):
            os.kill(member, number)


def _wait_for(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + 20
    while time.monotonic() < until:
        if process.poll() is not None:
            break
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.02)
    raise RuntimeError(f"{process.args!r} does not listen: {log.read_text(errors='replace')[-600:]}")


def write_password(folder: Path, text: str = PASSWORD) -> str:
    """A password file as it should be."""
    path = folder / "password"
    path.write_text(text + "\n")
    path.chmod(0o600)
    return str(path)


@contextlib.contextmanager
def sshd(
    folder: Path, store: Path | None = None, *, config: Sequence[str] = (), sftp_options: str = "", key_type: str = "ed25519"
) -> Iterator[Served]:
    """OpenSSH, for the user who runs this, by a key made here. `config` are lines of sshd_config that come first, and so count.

    `sftp_options` are those of internal-sftp, `key_type` is that of the host key.
    """
    sshd_, keygen, port = program("sshd"), program("ssh-keygen"), free_port()
    if os.geteuid() == 0:
        os.makedirs("/run/sshd", exist_ok=True)  # privilege separation wants it, and only root has that
    store = store or _store(folder)
    for name, type_ in (("host_key", key_type), ("user_key", "ed25519")):
        (folder / name).unlink(missing_ok=True)
        subprocess.run([keygen, "-q", "-t", type_, "-N", "", "-f", str(folder / name)], check=True)
    shutil.copy(folder / "user_key.pub", folder / "authorized_keys")
    known = folder / "known_hosts"
    kind, key = (folder / "host_key.pub").read_text().split()[:2]
    known.write_text(f"[127.0.0.1]:{port} {kind} {key}\n")
    (folder / "sshd_config").write_text(
        "".join(line.format(folder=folder) + "\n" for line in config)
        + f"Port {port}\nListenAddress 127.0.0.1\nHostKey {folder}/host_key\nPidFile none\n"
        f"AuthorizedKeysFile {folder}/authorized_keys\n"
        "StrictModes no\nUsePAM no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin yes\n"
        "MaxStartups 100\n"
        + ("" if any(line.startswith("Subsystem") for line in config) else f"Subsystem sftp internal-sftp {sftp_options}\n")
    )
    user = _me()
    spec = TargetSpec(
        name="sftp",
        url=f"sftp://{user}@127.0.0.1:{port}{store}",
        key_file=str(folder / "user_key"),
        known_hosts=str(known),
        staging_dir=str(folder),
    )
    with running([sshd_, "-D", "-e", "-f", str(folder / "sshd_config")], port, folder / "sshd.log") as process:
        yield Served(spec=spec, store=store, process=process)


@contextlib.contextmanager
def ssh_password(folder: Path, *, script: Path | None = None) -> Iterator[Served]:
    """An SSH server that asks for a password and knows no extension; `script` as in paramiko_sftp.py."""
    port, store, known = free_port(), _store(folder), folder / "known_hosts"
    subprocess.run([program("ssh-keygen"), "-q", "-t", "ed25519", "-N", "", "-f", str(folder / "host_key")], check=True)
    kind, key = (folder / "host_key.pub").read_text().split()[:2]
    known.write_text(f"[127.0.0.1]:{port} {kind} {key}\n")
    password_file = write_password(folder)
    spec = TargetSpec(
        name="sftp",
        url=f"sftp://{USER}@127.0.0.1:{port}/",
        password_file=password_file,
        known_hosts=str(known),
        staging_dir=str(folder),
    )
    command = [sys.executable, "-m", "tests.servers.paramiko_sftp", str(port), str(store), password_file, str(folder / "host_key")]
    command += [str(script)] if script else []
    with running(command, port, folder / "ssh.log") as process:
        yield Served(spec=spec, store=store, process=process)


@contextlib.contextmanager
def vsftpd(
    folder: Path, store: Path | None = None, *, tls: bool = False, passive: range | None = None, extra: Sequence[str] = ()
) -> Iterator[Served]:
    """vsftpd, anonymous with the rights to write; run without root it knows real paths. `extra` lines replace others."""
    command, port, store = program("vsftpd"), free_port(), store or _store(folder)
    first = free_port()
    passive = passive or range(first, min(65535, first + 200))
    certificate = make_certificate(folder) if tls else None
    lines = [
        "listen=YES", "listen_address=127.0.0.1", f"listen_port={port}", "background=NO", "run_as_launching_user=YES",
        "anonymous_enable=YES", "no_anon_password=YES", "local_enable=NO", f"anon_root={store}", "connect_from_port_20=NO",
        f"pasv_min_port={passive[0]}", f"pasv_max_port={passive[-1]}", f"secure_chroot_dir={folder}", "xferlog_enable=NO",
        f"vsftpd_log_file={folder}/vs.log", "seccomp_sandbox=NO", "use_localtime=NO", "write_enable=YES", "anon_upload_enable=YES",
        "anon_mkdir_write_enable=YES", "anon_other_write_enable=YES", "anon_umask=022", "anon_world_readable_only=NO",
    ]  # fmt: skip
    if certificate:
        lines += ["ssl_enable=YES", "allow_anon_ssl=YES", "force_anon_logins_ssl=YES", "force_anon_data_ssl=YES"]
        lines += [f"rsa_cert_file={certificate}", "ssl_ciphers=HIGH"]
    lines = [line for line in lines if line.partition("=")[0] not in {new.partition("=")[0] for new in extra}] + list(extra)
    config = folder / "vsftpd.conf"
    config.write_text("\n".join(lines) + "\n")
    spec = TargetSpec(
        name="ftps" if tls else "ftp",
        url=f"{'ftps' if tls else 'ftp'}://127.0.0.1:{port}{store}",
        ca_file=str(certificate) if certificate else None,
        staging_dir=str(folder),
    )
    with running([command, str(config)], port, folder / "vsftpd.log") as process:
        yield Served(spec=spec, store=store, process=process)


@contextlib.contextmanager
def pyftpd(
    folder: Path,
    *,
    lie: str = "",
    tls: bool = False,
    script: Path | None = None,
    mlsd: bool = True,
    implicit: bool = False,
    certificate: Path | None = None,
) -> Iterator[Served]:
    """pyftpdlib; `lie` and `script` as in pyftpd.py; `certificate` is key and certificate in one file."""
    port, store = free_port(), _store(folder)
    command = [sys.executable, "-m", "tests.servers.pyftpd", str(port), str(store), write_password(folder), "--lie", lie]
    command += [
        *(["--script", str(script)] if script else []),
        *([] if mlsd else ["--no-mlsd"]),
        *(["--implicit"] if implicit else []),
    ]
    certificate = certificate or (make_certificate(folder) if tls else None)
    tls = certificate is not None
    spec = TargetSpec(
        name="ftps" if tls else "ftp",
        url=f"{'ftps' if tls else 'ftp'}://{USER}@127.0.0.1:{port}/",
        password_file=str(folder / "password"),
        ca_file=str(certificate) if certificate else None,
        staging_dir=str(folder),
    )
    with running([*command, "--certificate", str(certificate or "")], port, folder / "pyftpd.log") as process:
        yield Served(spec=spec, store=store, process=process)


def make_certificate(folder: Path, name: str = "server.pem") -> Path:
    """A key and a certificate for 127.0.0.1 that it signed itself, in one file."""
    path, key = folder / name, folder / f"{name}.key"
    subprocess.run(
        [
            program("openssl"), "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
            "-days", "30",
            "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(path),
        ],
        check=True, capture_output=True,
    )  # fmt: skip
    path.write_bytes(path.read_bytes() + key.read_bytes())
    return path


def _store(folder: Path) -> Path:
    store = folder / "store"
    store.mkdir(parents=True, exist_ok=True)
    return store


def _me() -> str:
    import pwd

    return pwd.getpwuid(os.geteuid()).pw_name
