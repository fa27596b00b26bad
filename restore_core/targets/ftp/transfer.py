"""A file that an FTP server is sending; it stays open between two reads."""

from __future__ import annotations

import socket
from dataclasses import dataclass


@dataclass(slots=True)
class Transfer:
    """A file that the server is sending; its next byte is the one at `position`."""

    path: str
    position: int
    size: int
    line: socket.socket
