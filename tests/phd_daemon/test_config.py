"""phd.toml: the shipped sample is the defaults, and every mistake is named with its line."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import re
import tomllib
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import BaseModel

from phd_daemon.config.load import load_config, parse_config
from phd_daemon.config.model import Config, ConfigFile, SubmitterLimits, TargetTable, needs_restart
from restore_core.errors import ConfigurationError, ExitCode

SAMPLE = Path(__file__).parents[2] / "etc/phd/phd.toml"
HERE = Path("/x/phd.toml")


def parse(text: str) -> Config:
    return parse_config(text.encode(), HERE)


def problems(text: str) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        parse(text)
    assert caught.value.exit_code is ExitCode.CONFIGURATION
    return caught.value.message.splitlines()


def test_the_sample_is_the_defaults() -> None:
    sample, defaults = load_config(SAMPLE), parse("")
    assert dataclasses.replace(sample, source=HERE) == defaults


def _keys(model: type[BaseModel]) -> dict[str, object]:
    """Every key of the model, tables as dicts."""
    named: dict[str, type[BaseModel]] = {"targets": TargetTable, "submitters": SubmitterLimits} if model is ConfigFile else {}
    tables = {key: {"NAME": _keys(table)} for key, table in named.items()}
    keys: dict[str, object] = {}
    for name, field in model.model_fields.items():
        nested = isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
        keys[name] = _keys(field.annotation) if nested else tables.get(name)  # type: ignore[arg-type]  # nested says it is a model
    return keys


def _shape(value: object) -> object:
    return {key: _shape(inner) for key, inner in value.items()} if isinstance(value, dict) else None


def test_every_key_stands_in_the_sample_and_has_a_comment() -> None:
    text = SAMPLE.read_text()
    whole = re.sub(r"(?m)^#(?=\S)", "", text)
    assert _shape(tomllib.loads(whole)) == _keys(ConfigFile)
    lines = text.splitlines()
    for before, line in itertools.pairwise(lines):
        if re.match(r"#?[a-z_]+ = ", line):
            assert before.startswith("# "), f"no comment above: {line}"


def test_the_examples_in_the_sample_are_the_defaults_too() -> None:
    whole = re.sub(r"(?m)^#(?=\S)", "", SAMPLE.read_text()).replace(".NAME]", ".name]")
    config = parse(whole)
    assert config.queue.submitter_limits == {"name": SubmitterLimits()}
    target = config.targets[0]
    assert (target.name, target.timezone, target.bandwidth) == ("name", "UTC", 0)


def test_values_become_plain_types() -> None:
    config = parse(
        """
        [queue]
        purge_after = "2w"
        workers = 4
        submitters = ["root", "@ops"]
        [submitters."@ops"]
        destinations = ["/vmfs/volumes/A/ops"]
        [datastores]
        roots = ["/a", "/b"]
        mode = "0640"
        [targets.nas-1]
        url = "file:///esxpress/backups"
        bandwidth = "40MB/s"
        timezone = "Europe/Vienna"
        """
    )
    assert config.queue.purge_after == 14 * 86400
    assert config.queue.submitter_limits["@ops"] == SubmitterLimits(destinations=(Path("/vmfs/volumes/A/ops"),), overwrite=False)
    assert config.datastores.roots == (Path("/a"), Path("/b"))
    assert config.datastores.mode == 0o640
    assert [(t.name, t.bandwidth, t.timezone) for t in config.targets] == [("nas-1", 40_000_000, "Europe/Vienna")]
    assert config.source == HERE


def test_all_problems_at_once_each_with_its_line() -> None:
    found = problems(
        'stat_dir = "/x"\n[queue]\nworkers = 9\nenabled = "yes"\nsubmitters = ["root", "a b"]\npurge_after = 30\n'
        '[datastores]\nroots = []\nmode = "9"\n'
        '[targets.Nas]\nurl = "file:///x"\n[targets.x]\nbandwith = "3"\n[backup]\nstaging_dir = "tmp"\n'
    )
    assert [line.split(": ", 2)[:2] for line in found] == [
        ["/x/phd.toml:1", "stat_dir"],
        ["/x/phd.toml:3", "queue.workers"],
        ["/x/phd.toml:4", "queue.enabled"],
        ["/x/phd.toml:5", "queue.submitters.1"],
        ["/x/phd.toml:6", "queue.purge_after"],
        ["/x/phd.toml:8", "datastores.roots"],
        ["/x/phd.toml:9", "datastores.mode"],
        ["/x/phd.toml:10", "targets.Nas"],
        ["/x/phd.toml:12", "targets.x.url"],
        ["/x/phd.toml:13", "targets.x.bandwith"],
        ["/x/phd.toml:15", "backup.staging_dir"],
    ]
    assert found[0].endswith("(did you mean 'state_dir'?)")
    assert found[9].endswith("(did you mean 'bandwidth'?)")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[queue]\nworkers = 1\nworkers = 2\n", "/x/phd.toml:3: not TOML: Cannot overwrite a value"),
        ("[queue\n", "/x/phd.toml:1: not TOML"),
        ("queue = 3\n", "/x/phd.toml:1: queue: must be a table"),
        ("[queue]\nworkers = true\n", "/x/phd.toml:2: queue.workers: must be a whole number"),
        ("[queue]\nworkers = 0\n", "/x/phd.toml:2: queue.workers: must be at least 1"),
        (
            '[targets.a]\nurl = "smb://h/x"\n',
            "/x/phd.toml:2: targets.a.url: smb: this version serves file://, ftp://, ftps://, sftp:// only",
        ),
        ('[targets.a]\nurl = "sftp://h/x"\n', "/x/phd.toml:2: targets.a.url: names no user"),
        ('[targets.a]\nurl = "ftp:///x"\n', "/x/phd.toml:2: targets.a.url: a server is written"),
        ('[targets.a]\nurl = "ftp://h:99999/x"\n', "/x/phd.toml:2: targets.a.url: a server is written"),
        ('[targets.a]\nurl = "ftp://h"\n', "/x/phd.toml:2: targets.a.url: names no folder"),
        ('[targets.a]\nurl = "ftp://h/x?y"\n', "/x/phd.toml:2: targets.a.url: contains a ? or a #"),
        ('[targets.a]\nurl = "ftp://h/x%0d%0aDELE%20y"\n', "/x/phd.toml:2: targets.a.url: contains a control character"),
        ('[targets.a]\nurl = "ftp://h/../y"\n', "/x/phd.toml:2: targets.a.url: contains a control character, or '..'"),
        ('[targets.a]\nurl = "sftp://u@h/x"\nkey_file = "/k"\n', "/x/phd.toml:1: targets.a: sftp needs known_hosts"),
        ('[targets.a]\nurl = "sftp://u@h/x"\nknown_hosts = "/k"\n', "/x/phd.toml:1: targets.a: sftp needs key_file or password"),
        ('[targets.a]\nurl = "ftps://u@h/x"\nkey_file = "/k"\n', "/x/phd.toml:1: targets.a: ftps cannot log in with a key"),
        ('[targets.a]\nurl = "ftp://h/x"\npassword_file = "/k"\n', "/x/phd.toml:1: targets.a: password_file without a user"),
        ('[targets.a]\nurl = "ftps://h/x"\ntls_max = "1.1"\n', '/x/phd.toml:3: targets.a.tls_max: must be "1.2", or left out'),
        ('[targets.a]\nurl = "file://host/x"\n', "/x/phd.toml:2: targets.a.url: a folder is written with three slashes"),
        ('[targets.a]\nurl = "file:///x"\ntimezone = "Mars"\n', "/x/phd.toml:3: targets.a.timezone: 'Mars' is not a time zone"),
        ('[index]\nmax_age = "0h"\n', "/x/phd.toml:2: index.max_age: must be a number and one of"),
        ('[datastores]\nroots = ["/a", "/"]\n', "/x/phd.toml:2: datastores.roots.1: must not be /"),
        ('state_dir = "/a/../b"\n', "/x/phd.toml:1: state_dir: must be a path"),
    ],
)
def test_one_problem(text: str, expected: str) -> None:
    (found,) = problems(text)
    assert found.startswith(expected)


def test_a_missing_file_of_trusted_servers_is_named_with_the_line_to_write() -> None:
    (found,) = problems('[targets.a]\nurl = "sftp://u@h/x"\nkey_file = "/k"\n')
    assert 'write known_hosts = "/etc/phd/known_hosts"' in found


def test_servers_and_what_they_need() -> None:
    config = parse(
        """
        [backup]
        staging_dir = "/big"
        [targets.a]
        url = "sftp://me@nas:2222/back%20ups"
        key_file = "/k"
        known_hosts = "/h"
        [targets.b]
        url = "ftps://nas/x"
        ca_file = "/c"
        tls_max = "1.2"
        """
    )
    a, b = config.targets
    assert (a.key_file, a.known_hosts, a.password_file, a.staging_dir) == ("/k", "/h", None, "/big")
    assert (b.ca_file, b.tls_max) == ("/c", "1.2")


def test_a_credential_of_the_service_is_the_password(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = '[targets.a]\nurl = "sftp://me@nas/x"\nknown_hosts = "/h"\n[targets.b]\nurl = "ftp://me@nas/x"\npassword_file = "/p"\n'
    (tmp_path / "a").write_text("secret")
    (tmp_path / "b").write_text("secret")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert [target.password_file for target in parse(text).targets] == [str(tmp_path / "a"), "/p"]


def test_not_utf8_has_its_line() -> None:
    with pytest.raises(ConfigurationError, match=r"/x/phd\.toml:2: not UTF-8: byte 0xff"):
        parse_config(b"# ok\n\xff", HERE)


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("sftp://u:canary@h/x", "contains a password"),
        ("file://u:canary@/x", "contains a password"),
        ("sftp://u:canary@[/x", "is not a URL"),
    ],
)
def test_a_password_in_a_url_is_refused_and_not_repeated(url: str, why: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse(f'[targets.a]\nurl = "{url}"\n')
    assert "canary" not in str(caught.value)
    assert why in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


def test_where_the_file_comes_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    named, other = tmp_path / "a.toml", tmp_path / "b.toml"
    named.write_text("[queue]\nworkers = 2\n")
    other.write_text("[queue]\nworkers = 3\n")
    monkeypatch.setenv("PHD_CONFIG", str(other))
    assert load_config(named).queue.workers == 2
    assert load_config(None).queue.workers == 3
    monkeypatch.setenv("PHD_CONFIG", str(tmp_path / "none"))
    with pytest.raises(ConfigurationError, match="there is no such file"):
        load_config(None)
    with pytest.raises(ConfigurationError, match="regular file"):
        load_config(tmp_path)
    monkeypatch.delenv("PHD_CONFIG")
    monkeypatch.setattr("phd_daemon.config.load.DEFAULT_PATH", tmp_path / "none")
    assert load_config(None).source is None


def test_what_needs_a_restart() -> None:
    old = parse("")
    assert needs_restart(old, parse("[queue]\nworkers = 3\n")) == ()
    assert needs_restart(old, parse('state_dir = "/a"\n[queue]\nspool = "/b"\n')) == ("queue.spool", "state_dir")


def test_settings_cannot_be_changed() -> None:
    config = parse("")
    with pytest.raises(ValueError, match="frozen"):
        config.queue.workers = 3


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
@example(b"[targets]\nx = 1\n")
@example(b'[targets.a]\nurl = "file:///x"\nbandwidth = 99999999999999999999999999\n')
@example(b"submitters = [[[[[[{a = nan}]]]]]]")
@example(b"[queue]\nworkers = 1e400\npurge_after = 1979-05-27\n")
def test_any_bytes_are_settings_or_one_error(text: bytes) -> None:
    with contextlib.suppress(ConfigurationError):
        assert parse_config(text, HERE).source == HERE
