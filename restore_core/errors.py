"""All errors that this product raises on purpose, and what each one means to the caller.

    PhdError                         exit  try again?
    ├── UsageError                     2   never   the command line contradicts itself
    ├── BadData                       65   never   the data is wrong
    │   ├── BadArchive                             an archive, or a section of one, is damaged
    │   │   ├── NotThisFull                        a Full, but that of another Delta
    │   │   └── BlockMismatch                      the digest of one block differs
    │   ├── BadControlFile                         a control file; `line` says where
    │   └── BadRule                                a line of vmdks.auto
    ├── TargetUnavailable             69   later   the target does not answer
    │   ├── ArchiveAbsent             69   never   the target answers, and the archive is not there
    │   ├── TargetRefused             69   never   the target answers, and refuses the login or cannot do what we need
    │   ├── ListingPartial            69   later   the target answers, and lists only a part of what it holds
    │   ├── TargetEmptied             69   later   it held archives and holds none: it may not be mounted
    │   └── TargetNotTrusted          69   never   its host key or certificate is not the one we trust
    ├── SourceRefused                 65   never   a disk that cannot be backed up as asked
    ├── DestinationError              73   never   the disk cannot be written there
    │   ├── DestinationExists                      a file is there, and overwrite is false
    │   ├── Diverged                               somebody has written to the replica
    │   ├── Overtaken                              the replica is newer now than what its rule asked for
    │   ├── DestinationOutside                     not in a datastore
    │   ├── DestinationInUse          73   later   a running VM or another job uses it
    │   │   └── DestinationHeld       73   later   another restore works on it; this end uses up no try
    │   ├── WrongDatastore            73   later   its datastore is not mounted, or another disk is mounted there
    │   ├── TargetFull                             there is no room on the target, or its quota is used up
    │   └── NoSpace                                there is not enough space; the text gives both numbers
    │       └── SpacePromised     73   later   there is space, but it is reserved for jobs that run
    ├── TryAgainLater                 75   later   temporary I/O and resource errors, timeouts
    │   ├── DestinationMoved                       its folder was moved, replaced or unmounted during the restore
    │   └── InSession                              an instant session uses the disk; this end uses up no try
    ├── ProgramMissing                69   never   a program that is needed is not installed
    ├── ConfigurationError            78   never   phd.toml
    └── Stopped                      130   later   the work was asked to stop; nothing is broken

A message says what is wrong, where, what was expected and found, and what to do next. Names from outside are escaped with
`naming.printable` first.
"""

from __future__ import annotations

import enum
import errno


class ExitCode(enum.IntEnum):
    """The exit codes of all commands; docs/reference.md explains them."""

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
    """The base of these errors; `remedy` is a sentence that says what to do next."""

    exit_code: ExitCode = ExitCode.OUR_BUG
    try_again: bool = False
    counts_as_try: bool = True
    """Whether a job that ends so has used up one of its tries; not where it only waits for others to finish."""

    def __init__(self, message: str, *, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.message}\n  {self.remedy}" if self.remedy else self.message


class UsageError(PhdError):
    """The request contradicts itself, or names something that does not exist."""

    exit_code = ExitCode.USAGE


class BadData(PhdError):
    """Data is wrong, and trying again cannot help."""

    exit_code = ExitCode.BAD_DATA


class BadArchive(BadData):
    """An archive is truncated, damaged, of an unknown version, or not the one that was asked for."""


class NotThisFull(BadArchive):
    """A Full is not the one that the Delta was made against. It may be undamaged."""


class BlockMismatch(BadArchive):
    """The digest of a block differs from the one in the index map."""

    def __init__(self, *, block: int, offset: int, where: str, expected: str, found: str) -> None:
        super().__init__(
            f"block {block} (disk offset {offset}) from {where}: digest differs, expected {expected}, found {found}",
            remedy="The archive is damaged, or this is not its Full. Run 'phd verify' on it, and restore from another copy.",
        )
        self.block = block
        self.offset = offset


class BadControlFile(BadData):
    """A control file cannot become a job; `line` counts from 1, and is 0 for the file as a whole."""

    def __init__(self, message: str, *, line: int = 0, remedy: str = "") -> None:
        super().__init__(message, remedy=remedy)
        self.line = line


