"""A DNS server on loopback that answers from a table, as an authoritative one does."""

from __future__ import annotations

import socketserver
import threading
from typing import TYPE_CHECKING, Self

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class NameServer:
    """Answers over UDP on loopback; a name without records does not exist, *silent* ones get no answer."""

    def __init__(self, records: Mapping[tuple[str, str], Sequence[str]], silent: Sequence[str] = ()) -> None:
        self.records = {(name.lower(), kind): list(texts) for (name, kind), texts in records.items()}
        self.silent = frozenset(silent)
        self.asked: list[str] = []
        server = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                data, peer = self.request
                reply = server.answer(dns.message.from_wire(data))
                if reply is not None:
                    peer.sendto(reply.to_wire(), self.client_address)

        self._server = socketserver.ThreadingUDPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens."""
        host, port = self._server.server_address[:2]
        return str(host), int(port)

    def answer(self, query: dns.message.Message) -> dns.message.Message | None:
        """Answer one query, as RFC 1035 and RFC 2308 say: data, no data, or no such name."""
        (question,) = query.question
        name = question.name.to_text(omit_final_dot=True).lower()
        kind = dns.rdatatype.to_text(question.rdtype)
        self.asked.append(f"{name} {kind}")
        if name in self.silent:
            return None
        reply = dns.message.make_response(query)
        reply.flags |= dns.flags.AA
        if (name, kind) in self.records:
            texts = [_written(kind, text) for text in self.records[name, kind]]
            if texts:
                reply.answer.append(dns.rrset.from_text_list(question.name, 60, "IN", kind, texts))
        elif not any(known == name or known.endswith(f".{name}") for known, _ in self.records):
            reply.set_rcode(dns.rcode.NXDOMAIN)
        return reply

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def _written(kind: str, text: str) -> str:
    """Write a record as a zone file does: long texts in strings of at most 255 octets."""
    if kind != "TXT":
        return text
    escaped = [text[start : start + 200] for start in range(0, len(text), 200)] or [""]
    return " ".join('"' + piece.replace("\\", "\\\\").replace('"', '\\"') + '"' for piece in escaped)
