"""Servers and lines that fail: each ends in time, in the right class, with a text that names target, place and remedy."""

from __future__ import annotations

import dataclasses
import random
import re
import socket
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from restore_core.errors import (
    ArchiveAbsent,
    BadArchive,
    ConfigurationError,
    PhdError,
    Stopped,
    TargetNotTrusted,
    TargetRefused,
    TargetUnavailable,
)
from restore_core.targets import TargetSet
from restore_core.targets.base import ArchiveRef, ServerLimits, TargetSpec
from restore_core.targets.ftp.certificate import known_certificates
from restore_core.targets.gaps import Gap
from restore_core.targets.kinds import make_target, server_identity
from restore_core.targets.remote.secret import read_password
from tests import servers
from tests.lab import Lab
from tests.restore_core.targets.conftest import HASTY, KINDS
from tests.servers import PASSWORD, Served, free_port
from tests.servers.line import Line, line_to

DATA = random.Random(2).randbytes(3_000_000)
PATH = "2026.03.01-A.x/00-C.vmdk.gz-260301-0300.phd"
DEADLINE = 30.0
"""Seconds after which a test calls it a hang. ServerLimits in these tests are 2 s."""


def ends(work: Callable[[], object]) -> Any:
    """What `work` gives or raises, unless it hangs."""
    outcome: list[Any] = []

    def run() -> None:
        try:
            outcome.append((work(), None))
        except BaseException as error:  # noqa: BLE001 - raised again below
            outcome.append((None, error))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(DEADLINE)
    assert outcome, f"still hanging after {DEADLINE} s"
    result, error = outcome[0]
    if error is not None:
        raise error
    return result


def read_all(spec: TargetSpec, limits: ServerLimits = HASTY) -> bytes:
    target = make_target(spec, limits)
    try:
        with target.open(PATH) as source:
            return b"".join(source.stream(chunk=100_000))
    finally:
        target.close()


def listed(spec: TargetSpec, limits: ServerLimits = HASTY, gaps: list[Gap] | None = None) -> list[str]:
    target = make_target(spec, limits)
    try:
        return [found.path for found in target.listing(gaps)]
    finally:
        target.close()


def through(served: Served, line: Line, folder: Path) -> TargetSpec:
    """The same target, reached over another port."""
    port = int(re.search(r"127\.0\.0\.1:(\d+)", served.spec.url)[1])  # type: ignore[index]  # our own URL
    url = served.spec.url.replace(f":{port}", f":{line.port}", 1)
    if not served.spec.known_hosts:
        return dataclasses.replace(served.spec, url=url)
    known = folder / "known_hosts"
    known.write_text(Path(served.spec.known_hosts).read_text().replace(f":{port} ", f":{line.port} "))
    return dataclasses.replace(served.spec, url=url, known_hosts=str(known))


def put(served: Served) -> None:
    file = served.store / PATH
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(DATA)


def port_of(served: Served) -> int:
    return int(re.search(r":(\d+)/", served.spec.url)[1])  # type: ignore[index]  # our own URL


@pytest.fixture(params=["sftp", "vsftpd", "vsftpd_tls"])
def served(request: pytest.FixtureRequest) -> Served:
    found: Served = request.getfixturevalue(request.param)
    put(found)
    return found


@pytest.fixture
def ssh(sftp: Served) -> Served:
    put(sftp)
    return sftp


@pytest.mark.parametrize("fault", ["refuse", "silent", "hole", "reset", "fin"])
def test_a_server_that_does_not_let_us_begin(served: Served, tmp_path: Path, fault: str) -> None:
    with line_to(port_of(served), fault, after=10) as line:
        spec = through(served, line, tmp_path)
        with pytest.raises(TargetUnavailable) as caught:
            ends(lambda: read_all(spec))
        assert caught.value.try_again
        assert not isinstance(caught.value, ArchiveAbsent | TargetRefused)
        assert f"{spec.name} (127.0.0.1:{line.port})" in str(caught.value)
        assert caught.value.remedy
        if fault != "refuse":
            assert line.connections == HASTY.tries