class BadRule(BadData):
    """A line of vmdks.auto is not a rule."""


class SourceRefused(BadData):
    """A disk is not one flat file or device, its VM is running, or it changed while it was read."""


class TargetUnavailable(PhdError):
    """The target does not answer, or cannot be used."""

    exit_code = ExitCode.UNAVAILABLE
    try_again = True


class ArchiveAbsent(TargetUnavailable):
    """The target answers, and the archive is not there."""

    try_again = False


class TargetRefused(TargetUnavailable):
    """The password or key is wrong, rights are missing, or the server cannot do what we need. Trying again could lock us out."""

    try_again = False


class ListingPartial(TargetUnavailable):
    """A listing is not complete: a folder could not be read, or a reply says that names were left out."""


class TargetEmptied(TargetUnavailable):
    """A target that held archives holds none. Its disk is not mounted, or a person has to say that it was emptied."""


class TargetNotTrusted(TargetUnavailable):
    """The server has not proven to be the one we trust. A person decides, with `phd targets trust`."""

    try_again = False


class DestinationError(PhdError):
    """The disk cannot be written at its destination."""

    exit_code = ExitCode.DESTINATION


class DestinationExists(DestinationError):
    """A file is at the destination already, and overwriting was not asked for."""


class Diverged(DestinationError):
    """Somebody has written to the replica since we restored it. It may be the only copy of that work, so it is not overwritten."""


class Overtaken(DestinationError):
    """A newer backup was restored there after a pass decided on this one. A replica never goes back to an older one by itself."""


class DestinationOutside(DestinationError):
    """The destination is not in a datastore, or a link leads out of it."""


class DestinationInUse(DestinationError):
    """A running VM or another job uses the disk."""

    try_again = True


class DestinationHeld(DestinationInUse):
    """Another restore, refresh, recovery or script works on this disk, and has its hold."""

    counts_as_try = False


class WrongDatastore(DestinationError):
    """The datastore is not mounted, or another disk is mounted there. A person mounts the right one, or accepts the new one."""

    try_again = True
    counts_as_try = False


class TargetFull(DestinationError):
    """A backup cannot be written, since there is no room on its target. `why` is what the server or the system said."""

    def __init__(self, *, where: str, why: str) -> None:
        super().__init__(
            f"{where}: there is no room on the target: {why}",
            remedy="Make room there (a full disk, or the quota of this user), and try again.",
        )


class NoSpace(DestinationError):
    """The datastore has not enough space; nothing was written. `thin`: the disk is restored thin already."""

    def __init__(self, *, where: str, needed: int, free: int, thin: bool = False) -> None:
        or_thin = "" if thin else ', or restore thin (provision = "thin")'
        wanted, there = size_text(needed), size_text(free)
        short = f" ({size_text(needed - free)} too little)" if wanted == there else ""
        super().__init__(
            f"{where}: not enough space: {wanted} needed, {there} free{short}",
            remedy=f"Free space there, {'or ' if thin else ''}choose another datastore{or_thin}.",
        )
        self.needed = needed
        self.free = free


class SpacePromised(NoSpace):
    """There is enough space now, but it is reserved for jobs that run. It may be free when they have ended."""

    try_again = True


class TryAgainLater(PhdError):
    """A temporary error of the machine; the same job may succeed soon."""

    exit_code = ExitCode.TRY_AGAIN
    try_again = True


class DestinationMoved(TryAgainLater):
    """The path of the destination no longer leads to the folder in which the disk was written."""


class InSession(TryAgainLater):
    """An instant session uses the disk: a guest runs from its backup, and what it wrote lies in an overlay beside the disk."""

    counts_as_try = False


class ProgramMissing(PhdError):
    """A program of another package, which this command runs, is not installed."""

    exit_code = ExitCode.UNAVAILABLE


class ConfigurationError(PhdError):
    """phd.toml cannot be used; the message lists all problems, each with its key."""

    exit_code = ExitCode.CONFIGURATION


