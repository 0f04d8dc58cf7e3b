"""Connections of the edge: uvicorn's protocol over httptools with a bound on everything that a client may send or leave open.

httptools joins the pieces of a header, URL or trailer by copying all that came before, and reports a header only when it
is whole (pinned in tests/assumptions/test_assumptions_http.py). So the bytes are counted here, before the parser sees
them, and handed over in small pieces.
"""

import asyncio
import logging
import time
from dataclasses import dataclass
from typing import Any, cast

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from web.problems import problem

logger = logging.getLogger(__name__)
PIECE = 4096  # bytes handed to the parser in one piece: most requests are one
LINGER_S = (
    2.0  # bytes that a client still sends after its last answer are dropped for this long, so that it can read it
)
SEND_TIMEOUT_S = 30.0  # a client that takes none of its answer for this long is gone
MAX_REST = 1 << 20  # bytes held of requests that are pipelined behind one that runs
BODIES = (b"content-length", b"transfer-encoding")


@dataclass(frozen=True, slots=True)
class Limits:
    """Of every connection. Sizes in bytes, times in seconds."""

    head: int = 64 << 10  # request line and headers; also the trailers, or the extensions of one chunk
    head_timeout: float = 15.0  # from the first byte (of a new connection: from its start) to the last of the head
    body_timeout: float = 15.0  # from the head to the last byte of the body, whatever code reads it
    connections: int = 2048


class Answering:
    """The transport as a request has it: to close means to end the connection in a way in which the answer arrives."""

    def __init__(self, protocol: "EdgeProtocol") -> None:
        self._protocol, self.write = protocol, protocol.transport.write

    def close(self) -> None:
        """After the last answer."""
        self._protocol.end()

    def is_closing(self) -> bool:
        """Whether nothing more may be written."""
        return self._protocol.ended or self._protocol.transport.is_closing()


