"""The handshake without a socket: what a client may ask, and what broken ones are answered."""

from __future__ import annotations

import struct
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restore_core.serve.nbd.handshake import Answer, Handshake, Next
from restore_core.serve.nbd.messages import (
    EXPORT_FLAGS,
    MAX_OPTION,
    OPTION,
    OPTION_MAGIC,
    OPTION_REPLY,
    OptionReply,
    OptionType,
    ProtocolBroken,
    TransmissionFlag,
)
from tests.restore_core.serve.nbd.raw_client import contexts, info


@dataclass(frozen=True)
class Disk:
    size: int = 1 << 30
    block_size: int = 1 << 18
    description: str = "CRM.vmdk of yesterday"


ONE = {"": Disk()}
TWO = {"a.vmdk": Disk(), "b ü.vmdk": Disk(size=5)}


def kinds(answer: Answer) -> list[int]:
    found, at = [], 0
    while at < len(answer.data):
        _, _, kind, length = OPTION_REPLY.unpack_from(answer.data, at)
        found.append(kind)
        at += OPTION_REPLY.size + length
    return found


def test_an_export_is_read_only_and_may_be_read_over_several_connections() -> None:
    assert TransmissionFlag.READ_ONLY | TransmissionFlag.CAN_MULTI_CONN in TransmissionFlag(EXPORT_FLAGS)


def test_go_tells_size_flags_and_block_sizes_and_chooses_the_export() -> None:
    handshake = Handshake(ONE)
    answer = handshake.answer(OptionType.GO, info("", [1, 2, 3]))
    assert answer.then is Next.TRANSMISSION
    assert kinds(answer) == [OptionReply.INFO] * 4 + [OptionReply.ACK]
    assert struct.pack(">HQH", 0, 1 << 30, EXPORT_FLAGS) in answer.data
    assert b"CRM.vmdk of yesterday" in answer.data
    assert handshake.export == ""


def test_info_tells_the_same_and_chooses_nothing() -> None:
    handshake = Handshake(ONE)
    assert handshake.answer(OptionType.INFO, info("")).then is Next.OPTION
    assert handshake.export is None


@pytest.mark.parametrize("name", ["b", "", "A.VMDK", "../a.vmdk"])
def test_an_export_that_is_not_there_is_refused_by_name(name: str) -> None:
    handshake = Handshake(TWO)
    assert kinds(handshake.answer(OptionType.GO, info(name))) == [OptionReply.UNKNOWN]
    with pytest.raises(ProtocolBroken):
        handshake.answer(OptionType.EXPORT_NAME, name.encode())


def test_the_only_export_has_no_need_of_its_name() -> None:
    handshake = Handshake({"a.vmdk": Disk()})
    assert handshake.answer(OptionType.GO, info("")).then is Next.TRANSMISSION
    assert handshake.export == "a.vmdk"


def test_all_exports_are_listed() -> None:
    answer = Handshake(TWO).answer(OptionType.LIST, b"")
    assert kinds(answer) == [OptionReply.SERVER, OptionReply.SERVER, OptionReply.ACK]
    assert "b ü.vmdk".encode() in answer.data


@pytest.mark.parametrize(("flags", "padding"), [(1, 124), (3, 0), (0, 124)])
def test_an_old_client_gets_the_padding_unless_it_declines(flags: int, padding: int) -> None:
    handshake = Handshake(ONE)
    handshake.client_flags(struct.pack(">I", flags))
    answer = handshake.answer(OptionType.EXPORT_NAME, b"")
    assert answer == Answer(struct.pack(">QH", 1 << 30, EXPORT_FLAGS) + bytes(padding), Next.TRANSMISSION)


def test_flags_that_are_not_known_end_the_connection() -> None:
    with pytest.raises(ProtocolBroken):
        Handshake(ONE).client_flags(struct.pack(">I", 4))


def test_block_status_is_agreed_for_the_export_that_is_chosen_and_for_no_other() -> None:
    handshake = Handshake(TWO)
    handshake.answer(OptionType.STRUCTURED_REPLY, b"")
    handshake.answer(OptionType.SET_META_CONTEXT, contexts("a.vmdk", ["base:allocation"]))
    handshake.answer(OptionType.GO, info("b ü.vmdk"))
    assert not handshake.block_status
    handshake.answer(OptionType.SET_META_CONTEXT, contexts("b ü.vmdk", ["x:y", "base:allocation"]))
    assert handshake.block_status
    handshake.answer(OptionType.SET_META_CONTEXT, contexts("b ü.vmdk", ["x:y"]))
    assert not handshake.block_status


