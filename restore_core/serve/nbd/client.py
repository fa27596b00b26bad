"""One client: a thread reads its requests, another one writes the replies, and the cache's threads fetch and decode.

No thread waits for a frame: the last frame that a request needs hands its reply to the writer. So a client that reads slowly, or
asks for a block that comes from far away, holds up nobody else.
"""

from __future__ import annotations

import itertools
import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass, field
from typing import TypeAlias

from restore_core.errors import PhdError, Stopped
from restore_core.serve.block_map import ServedUnit, Span
from restore_core.serve.disk import ServedDisk, cut_span
from restore_core.serve.frame_cache import Decoded
from restore_core.serve.nbd.byte_stream import SEND_SECONDS, ByteStream, Ended, received
from restore_core.serve.nbd.handshake import Handshake, Next
from restore_core.serve.nbd.in_flight import InFlight, Share
from restore_core.serve.nbd.messages import OPTION, REQUEST, CommandFlag, NbdError, ProtocolBroken, RequestType
from restore_core.serve.nbd.transmission import Replies, Request, parse_request, refused_at_once

HANDSHAKE_SECONDS = 20.0
"""How long a client may take to choose its export."""
_EXTENTS = 4096
_PASSED_OVER = 1 << 16
_STATUS_COST = 64 << 10