class EdgeProtocol(HttpToolsProtocol):
    """One connection.

    `_framing`: bytes that came since the last whole head or piece of a body; `_open`: requests that are not answered yet;
    `_last`: the last request was read, so further bytes are dropped; `_refusal`: the answer after all that are open.
    """

    def __init__(self, *given: Any, limits: Limits, **named: Any) -> None:
        super().__init__(*given, **named)
        self._limits = limits
        self._framing = 0
        self._heading, self._receiving, self.ended = True, False, False
        self._rest, self._last, self._stopping = b"", False, False
        self._open, self._refusal = 0, b""
        self._awaited = ""  # the part that the deadline is of: "head", "body" or ""
        self._deadline: asyncio.TimerHandle | None = None
        self._sending: asyncio.TimerHandle | None = None
        self.changed = 0.0  # when it last became idle, or began to receive

    # The connection

    def connection_made(self, transport: Any) -> None:
        """A new connection takes the place of the one that has sent nothing whole for the longest time, if all are taken."""
        super().connection_made(transport)
        self._answering = Answering(self)
        self.changed = time.monotonic()
        if len(self.connections) > self._limits.connections:
            idle = [c for c in self.connections if c is not self and isinstance(c, EdgeProtocol) and c.replaceable()]
            if not idle:
                return self._refuse(
                    503, f"{self._limits.connections} connections are open already; retry after a moment"
                )
            min(idle, key=lambda c: c.changed).transport.abort()
        self._await("head")

    def replaceable(self) -> bool:
        """Whether no request of this connection is being answered: it is idle, or still sending."""
        return self._receiving or self.cycle is None or self.cycle.response_complete

    def connection_lost(self, exc: Exception | None) -> None:
        """As uvicorn's."""
        self._await("")
        self._watch_sending(False)
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """The client does not take its answer: for a while only."""
        super().pause_writing()
        self._watch_sending(True)

    def resume_writing(self) -> None:
        """It does again."""
        super().resume_writing()
        self._watch_sending(False)

    def timeout_keep_alive_handler(self) -> None:
        """Idle for too long; an answer that was never taken does not keep the connection open."""
        self.end()

    def shutdown(self) -> None:
        """As uvicorn's; a connection that is ending keeps no server alive."""
        self._stopping = True
        if self.ended:
            self.transport.abort()
        else:
            super().shutdown()

    def _watch_sending(self, paused: bool) -> None:
        if self._sending is not None:
            self._sending.cancel()
        self._sending = self.loop.call_later(SEND_TIMEOUT_S, self.transport.abort) if paused else None

    # Incoming bytes

    def data_received(self, data: bytes) -> None:
        """Hand over what came, piece by piece, within the limits."""
        if self._last or self.ended or self.transport.is_closing():
            return None  # bytes after the last request
        self._unset_keepalive_if_required()
        at = 0
        while at < len(data):
            if self.pipeline:  # one request runs and another waits: the rest is read when that is done
                self._keep(data[at:])
                break
            if self._framing >= self._limits.head:
                return self._too_large()
            piece = data[at : at + min(PIECE, self._limits.head - self._framing)]
            at += len(piece)
            self._framing += len(piece)
            try:
                self.parser.feed_data(piece)
            except httptools.HttpParserUpgrade:
                pass  # further bytes could be another protocol, and are dropped
            except (
                Exception
            ):  # of the parser, or of a callback; not logged but here: clients could fill the log with it
                logger.debug("a request is no HTTP/1.1", exc_info=True)
                self.send_400_response("")
            if self._last or self.ended or self.transport.is_closing():
                return self._await("")
        self._await("" if not (self._receiving or self._framing) else "head" if self._heading else "body")

    def on_message_begin(self) -> None:
        """The first byte of a request."""
        if self._last:
            raise ValueError("the request before was the last one")
        super().on_message_begin()
        self._heading, self._receiving = True, True
        self.changed = time.monotonic()

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header; trailers are dropped, as they come when the headers have been judged."""
        if self._heading:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """The head is whole."""
        if self.parser.get_http_version() not in ("1.0", "1.1"):
            self._refuse(505, "this server speaks HTTP/1.1 and HTTP/1.0")
            raise ValueError("its body is not read")
        self._heading, self._framing = False, 0
        if not self.url.startswith((b"/", b"*")):  # a target with a host: that one counts, as RFC 9112 (3.2.2) has it
            target = httptools.parse_url(self.url)
            named = target.host + (b":%d" % target.port if target.port else b"")
            self.headers[:] = [(b"host", named), *(header for header in self.headers if header[0] != b"host")]
        if self.parser.should_upgrade() and any(name in BODIES for name, value in self.headers if value != b"0"):
            raise ValueError("the parser reads no body of a request that asks for an upgrade")
        super().on_headers_complete()
        self._open += 1
        self.cycle.transport = cast(Any, self._answering)
        if self.parser.should_upgrade():  # answered as it is; further bytes could be another protocol
            self._last = True

    def on_body(self, body: bytes) -> None:
        """A piece of the body."""
        self._framing = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The request is whole; after one that wants the connection closed nothing is read."""
        self._heading, self._receiving, self._framing = True, False, 0
        self._last = self._last or (self.cycle is not None and not self.cycle.keep_alive)
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """An answer is out: go on with the held requests, or end after the last one."""
        self.changed = time.monotonic()
        self._open -= 1
        if self.ended or (self._last and not self._open):
            self.server_state.total_requests += 1
            return self.end()
        super().on_response_complete()
        if self._rest and not self.pipeline and not self.transport.is_closing():
            rest, self._rest = self._rest, b""
            self.loop.call_soon(self.data_received, rest)

    def _keep(self, data: bytes) -> None:
        self._rest += data
        if len(self._rest) > MAX_REST:
            self.transport.abort()
        else:
            self.flow.pause_reading()

    # The end of a connection

    def _await(self, what: str) -> None:
        """Set the deadline of what is to come; the same one stays as it is."""
        if what == self._awaited:
            return
        if self._deadline is not None:
            self._deadline.cancel()
        self._awaited = what
        timeout = self._limits.body_timeout if what == "body" else self._limits.head_timeout
        self._deadline = self.loop.call_later(timeout, self._expired) if what else None

    def _expired(self) -> None:
        self._awaited, self._deadline = "", None
        if self._heading and (self._receiving or self._framing):
            return self._refuse(408, f"the request's head did not arrive within {self._limits.head_timeout} s")
        if self._heading:
            return self.end()
        self._refuse(408, f"the body did not arrive within {self._limits.body_timeout} s")

    def _too_large(self) -> None:
        self._refuse(431, f"the request line and headers, or the trailers, are over {self._limits.head} bytes")

    def send_400_response(self, msg: str) -> None:
        """The bytes are no HTTP, or forbidden in it."""
        self._refuse(400, "the request is not HTTP/1.1 as RFC 9112 has it")

    def _refuse(self, http: int, message: str) -> None:
        """Answer by this connection itself and end it, after the answers of requests that came before."""
        if self._last or self.ended:
            return None
        own = (
            not self._heading and self.cycle is not None
        )  # the refused bytes belong to a request that the application may know
        if own and self.cycle.response_complete:
            return self.end()  # its answer is out
        if own and self.pipeline:
            self.pipeline.popleft()
        elif own and self.cycle.response_started:
            return self.transport.abort()
        elif own:
            self.cycle.disconnected = True  # the application hears that its caller left
            self.cycle.message_event.set()
        self._open -= own
        headers, body = problem(http, message)
        lines = [*headers, (b"connection", b"close"), (b"content-length", b"%d" % len(body))]
        head = b"".join(b"%s: %s\r\n" % line for line in lines)
        self._last, self._refusal = True, STATUS_LINE[http] + head + b"\r\n" + body
        if not self._open:
            self.end()

    def end(self) -> None:
        """Close, in a way in which the last answer arrives: a client that still sends would lose it by a reset."""
        if self.ended:
            return None
        self.ended = True
        self._await("")
        self._unset_keepalive_if_required()
        self.transport.write(self._refusal)
        if self._stopping:
            return self.transport.close()
        self.flow.resume_reading()
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.loop.call_later(LINGER_S, self.transport.abort)
