"""The fixed newstyle handshake, without a socket: what a client asks as options, and what it is answered. Pure."""

from __future__ import annotations

import enum
import struct
from collections.abc import Mapping
from typing import NamedTuple, Protocol

from restore_core.serve.nbd.messages import (
    BASE_ALLOCATION,
    CONTEXT_ID,
    EXPORT_FLAGS,
    GREETING,
    INIT_MAGIC,
    MAX_OPTION,
    MAX_REQUEST,
    OPTION,
    OPTION_MAGIC,
    OPTION_REPLY,
    OPTION_REPLY_MAGIC,
    HandshakeFlag,
    InfoType,
    OptionReply,
    OptionType,
    ProtocolBroken,
)

_NO_ZEROES_PADDING = bytes(124)


class Exported(Protocol):
    """What the handshake tells of an export. Sizes are bytes."""

    @property
    def size(self) -> int:
        """The size of the disk."""

    @property
    def block_size(self) -> int:
        """The size that requests have best."""

    @property
    def description(self) -> str:
        """One line for people."""


class Next(enum.Enum):
    """What follows after an option."""

    OPTION = enum.auto()
    TRANSMISSION = enum.auto()
    TLS = enum.auto()
    CLOSE = enum.auto()


class Answer(NamedTuple):
    """Bytes to send, and what follows then."""

    data: bytes
    then: Next = Next.OPTION


