"""What FTP servers say, and what they mean by it: one table of codes and words. Pure: a reply in, a meaning out.

The code alone does not tell: 530 is a wrong password and "too many users", 550 is "no such file", "denied" and "disk full", and
226 ends a listing of which names were left out. All code that looks at a reply asks here. Names that a reply repeats say nothing.
"""

from __future__ import annotations

import enum
import re

from restore_core.targets.remote.words import DENIED, FAILING, FULL
from restore_core.targets.remote.words import words as _words


class Meaning(enum.Enum):
    """What a reply means to us."""

    DONE = enum.auto()
    BUSY = enum.auto()
    """Too many connections or users: later there is room for one more."""
    LOGIN = enum.auto()
    """Wrong user or password, not logged in, or locked out: trying again makes it worse."""
    NEEDS_TLS = enum.auto()
    FULL = enum.auto()
    """No room, or the quota is used up."""
    DENIED = enum.auto()
    ABSENT = enum.auto()
    NOT_KNOWN = enum.auto()
    """The server does not know this command, or not with these words."""
    TEMPORARY = enum.auto()
    REFUSED = enum.auto()


_BUSY = _words(
    r"too many (?:\w+ ){0,3}?(?:connections?|connected|users?|clients?|logins?|logged|sessions?|processes|guests?)"
    r"|too many connection attempts"
    r"|max(?:imum|\.)? (?:allowed |number of |amount of |of |concurrent |simultaneous |\w+ )*(?:connections?|users?"
    r"|clients?|sessions?|logins?)"
    r"|(?:connections?|users?|clients?|sessions?|logins?|usage|access) limits?\b|limit (?:of|on"
    r"|for) .{0,40}(?:connection|user|client|session)"
    r"|already (?:logged in|connected)|no more (?:\w+ )?(?:connections|users|clients|sessions)|no (?:connections?"
    r"|slots?) (?:are )?(?:available|left|free)"
    r"|server (?:is )?(?:too )?(?:full|busy)|only \d+ (?:\w+ )*(?:connections?|users?|clients?|sessions?)"
    r"|(?:the maximum\) are)"
    r"|accept (?:any )?(?:more|further|new) (?:than \d+ )?(?:\w+ )*(?:connections?|users?|clients?|sessions?)"
    r"|exceed\w* (?:the |allowed |maximum |number of |simultaneous |concurrent )*(?:connections?|users?|clients?"
    r"|sessions?|logins?)\b"
    r"|find a listening port|no (?:more |free |passive )*ports? (?:are )?(?:available|left|free)"
)
_LOCKED_OUT = _words(
    r"(?:failed|bad|wrong|invalid|login|password|authentication) (?:login |password )?(?:attempts|tries|logins)|banned"
    r"|black ?list"
)
_NEEDS_TLS = _words(
    r"(?:must|requires?|required|needs?|only) .{0,60}(?:encrypt|\bTLS|\bSSL|secure|AUTH)|(?:encrypt\w*|TLS"
    r"|SSL)\b.{0,40}(?:required|mandatory|needed|only)|clear.?text .{0,60}not (?:accepted|allowed)|reconnect using (?:TLS|SSL)"
    r"|\buse (?:AUTH|FTPS|TLS|SSL|(?:explicit |implicit )?FTP over (?:TLS|SSL))\b"
    r"|(?:insecure|unencrypted) .{0,40}not (?:allowed|accepted)"
)
_NOT_KNOWN = _words(
    r"not (?:been )?(?:implemented|supported|understood|recogni[sz]ed|available in this)|unknown command"
    r"|unrecogni[sz]ed|unimplemented"
    r"|unsupported|command (?:is |was )?disabled|not allowed in ASCII"
)
_IN_USE = _words(
    r"in use|locked|try (?:again|later)|temporar\w+|being used|\bbusy\b|input/output error|stale"
    r"|sharing violation|not connected|host is down|timed out"
)
_OF_THE_PAGE = _words(r"e\.g\.,? (?:file )?not found")
"""RFC 959's own words for 550, which many servers send whatever happened: "File unavailable (e.g., file not found, no access)"."""
_ABSENT = _words(r"no such|not found|not exist|cannot find|can't find|could not find|unknown file")

