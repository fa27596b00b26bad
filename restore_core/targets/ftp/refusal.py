"""The error for each thing that an FTP server refuses, by what its reply means."""

from __future__ import annotations

from restore_core.errors import ArchiveAbsent, PhdError, TargetFull, TargetRefused, TargetUnavailable
from restore_core.naming import printable
from restore_core.targets.ftp.replies import Meaning, meaning_of, not_written_by
from restore_core.targets.remote.connection import TooManyConnections
from restore_core.targets.remote.words import NOT_READ_ONLY, READ_ONLY

SEE_WHAT_THERE_IS = "See what there is with 'phd backups'."


def refusal(where: str, reply: str, *, writing: bool) -> PhdError:
    """Returns the error for a reply about the file or folder `where`."""
    meaning, said = meaning_of(reply), f"the server answers: {printable(reply)}"
    text = f"{where}: {said}"
    match meaning:
        case Meaning.FULL:
            return TargetFull(where=where, why=said)
        case Meaning.BUSY:
            return too_many(where, reply)
        case Meaning.NEEDS_TLS if "reuse" not in reply:  # that is said inside TLS
            return TargetRefused(text, remedy="Write ftps:// in the url of this target: this server wants TLS.")
        case Meaning.DENIED if READ_ONLY.search(reply):
            return TargetRefused(text, remedy=NOT_READ_ONLY)
        case Meaning.TEMPORARY | Meaning.ABSENT | Meaning.REFUSED if writing and not_written_by(reply):
            return TargetFull(where=where, why=f"{said}; servers say this of a full disk, and of one that fails")
        case Meaning.ABSENT if not writing:
            return ArchiveAbsent(
                text,
                remedy="See what there is with 'phd backups'. A server gives the same answer where this user may not read.",
            )
        case Meaning.TEMPORARY if reply.startswith("425"):
            return no_data(where, said)
        case Meaning.TEMPORARY:
            return TargetUnavailable(text, remedy="This may be temporary; look at the server if it happens again.")
    disk = " Is its disk mounted read-only, or does it fail?" if writing and meaning is not Meaning.DENIED else ""
    return TargetRefused(text, remedy=f"Check what this user may do on the server.{disk}")


def no_data(where: str, why: str, *, for_good: bool = False) -> TargetUnavailable:
    """Returns the error for a server to which no data connection can be made; `for_good` where its settings forbid them."""
    return (TargetRefused if for_good else TargetUnavailable)(
        f"{where}: {why}",
        remedy="On the server: allow passive mode, with a range of ports that is wide enough, and open that range in its firewall.",
    )


def too_many(where: str, reply: str) -> TooManyConnections:
    """Returns the error for a server that lets in no more connections now."""
    return TooManyConnections(
        f"{where}: the server's limit of connections is reached: {printable(reply)}",
        remedy="It is tried again later. Raise that limit on the server, or let fewer jobs and programs use it at a time.",
    )
