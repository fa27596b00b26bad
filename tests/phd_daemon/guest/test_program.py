"""What the child can still do when it reads a guest's file system: nothing but that."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from phd_daemon.guest.program import MEMORY
from phd_daemon.worker import sandbox

ROOT = Path(__file__).resolve().parents[3]
TRIES = """
import json, os, resource, socket, subprocess, sys
from phd_daemon.guest.program import give_up_rights, import_all
for each in ("ext4", "FAT16"):
    import_all(each)
ours, its = socket.socketpair()
give_up_rights()
TRIES = {
    "read a file": lambda: open("/etc/hostname").read(),
    "read a file of this user": lambda: open(sys.argv[1] + "/secret").read(),
    "list a folder": lambda: os.listdir("/"),
    "write a file": lambda: open(sys.argv[1] + "/new", "w"),
    "remove a file": lambda: os.unlink(sys.argv[1] + "/secret"),
    "execute": lambda: os.execv("/bin/true", ["true"]),
    "make a socket": lambda: socket.socket(socket.AF_INET),
    "make a Unix socket": lambda: socket.socket(socket.AF_UNIX),
    "signal its parent": lambda: os.kill(os.getppid(), 0),
    "take more memory": lambda: bytearray(2 << 30),
}
found = {}
for name, attempt in TRIES.items():
    try:
        attempt()
        found[name] = "done"
    except MemoryError:
        found[name] = "refused"
    except OSError as error:
        found[name] = "refused" if error.errno in (1, 13) else str(error)
ours.sendall(b"x")
found["talk to its parent"] = "done" if its.recv(1) == b"x" else "refused"
print(json.dumps({"found": found, "uid": os.geteuid(), "memory": resource.getrlimit(resource.RLIMIT_AS)}), flush=True)
os._exit(0)
"""


def test_it_opens_nothing_and_still_talks_to_its_parent(tmp_path: Path) -> None:
    means = sandbox.available()
    if means.landlock < 6 or not means.seccomp:
        pytest.skip(f"this kernel has no Landlock ABI 6 and seccomp: {means}")
    (tmp_path / "secret").write_text("secret")
    command = [sys.executable, "-c", TRIES, str(tmp_path)]
    ran = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True, timeout=60)
    said = json.loads(ran.stdout)
    found = said["found"]
    assert found.pop("talk to its parent") == "done"
    assert set(found.values()) == {"refused"}, found
    assert said["memory"] == [MEMORY, MEMORY]
    assert said["uid"] == (65534 if os.geteuid() == 0 else os.geteuid())
    assert resource.getrlimit(resource.RLIMIT_AS)[0] != MEMORY, "only the child is limited"