def test_a_host_without_a_name(served: Served) -> None:
    spec = dataclasses.replace(served.spec, url=served.spec.url.replace("127.0.0.1", "nowhere.invalid"))
    with pytest.raises(TargetUnavailable, match=r"nowhere\.invalid") as caught:
        ends(lambda: read_all(spec))
    assert caught.value.try_again


@pytest.mark.parametrize("fault", ["hole", "reset", "fin", "drip"])
def test_a_line_that_breaks_while_reading(ssh: Served, tmp_path: Path, fault: str) -> None:
    with line_to(port_of(ssh), fault, after=1_000_000) as line:
        spec = through(ssh, line, tmp_path)
        with pytest.raises(TargetUnavailable, match="sftp") as caught:
            ends(lambda: read_all(spec, dataclasses.replace(HASTY, progress=1 << 30)))
        assert caught.value.try_again


@pytest.mark.parametrize("fault", ["hole", "reset", "fin", "drip"])
def test_a_stream_goes_on_where_it_broke(ssh: Served, tmp_path: Path, fault: str) -> None:
    with line_to(port_of(ssh), fault, after=1_000_000, times=1) as line:
        spec = through(ssh, line, tmp_path)
        assert ends(lambda: read_all(spec)) == DATA
        assert line.connections == 2


@pytest.mark.parametrize(
    ("lie", "expected", "text"),
    [
        ("fin", BadArchive, "ends at"),
        ("reset", TargetUnavailable, "broke"),
        ("hole", TargetUnavailable, "no answer"),
        ("drip", TargetUnavailable, "too slow: "),
    ],
)
def test_lies_of_an_ftp_server(tmp_path: Path, lie: str, expected: type[PhdError], text: str) -> None:
    with servers.pyftpd(tmp_path, lie=lie) as served:
        put(served)
        with pytest.raises(expected, match=text) as caught:
            ends(lambda: read_all(served.spec))
        assert "ftp" in str(caught.value)
        assert caught.value.remedy


def test_one_early_end_is_made_good(tmp_path: Path) -> None:
    with servers.pyftpd(tmp_path, lie="once") as served:
        put(served)
        assert ends(lambda: read_all(served.spec)) == DATA


def test_a_listing_cut_short_is_no_listing(tmp_path: Path) -> None:
    with servers.pyftpd(tmp_path, lie="list") as served:
        put(served)
        with pytest.raises(TargetUnavailable, match="middle of a line"):
            ends(lambda: listed(served.spec))


def test_hostile_names(tmp_path: Path) -> None:
    with servers.pyftpd(tmp_path, lie="hostile") as served:
        put(served)
        gaps: list[Gap] = []
        found = ends(lambda: listed(served.spec, gaps=gaps))
        assert PATH in found
        # The second half of a name with a line break in it is no line of a listing: something is missing, and that is said.
        assert ("", "a line of it is not understood: break") in [(gap.path, gap.why) for gap in gaps]
        assert not any(part in ("..", "") or len(part) > 255 for path in found for part in path.split("/"))
        assert {path.split("/")[-1] for path in found} == {"a\x1b[2J", "\udcff\udcfe", "line", PATH.split("/")[1]}


@pytest.mark.parametrize("limit", [{"listing_entries": 5}, {"listing_bytes": 300}])
def test_a_listing_without_end_raises(served: Served, limit: dict[str, int]) -> None:
    crowd = served.store / "crowd"
    crowd.mkdir(exist_ok=True)
    for number in range(20):
        (crowd / str(number)).touch()
    with pytest.raises(TargetRefused, match="its listing is"):
        ends(lambda: listed(served.spec, dataclasses.replace(HASTY, **limit)))


def test_a_listing_has_a_deadline(served: Served) -> None:
    with pytest.raises(TargetUnavailable, match="took more than"):
        ends(lambda: listed(served.spec, dataclasses.replace(HASTY, listing_seconds=-1.0)))


