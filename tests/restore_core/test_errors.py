"""The advice of an error of the system depends on which error it is."""

from __future__ import annotations

import errno
import os

import pytest

from restore_core.errors import DestinationError, TryAgainLater, from_os_error

_SPEAKS_OF = {
    errno.ENOSPC: "Free space",
    errno.EDQUOT: "quota",
    errno.ENOENT: "does not exist",
    errno.ENOTDIR: "is a file",
    errno.EISDIR: "is a folder",
    errno.ELOOP: "links",
    errno.ENAMETOOLONG: "shorter name",
    errno.EROFS: "read-only",
    errno.EACCES: "right",
    errno.EPERM: "forbids",
    errno.EFBIG: "as large",
    errno.EMFILE: "LimitNOFILE",
    errno.ENFILE: "fs.file-max",
    errno.ENOMEM: "memory",
    errno.EIO: "dmesg",
    errno.ESTALE: "anew",
    errno.ETIMEDOUT: "in time",
    errno.EBUSY: "fuser",
}


@pytest.mark.parametrize("number", _SPEAKS_OF, ids=lambda number: errno.errorcode[number])
def test_the_advice_is_about_the_error_that_was_found(number: int) -> None:
    remedy = from_os_error(OSError(number, os.strerror(number)), doing="writing", where="/a").remedy
    assert _SPEAKS_OF[number] in remedy
    others = {from_os_error(OSError(other, ""), doing="writing", where="/a").remedy for other in _SPEAKS_OF if other != number}
    assert remedy not in others


@pytest.mark.parametrize("number", sorted(errno.errorcode))
def test_every_error_of_the_system_gets_an_advice_and_none_of_rights_or_space_that_does_not_fit(number: int) -> None:
    error = from_os_error(OSError(number, os.strerror(number)), doing="writing", where="/a")
    assert isinstance(error, DestinationError | TryAgainLater)
    assert error.remedy
    assert ("Free space" in error.remedy) <= (number in (errno.ENOSPC, errno.EDQUOT))
    assert ("Give this user" in error.remedy) <= (number == errno.EACCES)