def test_contexts_are_listed_and_only_set_with_structured_replies() -> None:
    handshake = Handshake(ONE)
    for queries in ([], ["base:"], ["base:allocation"]):
        assert OptionReply.META_CONTEXT in kinds(handshake.answer(OptionType.LIST_META_CONTEXT, contexts("", queries)))
    assert kinds(handshake.answer(OptionType.LIST_META_CONTEXT, contexts("", ["qemu:"]))) == [OptionReply.ACK]
    assert kinds(handshake.answer(OptionType.SET_META_CONTEXT, contexts("", ["base:allocation"]))) == [OptionReply.INVALID]


@pytest.mark.parametrize("option", [OptionType.LIST, OptionType.STRUCTURED_REPLY, OptionType.STARTTLS])
def test_options_without_data_are_invalid_with_some(option: OptionType) -> None:
    assert kinds(Handshake(ONE).answer(option, b"x")) == [OptionReply.INVALID]


def test_an_option_that_is_not_known_is_unsupported_and_the_next_one_is_answered() -> None:
    handshake = Handshake(ONE)
    assert kinds(handshake.answer(99, b"whatever")) == [OptionReply.UNSUP]
    assert handshake.answer(OptionType.ABORT, b"").then is Next.CLOSE


def test_before_tls_nothing_is_told_but_that_it_is_needed() -> None:
    handshake = Handshake(TWO, tls=True)
    for option in set(OptionType) - {OptionType.STARTTLS, OptionType.ABORT, OptionType.EXPORT_NAME}:
        answer = handshake.answer(option, info("a.vmdk"))
        assert kinds(answer) == [OptionReply.TLS_REQD]
        assert b"vmdk" not in answer.data
    with pytest.raises(ProtocolBroken):
        handshake.answer(OptionType.EXPORT_NAME, b"a.vmdk")
    assert not handshake.structured
    assert handshake.answer(OptionType.STARTTLS, b"").then is Next.TLS
    handshake.secure = True
    assert handshake.answer(OptionType.GO, info("a.vmdk")).then is Next.TRANSMISSION
    assert kinds(handshake.answer(OptionType.STARTTLS, b"")) == [OptionReply.POLICY]


def test_a_server_without_tls_says_so() -> None:
    assert kinds(Handshake(ONE).answer(OptionType.STARTTLS, b"")) == [OptionReply.POLICY]


@pytest.mark.parametrize(
    "head", [OPTION.pack(1, 7, 0), OPTION.pack(OPTION_MAGIC, 7, MAX_OPTION + 1), OPTION.pack(OPTION_MAGIC, 7, 2**32 - 1)]
)
def test_what_is_no_option_or_is_too_long_ends_the_connection(head: bytes) -> None:
    with pytest.raises(ProtocolBroken):
        Handshake.option_head(head)


@given(option=st.integers(0, 12), data=st.binary(max_size=80), tls=st.booleans())
def test_any_data_is_answered_or_ends_the_connection(option: int, data: bytes, tls: bool) -> None:
    handshake = Handshake(TWO, tls=tls)
    handshake.answer(OptionType.STRUCTURED_REPLY, b"")
    try:
        answer = handshake.answer(option, data)
    except ProtocolBroken:
        return
    assert kinds(answer)


@given(name=st.integers(0, 2**32 - 1), count=st.integers(0, 2**32 - 1), rest=st.binary(max_size=40))
def test_lengths_that_lie_are_refused(name: int, count: int, rest: bytes) -> None:
    handshake = Handshake(ONE)
    for data in (struct.pack(">I", name) + rest, struct.pack(">II", 0, count) + rest, struct.pack(">IH", 0, count & 0xFFFF) + rest):
        for option in (OptionType.GO, OptionType.SET_META_CONTEXT, OptionType.LIST_META_CONTEXT):
            assert handshake.answer(option, data).then in (Next.OPTION, Next.TRANSMISSION)