@pytest.mark.parametrize("kind", ["sftp", "ftp-vsftpd", "ftps-vsftpd"])
def test_a_server_that_stops(tmp_path: Path, kind: str) -> None:
    try:
        with KINDS[kind](tmp_path) as served:
            put(served)
            target = make_target(served.spec, HASTY)
            with target.open(PATH) as source:
                stream = source.stream(chunk=10_000)
                next(stream)
                served.pause()
                with pytest.raises(TargetUnavailable) as caught:
                    ends(lambda: (list(stream), list(target.listing())))
                assert caught.value.try_again
                served.go_on()
                assert ends(lambda: source.read_at(5, 5)) == DATA[5:10]
            target.close()
    except servers.Missing as missing:
        pytest.skip(str(missing))


def test_an_interrupted_read_ends_at_once(ssh: Served, tmp_path: Path) -> None:
    patient = dataclasses.replace(HASTY, idle=3600.0, rate_window=3600.0)
    with line_to(port_of(ssh), "hole", after=1_000_000) as line:
        target = make_target(through(ssh, line, tmp_path), patient)
        source = target.open(PATH)
        timer = threading.Timer(0.5, source.interrupt)
        timer.start()
        with pytest.raises(TargetUnavailable):
            ends(lambda: list(source.stream()))
        target.close()


@pytest.fixture
def backed_up(tmp_path: Path) -> Iterator[tuple[Lab, ArchiveRef, Served]]:
    """A Delta and its Full on an SSH server: what is on it, the Delta, and the server."""
    lab = Lab(tmp_path)
    lab.backup(DATA)
    made = lab.backup(DATA[:1000] + b"changed" + DATA[1007:])
    (tmp_path / "ssh").mkdir()
    try:
        with servers.sshd(tmp_path / "ssh", lab.store) as served:
            yield lab, made.delta, served
    except servers.Missing as missing:
        pytest.skip(str(missing))


@pytest.mark.parametrize("fault", ["hole", "reset", "fin"])
def test_a_restore_goes_on_where_the_line_broke(backed_up: tuple[Lab, ArchiveRef, Served], tmp_path: Path, fault: str) -> None:
    lab, delta, served = backed_up
    with line_to(port_of(served), fault, after=1_500_000, times=1) as line:
        lab.targets = TargetSet((dataclasses.replace(through(served, line, tmp_path), name="t"),), HASTY)
        ends(lambda: lab.restore(delta))
        assert line.connections == 2
        lab.targets.close()
    assert (lab.folder / "out" / "back.img").read_bytes() == DATA[:1000] + b"changed" + DATA[1007:]