class Stopped(PhdError):
    """The work was asked to stop (a signal, a cancelled job, ^C)."""

    exit_code = ExitCode.INTERRUPTED
    try_again = True


_FULL_DISK = {errno.ENOSPC, errno.EDQUOT}
_NO_SUCH_PLACE = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EISDIR, errno.ENAMETOOLONG}
_CANNOT_WRITE = _NO_SUCH_PLACE | {errno.EROFS, errno.EACCES, errno.EPERM, errno.EFBIG}
_REMEDIES = {
    errno.ENOSPC: "Free space on that file system (df -h, and df -i for its inodes), and try again.",
    errno.EDQUOT: "Free space of this user's quota on that file system, or have the quota raised, and try again.",
    errno.ENOENT: "Check the path: it, or a folder on the way, does not exist.",
    errno.ENOTDIR: "Check the path: what should be a folder on the way is a file.",
    errno.EISDIR: "Name a file: this is a folder.",
    errno.ELOOP: "Name the real path (readlink -f shows it): links are not followed here, or lead in a circle.",
    errno.ENAMETOOLONG: "Use a shorter name: this one is longer than the file system allows.",
    errno.EROFS: "The file system is mounted read-only: mount it writable. If it became so by itself, dmesg says why.",
    errno.EACCES: "Give this user the right, or ask as another one; namei -l PATH shows who may what on the way.",
    errno.EPERM: "The system forbids it whatever the rights are: see lsattr, the mount's options, and the unit's confinement.",
    errno.EFBIG: "The file system, or a limit (ulimit -f), allows no file as large: choose another place, or raise the limit.",
    errno.EMFILE: "This process has as many files open as it may: raise its limit (LimitNOFILE of the unit, ulimit -n).",
    errno.ENFILE: "The machine has as many files open as it can: raise fs.file-max (sysctl), or end what holds them.",
    errno.ENOMEM: "Free memory, or run fewer jobs at once: phd options queue.workers 1.",
    errno.EIO: "The disk, or the way to it, has an error: read the kernel's log (dmesg) before you try again.",
    errno.ESTALE: "The file server no longer knows it: mount that file system anew.",
    errno.ETIMEDOUT: "The storage did not answer in time: look at its server and the network.",
    errno.EBUSY: "Something uses it: fuser -vm PATH shows what.",
}
_NO_ANSWER = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO, errno.EINTR, errno.EAGAIN, errno.ESTALE, errno.ETIMEDOUT}


def is_no_answer(error: OSError) -> bool:
    """Returns whether an error says nothing about the file, since this process or machine could not look at it now.

    Code that treats an error as "there is no such file" must raise these: without a free descriptor no file can be opened.
    """
    return error.errno in _NO_ANSWER


def remedy_for(error: OSError) -> str:
    """Returns what helps against this error of the system, whatever was done; the one table of such advice."""
    return _REMEDIES.get(error.errno or 0, "This may be temporary; read the kernel's log (dmesg) if it happens again.")


def from_os_error(error: OSError, *, doing: str, where: str) -> PhdError:
    """Returns the typed error for an `OSError` that came while `doing` something at `where`, on the destination's side.

    A full disk and a forbidden write are final; all others (EIO, ESTALE, EMFILE, ENOMEM, ...) may be temporary.
    """
    text = f"{where}: {doing}: {error.strerror or error}"
    if error.errno in _FULL_DISK:
        return DestinationError(text, remedy=remedy_for(error))
    if error.errno in _CANNOT_WRITE:
        return DestinationError(text, remedy=remedy_for(error))
    return TryAgainLater(text, remedy=remedy_for(error))


def size_text(count: float) -> str:
    """Returns bytes as messages tell them: `1.7 GB`, where 1 KB is 1024 bytes."""
    for unit in ("bytes", "KB", "MB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} GB"


def in_one_line(reason: str) -> str:
    """Returns a message and its remedy as sentences in one line, for logs and tables."""
    lines = [line.strip() for line in reason.splitlines() if line.strip()]
    return " ".join([line if line.endswith((".", "!", "?", ":", ";")) else f"{line}." for line in lines[:-1]] + lines[-1:])
