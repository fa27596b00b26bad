"""What servers say: the words of real programs, each with what it means to us."""

from __future__ import annotations

import pytest

from restore_core.targets.ftp.replies import Meaning, meaning_of

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
    ],
    Meaning.DENIED: [
        "550 Permission denied.",
        "550 Can't create directory: Permission denied",
        "550 Access is denied. ",
        "550 /a: Read-only file system",
        "553 Could not create file.",
        "450 .: Permission denied",
    ],
    Meaning.ABSENT: [
        "550 Can't change directory to x: No such file or directory",
        "550 Could not get file size.",
        "550 The system cannot find the file specified. ",
        "450 x: No such file or directory",
    ],
    Meaning.NOT_KNOWN: [
        "502 Command not implemented.",
        "500 'REST': command not understood",
        "504 x",
        "550 SIZE not allowed in ASCII mode",
    ],
    Meaning.NEEDS_TLS: ["530 Non-anonymous sessions must use encryption.", "550 SSL/TLS required on the control channel"],
    Meaning.TEMPORARY: [
        "421 Timeout.",
        "425 Failed to establish connection.",
        "550 The process cannot access the file because it is being used by another process.",
    ],
    Meaning.REFUSED: ["500 OOPS: vsftpd: x", "599 x"],
    Meaning.DONE: ["226 Transfer complete", "220 ProFTPD", "331 Password required"],
}


@pytest.mark.parametrize(("meaning", "reply"), [(meaning, reply) for meaning, replies in SAID.items() for reply in replies])
def test_a_reply_means_what_its_code_and_its_words_say_together(meaning: Meaning, reply: str) -> None:
    """530 was a wrong password, 552 missing rights and 550 an absent file, whatever the words were."""
    assert meaning_of(reply) is meaning
