"""`sh DELTA restore --full URL`: streamed by whatever is there, without a copy, no password in anybody's arguments."""

from __future__ import annotations

import http.server
import os
import shutil
import subprocess
import threading
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import servers
from tests.lab import Lab
from tests.restore_core.archive.stub_shell import SMALL_TOOLS, full_path, path_of, sh, small_case, two_backups


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves a folder, wants a password where the path begins with /private, and breaks off where it begins with /broken."""

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        if self.path.startswith("/private") and self.headers.get("Authorization") != "Basic cm9uOmEiYlxjIGQ=":
            self.send_error(401)
            return
        top = self.path.split("/")[1]
        self.path = self.path.removeprefix("/private")
        if top == "broken":
            whole = (Path(self.directory) / urllib.parse.unquote(self.path.removeprefix("/broken/"))).read_bytes()
            self.send_response(200)
            self.send_header("Content-Length", str(len(whole)))
            self.end_headers()
            self.wfile.write(whole[: len(whole) // 2])
            return
        super().do_GET()


@pytest.fixture
def case(lab: Lab) -> tuple[Path, Path, bytes]:
    """A Delta without its Full, the Full in a folder `served`, and the disk."""
    old, new = small_case()
    made, delta = two_backups(lab, old, new)
    served = lab.folder / "served"
    served.mkdir()
    full_path(lab, made).rename(served / "full x.phd")
    return delta, served / "full x.phd", new


@pytest.fixture
def server(case: tuple[Path, Path, bytes]) -> Iterator[str]:
    def handler(*arguments: object) -> Quiet:
        return Quiet(*arguments, directory=str(case[1].parent))  # type: ignore[arg-type]  # what the server passes on

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as httpd:
        threading.Thread(target=httpd.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{httpd.server_port}"
        httpd.shutdown()


def need(*names: str) -> None:
    for name in names:
        if shutil.which(name, path=servers.PATH) is None:
            pytest.skip(f"{name} is not installed")


@pytest.mark.parametrize("tool", ["curl", "wget", "lynx", "busybox"])
def test_http_by_each_tool(case: tuple[Path, Path, bytes], server: str, lab: Lab, tool: str) -> None:
    need(tool)
    delta, _, new = case
    env = {"PATH": path_of(lab.folder / "bin", *SMALL_TOOLS, tool)}
    ran = sh(delta, "restore", "--to", lab.folder / "x.img", "--full", f"http://{server}/full%20x.phd", env=env)
    assert ran.returncode == 0, ran.stderr
    assert (lab.folder / "x.img").read_bytes() == new
    ran = sh(delta, "verify", "--full", f"http://{server}/full%20x.phd", env=env)
    assert (ran.returncode, ran.stdout.count("has its SHA-256")) == (0, 2)


@pytest.mark.parametrize("tool", ["curl", "wget", "busybox"])
def test_ftp_by_each_tool(case: tuple[Path, Path, bytes], lab: Lab, tool: str) -> None:
    need(tool, "vsftpd")
    delta, full, new = case
    full.rename(full.with_name("full.phd"))
    env = {"PATH": path_of(lab.folder / "bin", *SMALL_TOOLS, tool), "HOME": str(lab.folder)}
    with servers.vsftpd(lab.folder, full.parent) as served:
        url = "/".join(served.spec.url.split("/")[:3])  # a path in an FTP URL starts where the login leads
        ran = sh(delta, "restore", "--to", lab.folder / "x.img", "--full", f"{url}/full.phd", env=env)
        assert ran.returncode == 0, ran.stderr
        assert sh(delta, "verify-full", "--full", f"{url}/nothing.phd", env=env).returncode == 69
    assert (lab.folder / "x.img").read_bytes() == new


@pytest.mark.parametrize("tool", ["curl", "wget"])
def test_ftp_with_a_password_from_netrc(case: tuple[Path, Path, bytes], lab: Lab, tool: str) -> None:
    need(tool)
    env = {"PATH": path_of(lab.folder / "bin", *SMALL_TOOLS, tool), "HOME": str(lab.folder)}
    with servers.pyftpd(lab.folder) as served:
        shutil.copy(case[1], served.store / "full.phd")
        url = f"{served.spec.url}full.phd"
        assert sh(case[0], "verify-full", "--full", url, env=env).returncode == 69
        (lab.folder / ".netrc").write_text(f"machine 127.0.0.1 login {servers.USER} password {servers.PASSWORD}\n")
        ran = sh(case[0], "verify-full", "--full", url, env=env)
        assert ran.returncode == 0, ran.stderr


def test_sftp_from_a_real_server(case: tuple[Path, Path, bytes], lab: Lab) -> None:
    need("ssh", "sshd")
    delta, full, new = case
    with servers.sshd(lab.folder, full.parent) as served:
        env = {"PATH": path_of(lab.folder / "bin", *SMALL_TOOLS)}
        options = f"-o UserKnownHostsFile={served.spec.known_hosts} -o BatchMode=yes -i {served.spec.key_file}"
        (lab.folder / "bin" / "ssh").write_text(f'#!/bin/sh\nexec {shutil.which("ssh")} {options} "$@"\n')
        (lab.folder / "bin" / "ssh").chmod(0o755)
        ran = sh(delta, "restore", "--to", lab.folder / "x.img", "--full", f"{served.spec.url}/full%20x.phd", env=env)
    assert ran.returncode == 0, ran.stderr
    assert (lab.folder / "x.img").read_bytes() == new


@pytest.mark.parametrize("tool", ["curl", "wget", "lynx", "busybox"])
@pytest.mark.parametrize("what", ["nothing.phd", "broken/full x.phd"])
def test_http_that_fails(case: tuple[Path, Path, bytes], server: str, lab: Lab, tool: str, what: str) -> None:
    need(tool)
    env = {"PATH": path_of(lab.folder / "bin", *SMALL_TOOLS, tool)}
    url = f"http://{server}/{what}".replace(" ", "%20")
    ran = sh(case[0], "restore", "--to", lab.folder / "x.img", "--full", url, env=env)
    assert ran.returncode in (65, 69)
    assert ran.returncode == 69 or tool == "lynx", ran.stderr
    assert not list(lab.folder.glob("x.img*"))


def test_a_password_from_netrc(case: tuple[Path, Path, bytes], server: str, lab: Lab) -> None:
    need("curl")
    home = lab.folder / "home"
    home.mkdir()
    (home / ".netrc").write_text('machine 127.0.0.1 login ron password "a\\"b\\\\c d"\n')
    (home / ".netrc").chmod(0o600)
    for user in ("", "ron@"):
        url = f"http://{user}{server}/private/full%20x.phd"
        ran = sh(case[0], "verify-full", "--full", url, env={"HOME": str(home)})
        assert ran.returncode == 0, ran.stderr


def test_a_password_in_the_url_is_refused(case: tuple[Path, Path, bytes]) -> None:
    ran = sh(case[0], "verify-full", "--full", "ftp://ron:secret@127.0.0.1/full.phd")
    assert (ran.returncode, "netrc" in ran.stderr, "secret" in ran.stderr) == (2, True, False)


def test_a_typed_password_is_in_nobodys_arguments(case: tuple[Path, Path, bytes], lab: Lab) -> None:
    """The script's own tools are watched: each notes its arguments; curl notes its standard input too."""
    need("script")
    tools, seen = lab.folder / "bin", lab.folder / "seen"
    path = path_of(tools, *SMALL_TOOLS, "stty", "sleep")
    for name in os.listdir(tools):
        real = os.path.realpath(tools / name)
        (tools / name).unlink()
        (tools / name).write_text(f'#!/usr/bin/bash -p\necho {name} "$@" >> {seen}\nexec {real} "$@"\n')
        (tools / name).chmod(0o755)
    (tools / "curl").write_text(f'#!/usr/bin/bash -p\necho curl "$@" >> {seen}\ncat > {seen}.config\ncat "{case[1]}"\n')
    (tools / "curl").chmod(0o755)
    command = f"{shutil.which('dash')} '{case[0]}' verify-full --full ftp://ron@127.0.0.1/full.phd"
    ran = subprocess.run(
        [shutil.which("script") or "script", "-qec", command, "/dev/null"],
        input='se"cr\\et word\n',
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PATH": path},
    )
    assert ran.returncode == 0, ran.stdout
    assert "cr\\et" not in seen.read_text()
    assert (lab.folder / "seen.config").read_text() == ('url = "ftp://ron@127.0.0.1/full.phd"\nuser = "ron:se\\"cr\\\\et word"\n')


