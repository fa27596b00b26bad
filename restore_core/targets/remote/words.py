"""Words by which servers of every kind say that there is no room, or that something is denied. One table: FTP and SFTP ask here."""

from __future__ import annotations

import re


def words(text: str) -> re.Pattern[str]:
    """Returns a pattern for words of a server, in any case and over several lines."""
    return re.compile(text, re.IGNORECASE | re.DOTALL)


FULL = words(
    r"no (?:more |free )*(?:disk |storage )?space|(?:disk|storage|volume|device|file ?system|partition) (?:is |was "
    r"|has become )*full"
    r"|quota (?:was |is |has been |would be |limit )*(?:exceeded|reached|used up|full)|(?:exceed\w*|over|out of"
    r"|beyond) .{0,40}quota"
    r"|(?:not enough|insufficient|out of|lack of|low on) (?:free |available |disk |storage |system )*(?:space|storage)"
    r"|exceed\w* .{0,40}(?:storage|allocation|space)|space (?:exceeded|exhausted)|storage limit|limit of storage|ENOSPC|EDQUOT"
)
"""No room, or the quota is used up."""

DENIED = words(
    r"denied|not permitted|not allowed|forbidden|no permission|no access|(?:insufficient|not enough|missing"
    r"|lack\w*) (?:\w+ )?(?:rights|privileges?|permissions?)"
    r"|(?:not|n't) have (?:\w+ )*(?:permissions?|access|rights?|privileges?)|not authori[sz]ed|unauthori[sz]ed|read.?only"
    r"|permissions? error|EACCES|EPERM|EROFS"
    r"|write.protect\w*"
)
"""The user may not do this, or the file system is read-only."""

READ_ONLY = words(r"read.?only file ?system|EROFS")
"""A kind of DENIED that no right of the user mends."""

FAILING = words(r"input/output error|\bI/O error|\bEIO\b")
"""The disk there cannot read or write. Servers say so, and no more, of a full one, too."""

NOT_READ_ONLY = "Mount it there so that it can be written."
"""What helps where it is READ_ONLY."""
