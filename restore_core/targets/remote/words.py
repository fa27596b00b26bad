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
    r"|exceed\w* .{0,40}(?:storage|allocation|space)|space (?:exceeded|exhausted)|ENOSPC|EDQUOT"
)
"""No room, or the quota is used up."""

DENIED = words(
    r"denied|not permitted|not allowed|forbidden|no permission|no access|(?:insufficient|not enough|missing"
    r"|lack\w*) (?:\w+ )?(?:rights|privileges?|permissions?)"
    r"|not have (?:\w+ )*(?:permissions?|access|rights?|privileges?)|not authori[sz]ed|unauthori[sz]ed|read.?only"
    r"|permissions? error|EACCES|EPERM|EROFS"
    r"|write.protect\w*"
)
"""The user may not do this, or the file system is read-only."""
