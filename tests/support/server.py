"""A small OpenAI-compatible server that behaves or misbehaves as a test wants."""

from __future__ import annotations

import json
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Body = dict[str, Any]


def choice(text: str, **more: Any) -> Body:
    return {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}, **more}


def completion(*choices: Body, **more: Any) -> Body:
    return {"id": "c", "object": "chat.completion", "created": 0, "model": "m", "choices": list(choices), **more}


def words_of(body: Body) -> str:
    """All text of a call's conversation."""
    parts = (m["content"] for m in body["messages"])
    return "\n".join(p if isinstance(p, str) else " ".join(x.get("text", "") for x in p) for p in parts)


class Server(ThreadingHTTPServer):
    """`answer(body, nth)` gives a completion, or the name of a misbehaviour; nth counts calls with that body."""

    daemon_threads = True

    def __init__(self, answer: Callable[[Body, int], Body | str]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answer = answer
        self.calls: list[Body] = []
        self.headers: list[dict[str, str]] = []
        self.times: list[float] = []
        self.redirect = (307, "")
        """Status and address of what `redirects` answers."""
        self.fetched: list[str] = []
        """Paths that were asked for without a body."""
        self.closing = threading.Event()
        self.hung_up = threading.Semaphore(0)
        """Released once for each client that left a call that stalls or drips."""
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is what some tests are about."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        with self.server.lock:
            nth = sum(c == body for c in self.server.calls)
            self.server.calls.append(body)
            self.server.headers.append(dict(self.headers))
            self.server.times.append(time.monotonic())
        answer = self.server.answer(body, nth)
        if isinstance(answer, str):
            getattr(self, f"_{answer}")()
        else:
            self._send(200, json.dumps(answer).encode())

    def do_GET(self) -> None:
        self.server.fetched.append(self.path)
        self._send(200, json.dumps(completion(choice("got"))).encode())

    def _send(self, status: int, content: bytes, claimed: int | None = None, **headers: str) -> None:
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(content) if claimed is None else claimed))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(content)

    def _stall(self) -> None:
        while not self.server.closing.wait(0.02):
            # What a client that waits for an answer sends is nothing: only its hanging up can be read.
            if select.select([self.connection], [], [], 0)[0] and not self.connection.recv(1, socket.MSG_PEEK):
                self.server.hung_up.release()
                break
        self.close_connection = True

    def _drip(self) -> None:
        self._send(200, b'{"id": "', claimed=100_000)
        try:
            while not self.server.closing.wait(0.05):
                self.wfile.write(b"x")
                self.wfile.flush()
        except OSError:
            self.server.hung_up.release()
        self.close_connection = True

    def _rubbish(self) -> None:
        self._send(200, b"<html>\xff\xfe sunny today </html>")

    def _half(self) -> None:
        whole = json.dumps(completion(choice("Verdict: good"))).encode()
        self._send(200, whole[: len(whole) // 2])

    def _cut(self) -> None:
        self._send(200, b'{"choices": [', claimed=1000)
        self.close_connection = True

    def _drop(self) -> None:
        self.close_connection = True

    def _busy(self) -> None:
        self._send(429, b'{"error": {"message": "slow down"}}', retry_after="0.4")

    def _broken(self) -> None:
        self._send(500, b'{"error": {"message": "out of luck"}}')

    def _refuses(self) -> None:
        self._send(400, b'{"error": {"message": "the prompt is too long"}}')

    def _redirects(self) -> None:
        status, address = self.server.redirect
        self._send(status, b"", location=address)

    def _missing(self) -> None:
        self._send(404, b'{"error": {"message": "Not Found"}}')

    def _forbids(self) -> None:
        self._send(401, json.dumps({"error": {"message": f"bad key {self.headers['authorization']}"}}).encode())

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""


@contextmanager
def serving(answer: Callable[[Body, int], Body | str]) -> Iterator[Server]:
    """A server for as long as the block runs."""
    server = Server(answer)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.closing.set()
        server.shutdown()
        server.server_close()
        thread.join()
