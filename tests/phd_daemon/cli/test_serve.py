"""`phd serve` as people use it: with nbdinfo, nbdcopy, qemu-img, qemu-nbd, fio, and its end."""

from __future__ import annotations

import json
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from phd_daemon.cli.main import run
from phd_daemon.worker import sandbox
from restore_core.backup.run import BackupOptions
from restore_core.backup.subject import Asked
from restore_core.errors import ConfigurationError, ExitCode
from restore_core.serve.nbd.messages import OptionReply, OptionType
from restore_core.serve.nbd.tcp import server_tls
from tests.lab import BLOCK, NIGHT, UUID, Lab
from tests.phd_daemon.serving import ServeProcess, phd_serve, ran, tool
from tests.restore_core.serve.nbd.raw_client import RawClient
from tests.restore_core.serve.served_lab import Served, disk_bytes
from tests.servers import certificates


@pytest.fixture(scope="module")
def backup(tmp_path_factory: pytest.TempPathFactory) -> Served:
    return Served(Lab(tmp_path_factory.mktemp("lab")))


@pytest.fixture(scope="module")
def server(backup: Served, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServeProcess]:
    folder = tmp_path_factory.mktemp("s")
    with phd_serve(folder, backup.lab.path(backup.delta), "--sock", folder / "s.sock") as serving:
        yield serving


def test_it_is_confined_and_says_what_it_serves(server: ServeProcess, backup: Served) -> None:
    assert server.ready["confined"].startswith(("confined", "NOT confined"))
    (export,) = server.ready["exports"]
    assert (export["name"], export["size"]) == ("", len(backup.data))
    assert export["full"].endswith(".gz-260301-0301.phd")


def test_nbdinfo_reads_its_facts_and_its_map(server: ServeProcess, backup: Served) -> None:
    (facts,) = json.loads(ran("nbdinfo", "--json", server.uri))["exports"]
    assert facts["export-size"] == len(backup.data)
    assert facts["is_read_only"]
    assert facts["can_multi_conn"]
    assert "disk.img" in facts["description"]
    zero = sum(entry["length"] for entry in json.loads(ran("nbdinfo", "--json", "--map", server.uri)) if entry["type"] == 3)
    assert zero == sum(not backup.data[at : at + BLOCK].strip(b"\0") for at in range(0, len(backup.data), BLOCK)) * BLOCK
    assert json.loads(ran("nbdinfo", "--list", "--json", server.uri))["exports"]


def test_nbdcopy_brings_the_exact_disk(server: ServeProcess, backup: Served, tmp_path: Path) -> None:
    for number, options in enumerate(([], ["--connections=1", "--requests=3"], ["--request-size=33554432"], ["--no-extents"])):
        ran("nbdcopy", *options, server.uri, tmp_path / str(number))
        assert (tmp_path / str(number)).read_bytes() == backup.data


def test_qemu_img_converts_compares_and_maps_it(server: ServeProcess, backup: Served, tmp_path: Path) -> None:
    right = tmp_path / "right"
    padded = backup.data + bytes(-len(backup.data) % 512)  # as qemu-img sees a file whose end is no sector's
    right.write_bytes(padded)
    ran("qemu-img", "convert", "-f", "raw", "-O", "qcow2", server.uri, tmp_path / "x.qcow2")
    ran("qemu-img", "compare", "-f", "raw", "-F", "raw", server.uri, right)
    ran("qemu-img", "compare", "-F", "raw", tmp_path / "x.qcow2", right)
    assert any(entry["zero"] for entry in json.loads(ran("qemu-img", "map", "--output=json", "-f", "raw", server.uri)))


def test_qemu_nbd_lists_it(server: ServeProcess) -> None:
    assert "readonly" in ran("qemu-nbd", "--list", "-k", server.ready["socket"])


