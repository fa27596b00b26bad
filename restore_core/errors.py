"""Every error this product raises on purpose, and what each one means to a caller.

    PhdError                         exit  try again?
    ├── UsageError                     2   never   the command line cannot mean anything
    ├── BadData                       65   never   what lies there is not what it must be
    │   ├── BadArchive                             an archive, or a section of one
    │   │   ├── NotThisFull                        a Full, but of another Delta
    │   │   └── BlockMismatch                      one block whose digest differs
    │   ├── BadControlFile                         a control file, with its line
    │   └── BadRule                                a line of vmdks.auto
    ├── TargetUnavailable             69   later   the target does not answer
    │   ├── ArchiveAbsent             69   never   the target answers: it is not there
    │   ├── TargetRefused             69   never   the target answers and does not let us in, or cannot serve us
    │   ├── ListingPartial            69   later   the target answers and does not tell all that it holds
    │   ├── TargetEmptied             69   later   it held archives and holds none: perhaps it is not mounted
    │   └── TargetNotTrusted          69   never   another host key or certificate than the one we trust
    ├── SourceRefused                 65   never   a disk that cannot be backed up as asked
    ├── DestinationError              73   never   the disk cannot be written there
    │   ├── DestinationExists                      something lies there and overwrite is false
    │   ├── Diverged                               a replica that somebody has written since
    │   ├── Overtaken                              a replica that is newer by now than what its rule asked for
    │   ├── DestinationOutside                     not below a datastore
    │   ├── DestinationInUse          73   later   a running VM or another job holds it
    │   │   └── DestinationHeld       73   later   another restore is at work on it; waiting for it uses up no try
    │   ├── WrongDatastore            73   later   its datastore is not mounted, or is another disk than before
    │   └── NoSpace                                needed and free bytes are in the text
    │       └── SpacePromised     73   later   there is room, but other jobs that run were promised it
    ├── TryAgainLater                 75   later   temporary I/O and resource errors, timeouts
    │   └── DestinationMoved                       its folder was moved, replaced or unmounted meanwhile
    ├── ConfigurationError            78   never   phd.toml
    └── Stopped                      130   later   asked to stop; nothing is broken

Texts name what, where, expected, found, and what to do next. Names that came from outside go
through `naming.printable` before they enter a text.
"""

from __future__ import annotations

import enum
import errno


class ExitCode(enum.IntEnum):
    """The exit codes of every command; the README prints this table."""

    DONE = 0
    FINDINGS = 1
    USAGE = 2
    BAD_DATA = 65
    UNAVAILABLE = 69
    OUR_BUG = 70
    DESTINATION = 73
    TRY_AGAIN = 75
    CONFIGURATION = 78
    INTERRUPTED = 130


class PhdError(Exception):
    """Base of all deliberate errors; `remedy` is the sentence that says what to do next."""

    exit_code: ExitCode = ExitCode.OUR_BUG
    try_again: bool = False
    counts_as_try: bool = True
    """False where a job only waits for somebody who will let go: such an end uses up none of its tries."""

    def __init__(self, message: str, *, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.message}\n  {self.remedy}" if self.remedy else self.message


class UsageError(PhdError):
    """The request contradicts itself or names nothing."""

    exit_code = ExitCode.USAGE


class BadData(PhdError):
    """Data that can never become right by trying again."""

    exit_code = ExitCode.BAD_DATA


class BadArchive(BadData):
    """An archive is truncated, damaged, of an unknown version, or not the one that was asked for."""


class NotThisFull(BadArchive):
    """A Full, perhaps sound, but not the one that the Delta was made against."""


class BlockMismatch(BadArchive):
    """One block does not have the digest its index map demands."""

    def __init__(self, *, block: int, offset: int, where: str, expected: str, found: str) -> None:
        super().__init__(
            f"block {block} (disk offset {offset}) from {where}: digest differs, expected {expected}, found {found}",
            remedy="The archive is damaged, or this is not its Full. Run 'phd verify' on it, and restore from another copy.",
        )
        self.block = block
        self.offset = offset


class BadControlFile(BadData):
    """A control file that cannot become a job; `line` is 1-based, 0 for the file as a whole."""

    def __init__(self, message: str, *, line: int = 0, remedy: str = "") -> None:
        super().__init__(message, remedy=remedy)
        self.line = line


class BadRule(BadData):
    """One line of vmdks.auto that is not a rule."""


class SourceRefused(BadData):
    """A disk that is not one flat file or device, is running, or changed while it was read."""


class TargetUnavailable(PhdError):
    """The target does not answer, or not as itself."""

    exit_code = ExitCode.UNAVAILABLE
    try_again = True


class ArchiveAbsent(TargetUnavailable):
    """The target answers and the archive is not there: waiting will not bring it."""

    try_again = False