def test_a_restore_that_is_stopped_does_not_wait_for_the_server(
    backed_up: tuple[Lab, ArchiveRef, Served], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab, delta, served = backed_up
    patient = dataclasses.replace(HASTY, idle=3600.0, rate_window=3600.0)
    with line_to(port_of(served), "hole", after=1_500_000) as line:
        began = time.monotonic()

        def stop() -> None:
            if time.monotonic() > began + 3:
                raise Stopped("cancelled")

        monkeypatch.setattr("tests.lab.go_on", stop)
        lab.targets = TargetSet((dataclasses.replace(through(served, line, tmp_path), name="t"),), patient)
        with pytest.raises(Stopped):
            ends(lambda: lab.restore(delta))
        assert lab.leftovers() == []
        lab.targets.close()


def told(error: BaseException) -> str:
    """Everything that an error could show of itself."""
    return str(error) + repr(error) + "".join(traceback.format_exception(error))


@pytest.mark.parametrize("kind", ["sftp-password", "ftp-pyftpd", "ftps-pyftpd"])
def test_a_wrong_password_is_tried_once_and_never_told(tmp_path: Path, kind: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(0)
    with KINDS[kind](tmp_path) as served, line_to(port_of(served), "whole") as line:
        canary = "wr0ng-canary%41"
        elsewhere = tmp_path / "elsewhere"
        elsewhere.mkdir()
        spec = dataclasses.replace(through(served, line, tmp_path), password_file=servers.write_password(elsewhere, canary))
        with pytest.raises(TargetRefused, match=re.escape(f"targets.{spec.name}.url")) as caught:
            ends(lambda: read_all(spec))
        assert not caught.value.try_again
        assert line.connections == 1
        assert spec.name in str(caught.value)
        shown = told(caught.value) + repr(spec) + caplog.text
        assert canary not in shown
        assert canary.replace("%", "%25") not in shown
        assert PASSWORD not in shown


@pytest.mark.parametrize(("remedied", "expected"), [(True, TargetUnavailable), (False, TargetRefused)])
def test_a_target_that_refuses_us_hides_only_its_own_fulls(
    pyftpd: Served, tmp_path: Path, remedied: bool, expected: type[PhdError]
) -> None:
    lab = Lab(tmp_path)
    made = lab.backup(b"x" * 500_000)
    assert made.full is not None
    lab.path(made.full).unlink()
    wrong = dataclasses.replace(pyftpd.spec, name="w", password_file=servers.write_password(tmp_path, "wrong"))
    unreadable = dataclasses.replace(pyftpd.spec, name="u", password_file=str(tmp_path / "none"))
    later = dataclasses.replace(pyftpd.spec, name="l", url=f"ftp://{servers.USER}@127.0.0.1:{free_port()}/")
    lab.targets = TargetSet((*lab.targets.specs.values(), wrong, unreadable, *([later] if remedied else [])), HASTY)
    with pytest.raises(TargetUnavailable, match="not every target answers") as caught:
        ends(lambda: lab.restore(made.delta))
    assert type(caught.value) is expected
    lab.targets.close()


def test_a_password_that_the_server_repeats_is_not_told(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as door:

        def serve() -> None:
            line, _ = door.accept()
            with line, line.makefile("rwb") as file:
                for reply in (b"220 hello", b"331 password?", b"530 wrong password " + PASSWORD.encode()):
                    file.write(reply + b"\r\n")
                    file.flush()
                    file.readline()

        threading.Thread(target=serve, daemon=True).start()
        url = f"ftp://u@127.0.0.1:{door.getsockname()[1]}/"
        spec = TargetSpec(name="nas", url=url, password_file=servers.write_password(tmp_path))
        with pytest.raises(TargetRefused, match=r"wrong password \.\.\.") as caught:
            ends(lambda: listed(spec))
        assert PASSWORD not in told(caught.value)


@pytest.mark.parametrize(("mode", "text"), [(0o640, "0640"), (0o604, "0604"), (None, "No such file")])
def test_secrets_that_others_can_read_are_not_used(tmp_path: Path, mode: int | None, text: str) -> None:
    password = Path(servers.write_password(tmp_path))
    password.chmod(mode) if mode else password.unlink()
    known = tmp_path / "known"
    known.touch()
    port = free_port()
    for spec in (
        TargetSpec(name="n", url=f"ftp://u@127.0.0.1:{port}/", password_file=str(password)),
        TargetSpec(name="n", url=f"sftp://u@127.0.0.1:{port}/", password_file=str(password), known_hosts=str(known)),
        TargetSpec(name="n", url=f"sftp://u@127.0.0.1:{port}/", key_file=str(password), known_hosts=str(known)),
    ):
        with line_to(port, "silent") as line, pytest.raises(ConfigurationError, match=text) as caught:
            ends(lambda spec=spec, line=line: listed(dataclasses.replace(spec, url=spec.url.replace(str(port), str(line.port)))))  # type: ignore[misc]  # defaults bind the loop's names
        assert "targets.n." in str(caught.value)
        assert PASSWORD not in told(caught.value)


@pytest.mark.parametrize("text", ["", "\n", "two\nlines", "n\0ul", "x" * 5000])
def test_a_password_file_holds_one_line(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigurationError, match="one line") as caught:
        read_password(servers.write_password(tmp_path, text), target="n")
    assert not text.strip() or text not in told(caught.value)


def test_an_unknown_host_key(ssh: Served, tmp_path: Path) -> None:
    spec = dataclasses.replace(ssh.spec, known_hosts=str(tmp_path / "none"))
    with pytest.raises(TargetNotTrusted, match="host key is not known") as caught:
        ends(lambda: listed(spec))
    assert server_identity(ssh.spec, HASTY).fingerprint in str(caught.value)
    assert "phd targets trust sftp" in caught.value.remedy
    assert not caught.value.try_again


def test_a_changed_host_key_is_final_and_loud(ssh: Served, tmp_path: Path) -> None:
    other = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIIRjOBFbMCfsUoq7o7AoKGoQx1aUAVHvZDNAvaoAV0UD"
    known = tmp_path / "known_hosts"
    known.write_text(f"[127.0.0.1]:{port_of(ssh)} {other}\n")
    spec = dataclasses.replace(ssh.spec, known_hosts=str(known))
    with line_to(port_of(ssh), "whole") as line:
        known.write_text(f"[127.0.0.1]:{line.port} {other}\n")
        spec = dataclasses.replace(spec, url=spec.url.replace(str(port_of(ssh)), str(line.port)))
        with pytest.raises(TargetNotTrusted, match="THE HOST KEY HAS CHANGED") as caught:
            ends(lambda: listed(spec))
        assert line.connections == 1
    shown = server_identity(dataclasses.replace(ssh.spec, known_hosts=str(known)), HASTY)
    assert shown.fingerprint in str(caught.value)
    assert len(re.findall(r"SHA256:[\w+/]{43}", str(caught.value))) == 2
    assert "phd targets trust sftp" in caught.value.remedy
    assert not caught.value.try_again


def test_a_changed_certificate_is_final_and_loud(vsftpd_tls: Served, tmp_path: Path) -> None:
    other = servers.make_certificate(tmp_path)
    spec = dataclasses.replace(vsftpd_tls.spec, ca_file=str(other))
    with pytest.raises(TargetNotTrusted, match="certificate is not trusted") as caught:
        ends(lambda: listed(spec))
    shown = str(caught.value)
    assert server_identity(vsftpd_tls.spec, HASTY).fingerprint in shown
    assert known_certificates(spec.ca_file)[0] in shown
    assert "phd targets trust ftps" in caught.value.remedy
    assert not caught.value.try_again
    with pytest.raises(TargetNotTrusted, match="what this machine trusts"):
        ends(lambda: listed(dataclasses.replace(spec, ca_file=None)))


def test_a_certificate_for_another_host(vsftpd_tls: Served) -> None:
    spec = dataclasses.replace(vsftpd_tls.spec, url=vsftpd_tls.spec.url.replace("127.0.0.1", "localhost"))
    with pytest.raises(TargetNotTrusted, match=r"[Hh]ostname mismatch|IP address mismatch"):
        ends(lambda: listed(spec))


def test_a_server_without_tls_is_refused(vsftpd: Served) -> None:
    spec = dataclasses.replace(vsftpd.spec, url=vsftpd.spec.url.replace("ftp:", "ftps:"))
    with pytest.raises(TargetRefused):
        ends(lambda: listed(spec))


def test_tls_can_be_capped(vsftpd_tls: Served) -> None:
    put(vsftpd_tls)
    assert ends(lambda: read_all(dataclasses.replace(vsftpd_tls.spec, tls_max="1.2"))) == DATA


def test_the_control_connection_may_die_when_the_bytes_are_here(vsftpd: Served, tmp_path: Path) -> None:
    put(vsftpd)
    with line_to(port_of(vsftpd), "whole") as line:
        target = make_target(through(vsftpd, line, tmp_path), HASTY)
        with target.open(PATH) as source:
            stream = source.stream(0, 1000, chunk=10)
            next(stream)
            line.over.set()
            line.fault = "refuse"
            assert len(b"".join(stream)) == 990
        target.close()
