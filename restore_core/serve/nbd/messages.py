"""The numbers and layouts of NBD that are used here, under the names of its specification. All are big-endian."""

from __future__ import annotations

import enum
import struct
from typing import Final

INIT_MAGIC: Final = 0x4E42444D41474943
OPTION_MAGIC: Final = 0x49484156454F5054
OPTION_REPLY_MAGIC: Final = 0x3E889045565A9
REQUEST_MAGIC: Final = 0x25609513
SIMPLE_REPLY_MAGIC: Final = 0x67446698
STRUCTURED_REPLY_MAGIC: Final = 0x668E33EF

GREETING: Final = struct.Struct(">QQH")
OPTION: Final = struct.Struct(">QII")
"""Magic, option, length of the data that follows."""
OPTION_REPLY: Final = struct.Struct(">QIII")
REQUEST: Final = struct.Struct(">IHHQQI")
"""Magic, flags, type, cookie, offset, length."""
SIMPLE_REPLY: Final = struct.Struct(">IIQ")
CHUNK: Final = struct.Struct(">IHHQI")
"""Magic, flags, type, cookie, length of what follows."""

MAX_REQUEST: Final = 32 << 20
"""Bytes that one request may ask for, or bring."""
MAX_OPTION: Final = 64 << 10
"""Bytes of data that an option may have."""
BASE_ALLOCATION: Final = b"base:allocation"
CONTEXT_ID: Final = 1


class HandshakeFlag(enum.IntFlag):
    """Flags of both sides in the handshake: they have the same numbers."""

    FIXED_NEWSTYLE = 1
    NO_ZEROES = 2


class OptionType(enum.IntEnum):
    """What a client asks before it chooses an export."""

    EXPORT_NAME = 1
    ABORT = 2
    LIST = 3
    STARTTLS = 5
    INFO = 6
    GO = 7
    STRUCTURED_REPLY = 8
    LIST_META_CONTEXT = 9
    SET_META_CONTEXT = 10


class OptionReply(enum.IntEnum):
    """Answers to an option; those from 2^31 on are refusals."""

    ACK = 1
    SERVER = 2
    INFO = 3
    META_CONTEXT = 4
    UNSUP = 0x80000001
    POLICY = 0x80000002
    INVALID = 0x80000003
    TLS_REQD = 0x80000005
    UNKNOWN = 0x80000006


class InfoType(enum.IntEnum):
    """Facts about an export."""

    EXPORT = 0
    NAME = 1
    DESCRIPTION = 2
    BLOCK_SIZE = 3


class TransmissionFlag(enum.IntFlag):
    """What an export can do."""

    HAS_FLAGS = 1
    READ_ONLY = 2
    SEND_FLUSH = 4
    SEND_DF = 128
    CAN_MULTI_CONN = 256
    SEND_CACHE = 1024


EXPORT_FLAGS: Final = (
    TransmissionFlag.HAS_FLAGS
    | TransmissionFlag.READ_ONLY
    | TransmissionFlag.SEND_FLUSH
    | TransmissionFlag.SEND_DF
    | TransmissionFlag.CAN_MULTI_CONN
    | TransmissionFlag.SEND_CACHE
)


class RequestType(enum.IntEnum):
    """The types of requests."""

    READ = 0
    WRITE = 1
    DISC = 2
    FLUSH = 3
    TRIM = 4
    CACHE = 5
    WRITE_ZEROES = 6
    BLOCK_STATUS = 7


class CommandFlag(enum.IntFlag):
    """Flags of a request."""

    FUA = 1
    NO_HOLE = 2
    DF = 4
    REQ_ONE = 8
    FAST_ZERO = 16


class ChunkType(enum.IntEnum):
    """The types of chunks in a structured reply."""

    NONE = 0
    OFFSET_DATA = 1
    OFFSET_HOLE = 2
    BLOCK_STATUS = 5
    ERROR = 0x8001


DONE: Final = 1
"""The flag of the last chunk of a reply."""
HOLE_AND_ZERO: Final = 3
"""The state of an extent of zero blocks, in the context base:allocation."""


class NbdError(enum.IntEnum):
    """Errors in replies."""

    EPERM = 1
    EIO = 5
    EINVAL = 22
    ENOTSUP = 95
    ESHUTDOWN = 108


class ProtocolBroken(Exception):
    """The client did what no client may do: it is closed, without an answer."""
