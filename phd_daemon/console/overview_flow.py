"""How this installation stands: the very lines that `phd status` prints."""

from __future__ import annotations

import time

from phd_daemon.console.face import Face, Page
from phd_daemon.console.menus import waited
from phd_daemon.console.session import Session
from phd_daemon.operations.status import document, overview
from phd_daemon.show.overview import status_lines

_HELP = """\
Daemon, queue, rules, targets and datastores, out of their records alone: nothing is asked of a server. Below stands what needs a
person, and what to type. The same from a shell: phd status."""


def stands(face: Face, session: Session) -> None:
    """Shows them, with phd.toml as it is now."""
    found = waited("Looking at the installation", lambda: document(overview(session.path)), face, session)
    if found is not None:
        face.show(Page(title="How this installation stands", lines=status_lines(found, time.time()), help=_HELP))