_TABLE: tuple[tuple[tuple[str, ...], re.Pattern[str], Meaning], ...] = (
    (("2",), FULL, Meaning.FULL),
    (("2", "3"), _words(""), Meaning.DONE),
    (("421", "53", "50"), _LOCKED_OUT, Meaning.LOGIN),
    (("4", "5"), FULL, Meaning.FULL),
    (("421", "42", "43", "45", "10", "50", "53", "550"), _BUSY, Meaning.BUSY),
    (("421", "5"), _NEEDS_TLS, Meaning.NEEDS_TLS),
    (("5",), _NOT_KNOWN, Meaning.NOT_KNOWN),
    (("530", "430", "331", "332"), _words(""), Meaning.LOGIN),
    (("550",), _OF_THE_PAGE, Meaning.ABSENT),
    (("4", "5"), DENIED, Meaning.DENIED),
    (("452", "552"), _words(""), Meaning.FULL),
    (("45", "55"), _ABSENT, Meaning.ABSENT),
    (("5",), _IN_USE, Meaning.TEMPORARY),
    (("553", "532"), _words(""), Meaning.DENIED),
    (("500",), _words(r"OOPS"), Meaning.REFUSED),
    (("500", "501", "502", "504"), _words(""), Meaning.NOT_KNOWN),
    (("550",), _words(""), Meaning.ABSENT),
    (("4",), _words(""), Meaning.TEMPORARY),
)
"""Begin of the code, words, meaning: the first row that fits. What fits none is a refusal."""

_NOT_ALL = _words(
    r"truncat|incomplete|not (?:all|complete)|cut (?:off|short)|fail(?:ed|ure) to|denied|too many|limited to \d|aborted"
    r"|part(?:ial|ly|ially) (?:list|sent)|only the first|left out|omitted|limit (?:was |is )?(?:reached|exceeded)|listing stopped"
    r"|maximum (?:number )?of .{0,20}(?:entries|files|names|lines)|(?:not|n't) (?:be )?(?:shown|listed|read)\b"
    r"|error (?:reading|listing)|read error|only \d+"
)


def meaning_of(reply: object) -> Meaning:
    """Returns what a reply means; an error of ftplib may be given, whose text is the reply."""
    text = str(reply)
    code = text[:3]
    said = _without_names(text[3:])
    for begins, words, meaning in _TABLE:
        if code.startswith(begins) and words.search(said):
            return meaning
    return Meaning.REFUSED


def _without_names(reply: str) -> str:
    """Returns a reply without the names in it: a folder may be called "read-only" or "disk full"."""
    return _NAMES.sub(" ", reply)


_NAMES = re.compile(r"\"[^\"\n]*\"|(?<=[\s'(<\[-])/[^\s/](?:[^\n]*?(?=: )|\S*)")

_WRITING = _words(
    r"(?:fail\w*|error)(?: \w+){0,2} writ(?:e|ing)\b(?: \w+){0,3} (?:file|disk)|writ(?:e|ing) (?:error|fail\w*)|short write"
)
_IN_A_TRANSFER = ("426", "451")


def not_written_by(reply: str) -> bool:
    """Whether a refusal says that the server could not write to its disk. Real servers say no more of a full one."""
    said = _without_names(reply)
    return _WRITING.search(said) is not None or (reply.startswith(_IN_A_TRANSFER) and FAILING.search(said) is not None)


_EMPTY = _words(
    r"no (?!such)(?:\w+ )?(?:files?|entries)(?: or director\w+)?(?: (?:were |are )?(?:found|here|there|match\w*))?\W*$"
    r"|(?:folder|directory) is empty"
)


def is_empty_by(reply: str) -> bool:
    """Whether a server refuses to list a folder, which it has entered, since there is nothing in it: "550 No files found"."""
    return reply.startswith(("450", "550")) and _EMPTY.search(_without_names(reply)) is not None


_CLOSED = _words(r"denied|fail(?:ed|ure) to open|(?:can|could) ?(?:not|n't|'t) (?:be )?(?:open|read)")


def closed_by(reply: str) -> bool:
    """Whether such a reply says that the folder may not be read; else the server has a limit, or gave up."""
    return _CLOSED.search(_without_names(reply)) is not None


def not_all_by(reply: str) -> bool:
    """Whether a reply whose code means success says that names were left out of the listing, or the folder could not be read."""
    return _NOT_ALL.search(_without_names(reply)) is not None
