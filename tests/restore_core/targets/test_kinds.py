"""The table of kinds: which options of a target do something."""

from __future__ import annotations

import pytest

from restore_core.targets.base import TargetSpec
from restore_core.targets.kinds import KINDS, idle_options

OPTIONS = ("key_file", "password_file", "known_hosts", "ca_file", "tls_max")
URLS = {"file": "file:///x", "sftp": "sftp://u@h/x", "ftp": "ftp://u@h/x", "ftps": "ftps://u@h/x"}


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("scheme", sorted(KINDS))
def test_an_option_that_a_kind_does_not_use_is_named_with_the_kinds_that_do(scheme: str, option: str) -> None:
    value = "1.2" if option == "tls_max" else "/x"
    found = list(idle_options(TargetSpec(name="a", url=URLS[scheme], **{option: value})))  # type: ignore[arg-type]  # by name
    if option in KINDS[scheme].options:
        assert found == []
        return
    (words,) = found
    assert words.startswith(f"{option} does nothing for {scheme}://; it is for ")
    for other, kind in KINDS.items():
        assert (f" {other}://" in words.partition(";")[2]) == (option in kind.options)


def test_what_every_kind_uses_is_never_idle() -> None:
    for url in URLS.values():
        assert list(idle_options(TargetSpec(name="a", url=url, timezone="Europe/Berlin", bandwidth=1 << 20))) == []
