"""A small HTTP proxy in front of an object store that fails on demand: what no local server simulates.

One connection, one request; the answer of the moment is ``mood``.
"""

from __future__ import annotations

import http.client
import re
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

SLOW_PIECE_S = 0.05
MUTE_MAX_S = 60.0
POLL_S = 0.02


class FaultProxy:
    """Listens on 127.0.0.1 and passes requests on to ``target``.

    ``mood`` is "well", an HTTP status as text ("429", "503", "403", "401", "400"), "cut" (the connection ends
    in the middle of the answer), "deaf" (it ends before any answer, the request having been passed on),
    "mute" (no answer, until the proxy stops) or "slow". ``fail_next`` limits the mood to so many requests,
    None means until it changes; ``only`` limits it to requests in whose method and path that regular
    expression is found.
    ``requests`` are method and path of all that came, ``heads`` their header fields.
    """

    def __init__(self, target: str) -> None:
        self.mood = "well"
        self.fail_next: int | None = None
        self.only = ""
        self.requests: list[tuple[str, str]] = []
        self.heads: list[dict[str, str]] = []
        self.stopped = threading.Event()
        self._target = urlsplit(target)
        handler = type("Handler", (_Handler,), {"proxy": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}{self._target.path}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(POLL_S,), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Close the port."""
        self.stopped.set()
        self._server.shutdown()
        self._server.server_close()

    def mood_now(self, request: str) -> str:
        """What this request meets."""
        if not re.search(self.only, request):
            return "well"
        if self.fail_next is not None:
            if self.fail_next <= 0:
                return "well"
            self.fail_next -= 1
        return self.mood

    def pass_on(self, method: str, path: str, headers: dict[str, str], body: bytes) -> tuple[int, Any, bytes]:
        """The target's answer."""
        connection = http.client.HTTPConnection(self._target.netloc, timeout=60)
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            return answer.status, answer.getheaders(), answer.read()
        finally:
            connection.close()


class _Handler(BaseHTTPRequestHandler):
    proxy: FaultProxy
    protocol_version = "HTTP/1.1"

    def handle_one_request(self) -> None:
        """As in the base class; a client that hangs up is no news."""
        try:
            super().handle_one_request()
        except (ConnectionError, TimeoutError):
            self.close_connection = True

    def _any(self) -> None:
        proxy = self.proxy
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        proxy.requests.append((self.command, self.path))
        proxy.heads.append(dict(self.headers.items()))
        mood = proxy.mood_now(f"{self.command} {self.path}")
        self.close_connection = True
        if mood.isdecimal():
            code = {"403": "AccessDenied", "401": "Unauthorized", "400": "ExpiredRequest"}.get(
                mood, "SlowDown"
            )
            text = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>no</Message></Error>".encode()
            self._answer(int(mood), [("Content-Type", "application/xml")], text)
            return
        if mood == "mute":
            proxy.stopped.wait(MUTE_MAX_S)
            return
        # The signature covers the Host header, so it is passed on as it came.
        headers = {name: value for name, value in self.headers.items() if name.lower() != "connection"}
        status, found, content = proxy.pass_on(self.command, self.path, headers, body)
        if mood == "deaf":
            return
        if mood == "cut":
            content_length = len(content) + 1
            self._head(status, found, content_length)
            self.wfile.write(content[: len(content) // 2])
            return
        self._answer(status, found, content, slow=mood == "slow")

    def _head(self, status: int, headers: Any, length: int) -> None:
        self.send_response_only(status)
        for name, value in headers:
            if name.lower() not in ("transfer-encoding", "content-length", "connection"):
                self.send_header(name, value)
        self.send_header("Content-Length", str(length))
        self.send_header("Connection", "close")
        self.end_headers()

    def _answer(self, status: int, headers: Any, content: bytes, *, slow: bool = False) -> None:
        self._head(status, headers, len(content))
        if self.command == "HEAD":
            return
        step = max(len(content) // 20, 1) if slow else max(len(content), 1)
        for start in range(0, len(content), step):
            self.wfile.write(content[start : start + step])
            if slow:
                time.sleep(SLOW_PIECE_S)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _any  # the base class's names

    def log_message(self, *_args: object) -> None:
        """Say nothing."""
