"""A server on this machine that speaks the OpenAI chat protocol, and misbehaves on command.

For tests of what asks a language model: every way in which such a server has been seen to fail has a name.
"""

import json
import socket
import struct
import threading
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = Callable[[str], str]
STALL = 30.0  # seconds that a slow server waits at most; it is woken when the server closes


def completion(text: Any, finish: str = "stop") -> bytes:
    """Return the body of a well-formed answer."""
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish}
    return json.dumps({"id": "1", "object": "chat.completion", "choices": [choice]}).encode()


class ChatServer:
    """Serve ``/v1/chat/completions`` on a free port of the loopback address, as a context manager.

    Args:
        answer: what the model says: a text, or a function from the question to one.
        behaviour: how the server serves it: a key of :data:`BEHAVIOURS`, or several, one a request; the last one goes
            on.

    Attributes:
        requests: headers and body of every request that came.
    """

    def __init__(self, answer: str | Answer = "", *behaviour: str) -> None:
        self.answer: Answer = answer if callable(answer) else lambda question: answer
        self.behaviours = behaviour or ("well",)
        self.requests: list[tuple[dict[str, str], dict[str, Any]]] = []
        self.closing = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = False  # so that closing waits for every answer
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})

    @property
    def url(self) -> str:
        """Address for ``base_url``."""
        return f"http://127.0.0.1:{self._server.server_port}/v1"

    def __enter__(self) -> "ChatServer":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.0"  # one request a connection, so that no thread outlives its answer

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                number = len(outer.requests)
                outer.requests.append((dict(self.headers), body))
                kind = outer.behaviours[min(number, len(outer.behaviours) - 1)]
                text = outer.answer(body["messages"][-1]["content"])
                with suppress(BrokenPipeError, ConnectionResetError):  # the client may have gone
                    BEHAVIOURS[kind](self, text, outer)

            def do_GET(self) -> None:
                outer.requests.append((dict(self.headers), {}))
                _send(self, completion("from the other place"))

            def log_message(self, *arguments: Any) -> None:
                pass

        return Handler


def _send(
    handler: BaseHTTPRequestHandler,
    body: bytes,
    status: int = 200,
    kind: str = "application/json",
    **headers: str,
) -> None:
    handler.send_response(status)
    all_headers = {"Content-Type": kind, "Content-Length": str(len(body)), **headers}
    for name, value in all_headers.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()
    handler.wfile.write(body)


def _status(code: int, **headers: str) -> Callable[..., None]:
    def serve(handler: BaseHTTPRequestHandler, text: str, server: ChatServer) -> None:
        key = handler.headers.get("Authorization", "")  # some servers repeat the key in the message
        _send(handler, json.dumps({"error": {"message": f"refused: {key}"}}).encode(), code, **headers)

    return serve


def _body(make: Callable[[str], bytes], kind: str = "application/json") -> Callable[..., None]:
    return lambda handler, text, server: _send(handler, make(text), kind=kind)


def _truncated(handler: BaseHTTPRequestHandler, text: str, server: ChatServer) -> None:
    body = completion(text)
    handler.send_response(200)
    handler.send_header("Content-Type", "application/json")
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body[: len(body) // 2])


def _reset(handler: BaseHTTPRequestHandler, text: str, server: ChatServer) -> None:
    """Drop the connection at once, before any answer."""
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.connection.close()


def _slow(handler: BaseHTTPRequestHandler, text: str, server: ChatServer) -> None:
    server.closing.wait(STALL)


def _dripping(handler: BaseHTTPRequestHandler, text: str, server: ChatServer) -> None:
    """Send a byte now and then, each in time, so that only a limit on the whole helps."""
    body = completion(text)
    handler.send_response(200)
    handler.send_header("Content-Type", "application/json")
    handler.end_headers()
    for position in range(len(body)):
        handler.wfile.write(body[position : position + 1])
        handler.wfile.flush()
        if server.closing.wait(0.05):
            return


def _redirect(handler: BaseHTTPRequestHandler, text: str, server: ChatServer) -> None:
    _send(handler, b"", 302, Location=f"{server.url}/elsewhere")


BEHAVIOURS: dict[str, Callable[..., None]] = {
    "well": _body(completion),
    "cut off": _body(lambda text: completion(text, "length")),
    "empty body": _body(lambda text: b""),
    "html": _body(lambda text: b"<!doctype html><h1>Gateway</h1>", "text/html"),
    "html as json": _body(lambda text: b"<!doctype html><h1>Gateway</h1>"),
    "broken json": _body(lambda text: completion(text)[:-5]),
    "deep json": _body(lambda text: b"[" * 100_000),
    "other json": _body(lambda text: b'{"result": "fine"}'),
    "no choices": _body(lambda text: b'{"choices": []}'),
    "a list": _body(lambda text: b"[1, 2]"),
    "no text": _body(lambda text: completion(None)),
    "a number": _body(lambda text: completion(7)),
    "stream": _body(lambda text: b"data: " + completion(text) + b"\n\ndata: [DONE]\n", "text/event-stream"),
    "plain text": _body(lambda text: text.encode(), "text/plain"),
    "latin-1": _body(lambda text: b'{"choices": [{"message": {"content": "caf\xe9"}}]}'),
    "huge": _body(lambda text: completion(text + " very" * 500_000)),
    "truncated": _truncated,
    "reset": _reset,
    "slow": _slow,
    "dripping": _dripping,
    "redirect": _redirect,
    "401": _status(401),
    "404": _status(404),
    "429": _status(429, Retry_After="0"),
    "500": _status(500),
    "503": _status(503),
}