def test_sftp_through_ssh(case: tuple[Path, Path, bytes], lab: Lab) -> None:
    """ssh is played by a program that notes what it was asked and lets a shell do it, as sshd does."""
    delta, full, new = case
    odd = full.with_name("it's $(x) full.phd")
    full.rename(odd)
    tools = lab.folder / "bin"
    env = {"PATH": path_of(tools, *SMALL_TOOLS)}
    (tools / "ssh").write_text(f'#!/bin/sh\necho "$@" > {lab.folder}/asked\nfor last; do :; done\nexec sh -c "$last"\n')
    (tools / "ssh").chmod(0o755)
    url = f"sftp://ron@host:2222{odd.parent}/it's%20$(x)%20full.phd"
    ran = sh(delta, "restore", "--to", lab.folder / "x.img", "--full", url, env=env)
    assert ran.returncode == 0, ran.stderr
    assert (lab.folder / "x.img").read_bytes() == new
    assert (lab.folder / "asked").read_text().startswith("-p 2222 ron@host cat -- '")
    assert sh(delta, "verify-full", "--full", "sftp://-oProxyCommand=x/full.phd", env=env).returncode == 2
    assert sh(delta, "verify-full", "--full", "sftp://host/nothing.phd", env=env).returncode == 69


def test_nothing_to_fetch_with(case: tuple[Path, Path, bytes], lab: Lab) -> None:
    env = {"PATH": path_of(lab.folder / "bin", *SMALL_TOOLS)}
    ran = sh(case[0], "verify-full", "--full", "http://127.0.0.1/x", env=env)
    assert (ran.returncode, "none of curl, wget and lynx" in ran.stderr) == (69, True)
    assert sh(case[0], "verify-full", "--full", "gopher://x/y", env=env).returncode == 2