class TargetRefused(TargetUnavailable):
    """Wrong password or key, no rights, or a server that cannot do what we need. Trying again would only lock the account."""

    try_again = False


class ListingPartial(TargetUnavailable):
    """A listing came to its end and is not the whole: a folder may not be read, a reply says that names were left out."""


class TargetEmptied(TargetUnavailable):
    """A target that held archives holds none: its disk is not mounted, or a person says that it was emptied."""


class TargetNotTrusted(TargetUnavailable):
    """Whoever answers cannot prove to be the server we trust. A person decides about that, with `phd targets trust`."""

    try_again = False


class DestinationError(PhdError):
    """The disk cannot be written where it should go."""

    exit_code = ExitCode.DESTINATION


class DestinationExists(DestinationError):
    """Something lies at the destination already and nobody said to replace it."""


class Diverged(DestinationError):
    """Somebody has written the replica since we did: it may be the only copy of that work, and is left alone."""


class Overtaken(DestinationError):
    """A newer backup was restored there after a pass had decided on this one: a replica never goes back by itself."""


class DestinationOutside(DestinationError):
    """The destination is not below a datastore, or leaves it by a link."""


class DestinationInUse(DestinationError):
    """A running VM or another job holds the disk."""

    try_again = True


class DestinationHeld(DestinationInUse):
    """Another restore, refresh, recovery or script is at work on this disk, and has its hold."""

    counts_as_try = False


class WrongDatastore(DestinationError):
    """The datastore is not mounted, or another disk lies under its name; a person mounts it, or accepts the new one."""

    try_again = True
    counts_as_try = False


class NoSpace(DestinationError):
    """The datastore has not enough room; refused before anything was written. `thin` says that it is a thin disk already."""

    def __init__(self, *, where: str, needed: int, free: int, thin: bool = False) -> None:
        or_thin = "" if thin else ', or restore thin (provision = "thin")'
        super().__init__(
            f"{where}: not enough space: {needed} bytes needed, {free} bytes free",
            remedy=f"Free space there, {'or ' if thin else ''}choose another datastore{or_thin}.",
        )
        self.needed = needed
        self.free = free


class SpacePromised(NoSpace):
    """There is room enough now, but jobs that run were promised it: when they have ended it may be there after all."""

    try_again = True


class TryAgainLater(PhdError):
    """A temporary error of the machine; the same job may succeed in a minute."""

    exit_code = ExitCode.TRY_AGAIN
    try_again = True


class DestinationMoved(TryAgainLater):
    """The path of the destination no longer leads to the folder in which the disk was written."""


class ConfigurationError(PhdError):
    """phd.toml cannot be used; the text lists every problem found, each with its key."""

    exit_code = ExitCode.CONFIGURATION


class Stopped(PhdError):
    """The work was asked to stop (a signal, a cancelled job, ^C)."""

    exit_code = ExitCode.INTERRUPTED
    try_again = True


_FULL_DISK = {errno.ENOSPC, errno.EDQUOT}
_NO_SUCH_PLACE = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EISDIR, errno.ENAMETOOLONG}
_CANNOT_WRITE = _NO_SUCH_PLACE | {errno.EROFS, errno.EACCES, errno.EPERM, errno.EFBIG}


_NO_ANSWER = frozenset(
    {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO, errno.EINTR, errno.EAGAIN, errno.ESTALE, errno.ETIMEDOUT}
)


def is_no_answer(error: OSError) -> bool:
    """Returns whether an error says nothing about a file: this process or machine could not look at it now.

    Whoever takes a failed look for "there is none" must raise such an error instead: with no descriptor left every file is absent.
    """
    return error.errno in _NO_ANSWER


def from_os_error(error: OSError, *, doing: str, where: str) -> PhdError:
    """The typed error for an `OSError` met on the destination's side while `doing` something at `where`.

    No space and forbidden writes are final; everything else (EIO, ESTALE, EMFILE, ENOMEM, ...) may heal.
    """
    text = f"{where}: {doing}: {error.strerror or error}"
    if error.errno in _FULL_DISK:
        return DestinationError(text, remedy="Free space on that file system, and try again.")
    if error.errno in _CANNOT_WRITE:
        return DestinationError(text, remedy="Check that the path exists and that this user may write there.")
    return TryAgainLater(text, remedy="This may be temporary; look at the kernel's log if it comes back.")


def in_one_line(reason: str) -> str:
    """Returns a reason and its remedy as sentences in one line, for logs and tables."""
    lines = [line.strip() for line in reason.splitlines() if line.strip()]
    return " ".join([line if line.endswith((".", "!", "?", ":", ";")) else f"{line}." for line in lines[:-1]] + lines[-1:])