def test_servers_that_are_its_clients_give_the_exact_disk(server: ServeProcess, backup: Served, tmp_path: Path) -> None:
    out = tmp_path / "out"
    ran("nbdkit", "nbd", f"uri={server.uri}", "--run", f'nbdcopy "$uri" {out}')
    assert out.read_bytes() == backup.data
    with subprocess.Popen([tool("qemu-nbd"), "--read-only", "--format=raw", f"--socket={tmp_path}/q.sock", server.uri]) as between:
        while not (tmp_path / "q.sock").exists():
            assert between.poll() is None
        ran("nbdcopy", f"nbd+unix:///?socket={tmp_path}/q.sock", out)
        between.terminate()
    assert out.read_bytes()[: len(backup.data)] == backup.data


def test_fio_reads_it_at_random(server: ServeProcess, tmp_path: Path) -> None:
    fio = tool("fio")
    if "nbd" not in subprocess.run([fio, "--enghelp"], capture_output=True, text=True, check=False).stdout:
        pytest.skip("this fio has no nbd engine")
    how = ["--rw=randread", "--bs=4k", "--iodepth=16", "--size=1m", "--output-format=json"]
    said = subprocess.run(
        [fio, "--name=r", "--ioengine=nbd", f"--uri={server.uri}", *how], cwd=tmp_path, capture_output=True, text=True, check=True
    ).stdout
    (job,) = json.loads(said[said.index("{") :])["jobs"]
    assert (job["error"], job["read"]["total_ios"]) == (0, 256)


def test_qemu_io_gets_eio_for_a_bad_block_alone(lab_copy: Served, tmp_path: Path) -> None:
    backup = lab_copy
    assert backup.full is not None
    with phd_serve(tmp_path, backup.lab.path(backup.delta), "--sock", tmp_path / "s.sock") as serving:
        backup.flip(backup.full, backup.lab.path(backup.full).stat().st_size - 40)
        said = ran("qemu-io", "-r", "-f", "raw", "-c", f"read {12 * BLOCK} 512", serving.uri, code=1)
        assert "Input/output error" in said
        ran("qemu-io", "-r", "-f", "raw", "-c", f"read 0 {12 * BLOCK}", serving.uri)
        assert serving.end() == 0
        assert len(re.findall(r"block 12 cannot be served: .*gz-260301-0301", serving.log.read_text())) == 1


@pytest.fixture
def lab_copy(tmp_path: Path) -> Served:
    return Served(Lab(tmp_path / "lab"))


def test_a_client_that_waits_goes_on_when_the_server_is_killed_and_started_again(backup: Served, tmp_path: Path) -> None:
    path, delta = tmp_path / "s.sock", backup.lab.path(backup.delta)
    image = f"driver=raw,file.driver=nbd,file.server.type=unix,file.server.path={path},file.reconnect-delay=60"
    with (
        phd_serve(tmp_path, delta, "--sock", path) as first,
        subprocess.Popen(
            [tool("qemu-io"), "-r", "--image-opts", image],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            bufsize=1,
        ) as client,
    ):
        assert client.stdin is not None
        assert client.stdout is not None
        client.stdin.write("read 0 512\n")
        assert "512/512" in client.stdout.readline() + client.stdout.readline()
        assert first.end(signal.SIGKILL) == -signal.SIGKILL
        client.stdin.write(f"read {4 * BLOCK} {BLOCK}\n")
        with phd_serve(tmp_path, delta, "--sock", path) as second:
            client.stdin.write("quit\n")
            client.stdin.close()
            assert f"{BLOCK}/{BLOCK}" in client.stdout.read()
            assert client.wait(60) == 0
            assert second.end() == 0
    assert not path.exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_it_well_while_clients_are_connected(backup: Served, tmp_path: Path, number: signal.Signals) -> None:
    with phd_serve(tmp_path, backup.lab.path(backup.delta), "--sock", tmp_path / "s.sock") as serving:
        client = RawClient.on(tmp_path / "s.sock").go()
        assert serving.end(number) == 0
        assert client.is_closed()
        client.close()
    assert not (tmp_path / "s.sock").exists()
    assert "Traceback" not in serving.log.read_text()