Secure: TypeAlias = Callable[[float], ByteStream]
"""Begins TLS with the client, until a deadline; returns what takes the place of its stream. Raises `Ended`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Export:
    """A disk under its name."""

    disk: ServedDisk
    description: str = ""

    @property
    def size(self) -> int:
        """The size of the disk."""
        return self.disk.size

    @property
    def block_size(self) -> int:
        """The size that requests have best."""
        return self.disk.block_size


@dataclass(slots=True)
class Traffic:
    """What was served so far; counted without a lock, for people."""

    requests: int = 0
    sent: int = 0
    errors: int = 0


@dataclass(slots=True, eq=False)
class Client:
    """One connection. `run` is its reader thread."""

    stream: ByteStream
    exports: Mapping[str, Export]
    in_flight: InFlight
    traffic: Traffic
    chosen: Callable[[], None] = lambda: None
    """Called when the handshake is over."""
    secure: Secure | None = None
    """Begins TLS; None: without TLS."""
    _share: Share = field(default_factory=Share)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _over: bool = False
    _outbox: queue.SimpleQueue[tuple[Sequence[bytes | memoryview], int] | None] = field(default_factory=queue.SimpleQueue)

    def run(self) -> None:
        """Serves the client until it leaves, breaks the protocol, or `end` is called."""
        try:
            handshake = self._shake_hands()
            if handshake is not None and handshake.export is not None:
                self.chosen()
                self._serve(self.exports[handshake.export].disk, handshake)
        except (Ended, ProtocolBroken):
            pass
        finally:
            self.end()
            self.stream.close()

    def end(self) -> None:
        """Ends the connection, from any thread."""
        self.in_flight.end(self._share)
        self.stream.shut()

    def _shake_hands(self) -> Handshake | None:
        """Returns what was agreed on; None for a client that only asked."""
        deadline = time.monotonic() + HANDSHAKE_SECONDS
        handshake = Handshake(self.exports, tls=self.secure is not None)
        self.stream.send([handshake.greeting])
        handshake.client_flags(received(self.stream, 4, deadline))
        while True:
            option, length = handshake.option_head(received(self.stream, OPTION.size, deadline))
            answer = handshake.answer(option, received(self.stream, length, deadline))
            self.stream.send([answer.data])
            match answer.then:
                case Next.TRANSMISSION:
                    return handshake
                case Next.CLOSE:
                    return None
                case Next.TLS if self.secure is not None:
                    self.stream = self.secure(deadline)
                    handshake.secure = True

    def _serve(self, disk: ServedDisk, handshake: Handshake) -> None:
        writer = threading.Thread(target=self._write, name="nbd-write", daemon=True)
        try:
            writer.start()
        except RuntimeError as error:  # no thread is to be had now
            raise Ended(str(error)) from error
        try:
            requests = _Requests(self, disk, Replies(structured=handshake.structured), block_status=handshake.block_status)
            head = bytearray(REQUEST.size)
            view = memoryview(head)
            while True:
                self.stream.receive_into(view)
                request = parse_request(head)
                self._pass_over(request.payload)
                if request.command == RequestType.DISC:
                    self.in_flight.drain(self._share, SEND_SECONDS)
                    return
                self.traffic.requests += 1
                requests.take(request)
        finally:
            self.end()
            with self._lock:
                self._over = True
                self._outbox.put(None)
            writer.join()

    def enter(self, cost: int) -> int:
        """Waits for room for so many bytes. Raises `Ended`."""
        taken = self.in_flight.enter(self._share, cost)
        if not taken:
            raise Ended("told to end")
        return taken

    def reply(self, parts: Sequence[bytes | memoryview], taken: int) -> None:
        """Hands a reply to the writer, which gives back the room that was `taken` for it."""
        with self._lock:
            if not self._over:
                self._outbox.put((parts, taken))
                return
        self.in_flight.leave(self._share, taken)

    def _write(self) -> None:
        gone = False
        while (item := self._outbox.get()) is not None:
            parts, taken = item
            if not gone:
                try:
                    self.stream.send(parts)
                    self.traffic.sent += sum(map(len, parts))
                except Ended:
                    gone = True
                    self.end()
            self.in_flight.leave(self._share, taken)
            del item, parts

    def _pass_over(self, count: int) -> None:
        """Reads the data of a write, which is refused."""
        if not count:
            return
        scratch = memoryview(bytearray(min(count, _PASSED_OVER)))
        while count:
            part = scratch[:count]
            self.stream.receive_into(part)
            count -= len(part)


@dataclass(slots=True)
class _Requests:
    """The requests of one client for one disk."""

    client: Client
    disk: ServedDisk
    replies: Replies
    block_status: bool

    def take(self, request: Request) -> None:
        """Begins to serve a request; the reply may follow later, from another thread."""
        error = refused_at_once(request, size=self.disk.size, block_status=self.block_status)
        if error is not None:
            self._fail(request, error, self.client.enter(1))
            return
        if request.command == RequestType.FLUSH:
            self.client.reply([self.replies.ok(request)], self.client.enter(1))
            return
        try:
            if request.command == RequestType.BLOCK_STATUS:
                self._status(request)
            else:
                self._begin(request)
        except Stopped as error:
            raise Ended("the server ends") from error
        except PhdError:  # a page of the map that cannot be read
            self._fail(request, NbdError.EIO, self.client.enter(1))

    def _status(self, request: Request) -> None:
        most = 1 if request.flags & CommandFlag.REQ_ONE else _EXTENTS
        extents = self.disk.extents(request.offset, request.length, most=most)
        self.client.reply([self.replies.block_status(request, extents)], self.client.enter(_STATUS_COST))

    def _begin(self, request: Request) -> None:
        spans = self.disk.spans(request.offset, request.length)
        units = {span.unit for span in spans if span.unit is not None}
        taken = self.client.enter(sum(map(self.disk.cost, units)))
        coming = _Coming(lambda found: self._answer(request, spans, found, taken))
        coming.begin({unit: self.disk.fetch(unit) for unit in units})

    def _answer(self, request: Request, spans: Sequence[Span], found: Mapping[ServedUnit, Future[Decoded]], taken: int) -> None:
        """Hands the reply to the writer, when all units are there."""
        try:
            if request.command == RequestType.CACHE:
                for future in found.values():
                    future.result()
                self.client.reply([self.replies.ok(request)], taken)
                return
            joined: list[tuple[int, Sequence[memoryview] | None]] = []
            for zero, group in itertools.groupby(spans, key=lambda span: span.unit is None):
                same = list(group)
                length = sum(span.length for span in same)
                pieces = [cut_span(found[span.unit].result(), span, self.disk.block_size) for span in same if span.unit is not None]
                joined.append((length, None if zero else pieces))
            self.client.reply(list(self.replies.data(request, joined)), taken)
        except (Stopped, CancelledError):
            # The server ends: no answer, so that a client that waits for the next server asks that one, and no guest sees an error.
            self.client.end()
            self.client.reply((), taken)
        except PhdError:  # told where it was found
            self._fail(request, NbdError.EIO, taken)
        except BaseException:
            self._fail(request, NbdError.EIO, taken)
            raise

    def _fail(self, request: Request, error: NbdError, taken: int) -> None:
        self.client.traffic.errors += 1
        self.client.reply([self.replies.error(request, error)], taken)


class _Coming:
    """Waits for several units without a thread: calls `done` once, in the thread that brings the last one."""

    def __init__(self, done: Callable[[Mapping[ServedUnit, Future[Decoded]]], None]) -> None:
        self._done = done
        self._lock = threading.Lock()
        self._found: Mapping[ServedUnit, Future[Decoded]] = {}
        self._left = 0

    def begin(self, futures: Mapping[ServedUnit, Future[Decoded]]) -> None:
        """Waits for these."""
        self._found = futures
        self._left = 1 + len(futures)
        for future in futures.values():
            future.add_done_callback(self._one)
        self._one(None)

    def _one(self, _future: Future[Decoded] | None) -> None:
        with self._lock:
            self._left -= 1
            if self._left:
                return
        found, self._found = self._found, {}  # a future keeps its callbacks: it must not keep the other frames by them
        self._done(found)