class Handshake:
    """The state of one client's handshake. Its methods raise `ProtocolBroken`.

    `export` is the name that was chosen; `structured` and `block_status` say what was agreed on. With `tls` nothing is told before
    the client has begun TLS.
    """

    greeting = GREETING.pack(INIT_MAGIC, OPTION_MAGIC, HandshakeFlag.FIXED_NEWSTYLE | HandshakeFlag.NO_ZEROES)

    def __init__(self, exports: Mapping[str, Exported], *, tls: bool = False) -> None:
        self._exports, self._tls = exports, tls
        self._no_zeroes = False
        self._context_of: str | None = None
        self.export: str | None = None
        self.structured = False
        self.secure = False
        """Whether TLS has begun; the caller sets it."""

    @property
    def block_status(self) -> bool:
        """Whether base:allocation was asked for, for the export that was chosen."""
        return self.export is not None and self._context_of == self.export

    def client_flags(self, data: bytes) -> None:
        """Takes the client's first four bytes."""
        (flags,) = struct.unpack(">I", data)
        if flags & ~int(HandshakeFlag.FIXED_NEWSTYLE | HandshakeFlag.NO_ZEROES):  # of a flag, ~ holds known bits only
            raise ProtocolBroken(f"client flags {flags:#x}")
        self._no_zeroes = bool(flags & HandshakeFlag.NO_ZEROES)

    @staticmethod
    def option_head(data: bytes | bytearray) -> tuple[int, int]:
        """Returns an option and how many bytes of data it has."""
        magic, option, length = OPTION.unpack(data)
        if magic != OPTION_MAGIC:
            raise ProtocolBroken("no option")
        if length > MAX_OPTION:
            raise ProtocolBroken(f"an option of {length} bytes")
        return option, length

    def answer(self, option: int, data: bytes) -> Answer:
        """Returns the answer to one option."""
        if self._tls and not self.secure and option not in (OptionType.STARTTLS, OptionType.ABORT):
            if option == OptionType.EXPORT_NAME:
                raise ProtocolBroken("an export without TLS")
            return self._refuse(option, OptionReply.TLS_REQD, "this server speaks TLS only")
        try:
            return self._answer(option, data)
        except struct.error:
            return self._refuse(option, OptionReply.INVALID, "the option is cut off")

    def _answer(self, option: int, data: bytes) -> Answer:
        match option:
            case OptionType.GO | OptionType.INFO:
                return self._info(option, data)
            case OptionType.SET_META_CONTEXT | OptionType.LIST_META_CONTEXT:
                return self._contexts(option, data)
            case OptionType.EXPORT_NAME:
                return self._export_name(data)
            case OptionType.ABORT:
                return Answer(_reply(option, OptionReply.ACK), Next.CLOSE)
            case OptionType.STARTTLS | OptionType.STRUCTURED_REPLY | OptionType.LIST if data:
                return self._refuse(option, OptionReply.INVALID, "this option has no data")
            case OptionType.STARTTLS:
                if not self._tls or self.secure:
                    return self._refuse(option, OptionReply.POLICY, "TLS is not to be had here")
                return Answer(_reply(option, OptionReply.ACK), Next.TLS)
            case OptionType.STRUCTURED_REPLY:
                self.structured = True
                return Answer(_reply(option, OptionReply.ACK))
            case OptionType.LIST:
                names = (name.encode("utf-8", "surrogateescape") for name in self._exports)
                listed = (_reply(option, OptionReply.SERVER, struct.pack(">I", len(name)) + name) for name in names)
                return Answer(b"".join((*listed, _reply(option, OptionReply.ACK))))
            case _:
                return self._refuse(option, OptionReply.UNSUP, "this option is not known here")

    def _info(self, option: int, data: bytes) -> Answer:
        raw, at = _counted(data, 0)
        (count,) = struct.unpack_from(">H", data, at)
        wanted = struct.unpack_from(f">{count}H", data, at + 2)
        if len(data) != at + 2 + 2 * count:
            return self._refuse(option, OptionReply.INVALID, "the option's length is wrong")
        name = self._name(raw)
        if name is None:
            return self._unknown(option)
        export = self._exports[name]
        infos = [
            struct.pack(">HQH", InfoType.EXPORT, export.size, EXPORT_FLAGS),
            struct.pack(">HIII", InfoType.BLOCK_SIZE, 1, export.block_size, MAX_REQUEST),
        ]
        if InfoType.NAME in wanted:
            infos.append(struct.pack(">H", InfoType.NAME) + name.encode("utf-8", "surrogateescape"))
        if InfoType.DESCRIPTION in wanted:
            infos.append(struct.pack(">H", InfoType.DESCRIPTION) + export.description.encode("utf-8", "replace")[:4096])
        answer = b"".join(_reply(option, OptionReply.INFO, info) for info in infos) + _reply(option, OptionReply.ACK)
        if option != OptionType.GO:
            return Answer(answer)
        self.export = name
        return Answer(answer, Next.TRANSMISSION)

    def _export_name(self, data: bytes) -> Answer:
        name = self._name(data)
        if name is None:
            raise ProtocolBroken("an export that is not there")
        self.export = name
        answer = struct.pack(">QH", self._exports[name].size, EXPORT_FLAGS)
        return Answer(answer if self._no_zeroes else answer + _NO_ZEROES_PADDING, Next.TRANSMISSION)

    def _contexts(self, option: int, data: bytes) -> Answer:
        raw, at = _counted(data, 0)
        (count,) = struct.unpack_from(">I", data, at)
        at += 4
        queries = set()
        for _ in range(count):  # each takes 4 bytes at least, so it ends with the data
            query, at = _counted(data, at)
            queries.add(query)
        chooses = option == OptionType.SET_META_CONTEXT
        if at != len(data) or (chooses and not self.structured):
            return self._refuse(option, OptionReply.INVALID, "its length is wrong, or structured replies were not agreed on")
        name = self._name(raw)
        if chooses:
            self._context_of = None
        if name is None:
            return self._unknown(option)
        fits = BASE_ALLOCATION in queries or (not chooses and (not queries or b"base:" in queries))
        if chooses and fits:
            self._context_of = name
        context = _reply(option, OptionReply.META_CONTEXT, struct.pack(">I", CONTEXT_ID if chooses else 0) + BASE_ALLOCATION)
        return Answer((context if fits else b"") + _reply(option, OptionReply.ACK))

    def _name(self, raw: bytes) -> str | None:
        """Returns the export that is meant: the only one has no need of a name."""
        name = raw.decode("utf-8", "surrogateescape")
        if name in self._exports:
            return name
        return next(iter(self._exports)) if not name and len(self._exports) == 1 else None

    def _unknown(self, option: int) -> Answer:
        return self._refuse(option, OptionReply.UNKNOWN, "no export has this name")

    def _refuse(self, option: int, reply: OptionReply, why: str) -> Answer:
        return Answer(_reply(option, reply, why.encode()))


def _reply(option: int, kind: OptionReply, data: bytes = b"") -> bytes:
    return OPTION_REPLY.pack(OPTION_REPLY_MAGIC, option, kind, len(data)) + data


def _counted(data: bytes, at: int) -> tuple[bytes, int]:
    """Returns the bytes that follow their own length, and where they end. Raises `struct.error` if they are cut off."""
    (length,) = struct.unpack_from(">I", data, at)
    end = at + 4 + length
    if end > len(data):
        raise struct.error
    return data[at + 4 : end], end
