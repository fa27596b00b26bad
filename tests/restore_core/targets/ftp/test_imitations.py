"""FTP servers that cannot be installed here, imitated: with each everything works, or one message says why it cannot.

Here some of each sort; `make proof` tries them all.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from restore_core.errors import TargetRefused
from restore_core.targets.kinds import make_target
from tests import servers
from tests.restore_core.targets.conftest import QUICK
from tests.servers import Served
from tests.servers.imitations import IMITATIONS, REFUSED, SAID
from tests.there_and_back import Site

SLICE = (
    "no REST", "REST denied", "REST taken, then 551", "MLSD denied",
    "MLSD without modify and size", "MLSD of type alone, neither SIZE nor MDTM",
    "MLSD with its own folder, and links", "LIST alone, no REST", "LIST of IIS alone", "EPSV alone", "PASV with a private address",
    "425 for a file now and then", "426 in the middle", "421 after each transfer", "hangs up after each transfer", *REFUSED,
)  # fmt: skip


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[Served, Path]]:
    with tempfile.TemporaryDirectory(prefix="phd-") as folder:
        script = Path(folder) / "script.json"
        with servers.pyftpd(Path(folder), script=script) as served:
            yield served, script


def check(name: str, server: tuple[Served, Path], site: Site) -> None:
    """Tries one imitation."""
    served, script = server
    script.write_text(json.dumps({"*": {**IMITATIONS[name], "name": f"{name} {id(site)}"}}))
    try:
        if name in REFUSED:
            site.is_refused(REFUSED[name])
        else:
            assert SAID.get(name, "") in site.works(served.store)
    finally:
        script.unlink()
        for path in served.store.iterdir():
            shutil.rmtree(path)


@pytest.mark.parametrize("name", SLICE)
def test_with_each_imitation_everything_works_or_one_message_says_why_not(
    name: str, server: tuple[Served, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    check(name, server, Site(tmp_path, server[0].spec, monkeypatch, capsys))


def test_a_server_without_passive_mode_is_not_asked_again(server: tuple[Served, Path]) -> None:
    """Its settings forbid it: it was tried again as if it were busy."""
    served, script = server
    script.write_text(json.dumps({"*": IMITATIONS["no passive mode"]}))
    target = make_target(served.spec, QUICK)
    try:
        with pytest.raises(TargetRefused, match="opens no port for data") as caught:
            list(target.listing())
        assert not caught.value.try_again
    finally:
        target.close()
        script.unlink()