def test_a_second_server_on_the_same_socket_is_refused(server: ServeProcess, backup: Served) -> None:
    command = [sys.executable, "-m", "phd_daemon.cli.main", "serve", str(backup.lab.path(backup.delta))]
    second = subprocess.run([*command, "--sock", server.ready["socket"]], capture_output=True, text=True, check=False)
    assert second.returncode == ExitCode.DESTINATION
    assert "another server answers" in second.stderr
    assert ran("nbdinfo", "--size", server.uri).strip() == str(len(backup.data))


def test_the_process_writes_nothing_and_runs_nothing(server: ServeProcess) -> None:
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    assert "NoNewPrivs:\t1" in status
    assert re.search(r"Seccomp:\t2", status)


def two_disks(folder: Path) -> tuple[Lab, dict[str, bytes]]:
    """A backup run of a VM with two disks, and what they hold."""
    lab, found = Lab(folder), {}
    for number, name in enumerate(("system.img", "data, and ü.img")):
        lab.disk = folder / name
        data = disk_bytes(random.Random(number), 5)
        asked = Asked(vm="CRM", uuid=UUID, scsi=f"0{number}")
        lab.backup(data, options=BackupOptions(asked=asked, at=NIGHT, scratch=folder))
        found[name] = data
    return lab, found


def test_all_disks_of_a_vm_are_exports_of_their_names(tmp_path: Path) -> None:
    lab, disks = two_disks(tmp_path / "lab")
    settings = f'[targets.t]\nurl = "file://{lab.store}"\n'
    with phd_serve(tmp_path, "--vm", "CRM", "--at", "2026-03-02", "--sock", tmp_path / "s, 1.sock", settings=settings) as serving:
        assert [export["name"] for export in serving.ready["exports"]] == list(disks)
        for export in serving.ready["exports"]:
            ran("nbdcopy", export["uris"][0], tmp_path / "out")
            assert (tmp_path / "out").read_bytes() == disks[export["name"]]
        assert serving.end() == 0


