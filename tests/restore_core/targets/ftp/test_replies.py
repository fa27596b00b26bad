"""What servers say: the words of real programs, each with what it means to us."""

from __future__ import annotations

import pytest

from restore_core.errors import TargetFull, TargetRefused, TargetUnavailable
from restore_core.targets.ftp.refusal import refusal
from restore_core.targets.ftp.replies import Meaning, is_empty_by, meaning_of, not_all_by

SAID = {
    Meaning.BUSY: [
        "530 Sorry, the maximum number of clients (1) for this user are already connected.",
        "530 User x cannot log in: too many users from your IP",
        "530 User cannot log in, connection limit reached",
        "530 User access denied due to usage limits",
        "530 Sorry, no more connections allowed from your host",
        "421 There are too many connections from your internet address.",
        "421 There are too many connected users, please try later.",
        "421 8 users (the maximum) are already logged in, sorry",
        "421 Too many connections (2) from this IP",
        "421 Maximum session limit reached",
        "421 Sorry, cannot accept any more connections from your IP",
        "530 No more anonymous connections allowed",
        "421 Unable to accept more clients",
        "530 The user has exceeded the number of simultaneous connections",
    ],
    Meaning.LOGIN: [
        "530 Login incorrect.",
        "530 Permission denied.",
        "530 Please login with USER and PASS.",
        "530 Too many failed login attempts",
        "421 Too many login attempts, you are banned",
    ],
    Meaning.FULL: [
        "552 Disk full - please upload later",
        "552-Quota exceeded: [a] won't be saved\n552 x",
        "552 Requested file action aborted",
        "452 Insufficient storage space",
        "451 Disk quota exceeded",
        "426 Failure writing network stream; disk full",
        "550 x: No space left on device",
        "550 Error: There is not enough space on the disk.",
        "553 Disk full",
        "226 Transfer aborted, quota exceeded",
        "550 Storage limit reached for this account",
    ],
    Meaning.DENIED: [
        "550 Permission denied.",
        "550 Can't create directory: Permission denied",
        "550 Access is denied. ",
        "550 /a: Read-only file system",
        "553 Could not create file.",
        "450 .: Permission denied",
        "550 You don't have permission to do this",
        "550 /disk full/x: Permission denied",
    ],
    Meaning.ABSENT: [
        "550 Can't change directory to x: No such file or directory",
        "550 Could not get file size.",
        "550 The system cannot find the file specified. ",
        "450 x: No such file or directory",
        "550 /srv/read-only/x.phd: No such file or directory",
        "550 Can't change directory to /too many users/a b: No such file or directory",
        "550 Requested action not taken. File unavailable (e.g., file not found, no access).",
    ],
    Meaning.NOT_KNOWN: [
        "502 Command not implemented.",
        "500 'REST': command not understood",
        "504 x",
        "550 SIZE not allowed in ASCII mode",
    ],
    Meaning.NEEDS_TLS: [
        "530 Non-anonymous sessions must use encryption.",
        "550 SSL/TLS required on the control channel",
        "503 Use AUTH first.",
        "530 You have to use explicit FTP over TLS",
        "530 Insecure connection not allowed",
    ],
    Meaning.TEMPORARY: [
        "421 Timeout.",
        "425 Failed to establish connection.",
        "550 The process cannot access the file because it is being used by another process.",
        "550 /x: Transport endpoint is not connected",
        "550 Sharing violation",
    ],
    Meaning.REFUSED: ["500 OOPS: vsftpd: x", "599 x"],
    Meaning.DONE: ["226 Transfer complete", "220 ProFTPD", "331 Password required", '257 "/a/disk full" created'],
}


@pytest.mark.parametrize(("meaning", "reply"), [(meaning, reply) for meaning, replies in SAID.items() for reply in replies])
def test_a_reply_means_what_its_code_and_its_words_say_together(meaning: Meaning, reply: str) -> None:
    """530 was a wrong password, 552 missing rights and 550 an absent file, whatever the words were."""
    assert meaning_of(reply) is meaning


@pytest.mark.parametrize(
    "reply",
    [
        "451 Failure writing to local file.",
        "426 Failure writing to local file.",
        "451-Error during write to file\n451-Transfer aborted\n451 0.000 seconds",
        "451 Transfer aborted. Input/output error",
        "550 Write error",
    ],
)
def test_a_server_that_could_not_write_to_its_disk_has_no_room_until_it_is_known_better(reply: str) -> None:
    """vsftpd, pure-ftpd and proftpd say so of a full disk, and no more: it was "may be temporary", exit code 69."""
    found = refusal("t:f/x", reply, writing=True)
    assert isinstance(found, TargetFull)
    assert "a full disk, and of one that fails" in found.message
    assert not isinstance(refusal("t:f/x", reply, writing=False), TargetFull)


@pytest.mark.parametrize("reply", ["426 Failure reading network stream.", "426 Failure writing network stream.", "451 Timeout"])
def test_a_broken_network_is_no_full_disk(reply: str) -> None:
    assert type(refusal("t:f/x", reply, writing=True)) is TargetUnavailable


def test_a_read_only_file_system_is_not_a_matter_of_rights() -> None:
    found = refusal("t:f", "550 /read only: Read-only file system", writing=True)
    assert isinstance(found, TargetRefused)
    assert found.remedy == "Mount it there so that it can be written."


@pytest.mark.parametrize(
    ("reply", "part"),
    [
        ("226 Listing stopped: maximum of 10000 entries reached", True),
        ("226 (limit reached)", True),
        ("226 Some directories could not be read", True),
        ("226 Error reading directory", True),
        ("226 Transfer complete (unlimited quota, full speed)", False),
        ('226 Successfully transferred "/too many vms/aborted"', False),
        ("226 12 matches total", False),
    ],
)
def test_a_listing_is_partial_by_the_words_of_the_server_and_not_by_names_in_them(reply: str, part: bool) -> None:
    assert not_all_by(reply) is part


@pytest.mark.parametrize(
    ("reply", "empty"),
    [
        ("550 No files found.", True),
        ("450 No files found", True),
        ("550 No files or directories found.", True),
        ("550 No files.", True),
        ("450 Directory is empty", True),
        ("550 No such file or directory", False),
        ("550 No such file.", False),
        ("550 No such files found.", False),
        ("550 No files may be listed here", False),
        ("450 .: Permission denied", False),
        ("550 File not found", False),
        ('550 "/a is empty": not found', False),
        ("421 No files found", False),
    ],
)
def test_a_folder_with_nothing_in_it_is_known_by_the_words_of_the_refusal(reply: str, empty: bool) -> None:
    """A new target on such a server was "its folder is not there"."""
    assert is_empty_by(reply) is empty