def test_the_order_of_reads_is_written_at_the_end_and_used_by_the_next_server(backup: Served, tmp_path: Path) -> None:
    order, asked = tmp_path / "order", (backup.lab.path(backup.delta), "--sock", tmp_path / "s.sock", "--order", tmp_path / "order")
    for block in (12, 0):
        with phd_serve(tmp_path, *asked) as serving:
            ran("qemu-io", "-r", "-f", "raw", "-c", f"read {block * BLOCK} 512", serving.uri)
            assert serving.end() == 0
    assert json.loads(order.read_text())["orders"][""][:2] == [0, 12 * BLOCK]
    order.write_text(order.read_text()[:-3])  # its end was lost
    with phd_serve(tmp_path, *asked) as serving:
        assert serving.end() == 0
        assert "not used" in serving.log.read_text()
    assert json.loads(order.read_text())["orders"] == {"": []}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "neither is given"),
        (["/dev/null", "--vm", "CRM"], "not both"),
        (["--vm", "CRM", "--full", "/dev/null"], "--full is only for one DELTA"),
        (["/dev/null", "--tcp", "127.0.0.1:0"], "--tls-dir"),
        (["/dev/null", "--tcp", "127.0.0.1:x", "--tls-dir", "TLS"], "HOST:PORT"),
        (["/dev/null", "--tls-dir", "TLS", "--sock", "x"], "only for --tcp"),
        (["/dev/null", "--sock", "/" + "x" * 120], "107 bytes"),
        (["/dev/null", "--order", "/dev/null"], "not a plain file"),
        (["/dev/null", "--order", __file__], "something else than an order"),
    ],
)
def test_what_contradicts_itself_is_refused(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def not_reached(*_: object, **__: object) -> None:
        raise AssertionError("this process would be confined for good")

    monkeypatch.setattr(sandbox, "confine", not_reached)
    monkeypatch.setenv("PHD_CONFIG", str(tmp_path / "phd.toml"))
    (tmp_path / "phd.toml").write_text(f'state_dir = "{tmp_path}"\n')
    certificate_files(tmp_path / "tls")
    assert run(["serve", *(str(tmp_path / "tls") if word == "TLS" else word for word in arguments)]) == ExitCode.USAGE
    assert words in capsys.readouterr().err


def certificate_files(folder: Path, *, ca: Path | None = None) -> Path:
    """A folder of certificates as QEMU, nbdkit and libnbd name them; returns the authority that signed them."""
    folder.mkdir()
    authority = ca or certificates.make(folder / "authority.pem", name="phd test", authority=True)
    shutil.copy(authority, folder / "ca-cert.pem")
    for name in ("server", "client"):
        made = certificates.make(folder / f"{name}-cert.pem", issuer=authority)
        shutil.copy(made, folder / f"{name}-key.pem")
    return authority


def test_over_tcp_only_a_client_with_a_certificate_of_ours_is_served(backup: Served, tmp_path: Path) -> None:
    certificate_files(tmp_path / "tls")
    certificate_files(tmp_path / "strangers")
    delta = backup.lab.path(backup.delta)
    with phd_serve(tmp_path, delta, "--tcp", "127.0.0.1:0", "--tls-dir", tmp_path / "tls") as serving:
        assert serving.ready["socket"] is None
        assert serving.uri.startswith("nbds://127.0.0.1:")
        ran("nbdcopy", f"{serving.uri}?tls-certificates={tmp_path}/tls", tmp_path / "out")
        assert (tmp_path / "out").read_bytes() == backup.data
        shutil.copy(tmp_path / "tls" / "ca-cert.pem", tmp_path / "strangers" / "ca-cert.pem")  # they trust us, we do not trust them
        ran("nbdinfo", f"{serving.uri}?tls-certificates={tmp_path}/strangers", code=1)
        ran("nbdinfo", serving.uri.replace("nbds:", "nbd:"), code=1)
        with socket.create_connection(("127.0.0.1", int(serving.ready["tcp"].rpartition(":")[2]))) as plain:
            client = RawClient(plain)
            client.greet()
            assert client.option(OptionType.LIST)[0].kind == OptionReply.TLS_REQD
        assert serving.end() == 0


def test_certificates_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    certificate_files(tmp_path / "tls")
    (tmp_path / "tls" / "server-key.pem").unlink()
    with pytest.raises(ConfigurationError, match="no server-key"):
        server_tls(tmp_path / "tls")
    (tmp_path / "tls" / "server-key.pem").write_text("not a key")
    with pytest.raises(ConfigurationError, match="TLS cannot be used"):
        server_tls(tmp_path / "tls")


def test_the_lines_for_people_are_commands_that_work(backup: Served, tmp_path: Path) -> None:
    config = tmp_path / "phd.toml"
    config.write_text(f'state_dir = "{tmp_path}"\n')
    command = [sys.executable, "-m", "phd_daemon.cli.main", "serve", "--config", str(config), str(backup.lab.path(backup.delta))]
    with subprocess.Popen(
        [*command, "--sock", str(tmp_path / "s x.sock")], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        lines: list[str] = []
        while not lines or "qemu-system" not in lines[-1]:
            lines.append(process.stdout.readline())
        copy = next(line.split() for line in lines if "nbdcopy" in line)
        assert copy
        for line in lines:
            if "nbdinfo" in line or "nbdcopy" in line:
                done = subprocess.run(["sh", "-c", line], cwd=tmp_path, capture_output=True, text=True, check=False)
                assert done.returncode == 0, done.stderr
        assert (tmp_path / "disk.img").read_bytes() == backup.data
        assert "reconnect-delay=3600" in lines[-1]
        process.send_signal(signal.SIGINT)
        said, complained = process.communicate(timeout=30)
        assert process.returncode == 0
        assert said.startswith("served ")
        assert "stopping" in complained
