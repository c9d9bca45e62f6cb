# SPDX-License-Identifier: GPL-2.0-or-later
"""An HTTP(S) server for tests, in this process, that can misbehave in every way we know.

        def handle(request):            # in a thread of its own for each connection
            if request.path == "/slow":
                return Reply(200, {"a": 1}, delay=3)
            return Reply(404)

        with FakeServer(handle, certs="DIR/OF/certs.py") as server:
            ... server.url ... server.requests ...

A Reply's body is bytes, str, or anything for JSON.
"""
import json
import socket
import ssl
import struct
import threading
import time
import urllib.parse
from dataclasses import dataclass, field

HTML = "<html><body><h1>503 Service Unavailable</h1>No server is available.</body></html>"


@dataclass
class Request:
    method: str
    target: str            # as it came
    path: str              # without the query
    query: dict            # name: value, of the last of that name
    headers: dict          # names in lower case
    body: bytes

    def json(self):
        return json.loads(self.body)


@dataclass
class Reply:
    status: int = 200
    body: object = b""
    headers: dict = field(default_factory=dict)
    delay: float = 0       # seconds before the first byte
    drip: float = 0        # seconds between the bytes of the body
    length: object = True  # True: Content-Length; False: none, the end is the end; else a lie
    cut: object = None     # so many bytes of the body, then the connection breaks
    chunked: bool = False
    keep: bool = True      # keep the connection if length allows
    reset: bool = False    # no reply, a broken connection
    raw: object = None     # these bytes in place of everything

    def payload(self):
        if isinstance(self.body, bytes):
            return self.body
        if isinstance(self.body, str):
            return self.body.encode()
        self.headers.setdefault("Content-Type", "application/json")
        return json.dumps(self.body).encode()


def html(status=503, **more):
    return Reply(status, HTML, {"Content-Type": "text/html; charset=UTF-8"}, **more)


class FakeServer:
    def __init__(self, handle, certs=None, cert="server", client_ca=None, port=0):
        """certs: a folder of certs.py; without: plain HTTP. client_ca: a file's name there,
        whose clients are let in."""
        self.handle, self.requests, self.connections = handle, [], 0
        self.lock, self.stopped, self.open = threading.Lock(), False, set()
        self.context = None
        if certs:
            self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.context.load_cert_chain(f"{certs}/{cert}.crt", f"{certs}/{cert}.key")
        if client_ca:
            self.context.verify_mode = ssl.CERT_REQUIRED
            self.context.load_verify_locations(f"{certs}/{client_ca}")
        self.listener = socket.create_server(("127.0.0.1", port), backlog=128)
        self.port = self.listener.getsockname()[1]
        self.url = f"{'https' if certs else 'http'}://localhost:{self.port}"
        threading.Thread(target=self.accept, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def stop(self):
        """No more connections, and those that are there break."""
        if self.stopped:
            return
        self.stopped = True
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        with self.lock:
            for conn in self.open:
                try:
                    conn.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass

    def seen(self, method=None, path=None):
        """The requests so far, of this method and with this beginning of the path."""
        with self.lock:
            return [r for r in self.requests if method in (None, r.method) and
                    r.path.startswith(path or "")]

    def forget(self):
        with self.lock:
            self.requests.clear()

    def accept(self):
        while not self.stopped:
            try:
                conn, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(conn,), daemon=True).start()

    def serve(self, plain):
        conn = plain
        try:
            conn = self.context.wrap_socket(plain, server_side=True) if self.context else plain
            with self.lock:
                self.connections += 1
                self.open.add(conn)  # not `plain`, which TLS takes over
            with conn, conn.makefile("rb") as stream:
                while self.one(conn, stream):
                    pass
                if self.context and not self.stopped:
                    conn.unwrap()  # close_notify
        except (OSError, ValueError):
            pass
        finally:
            with self.lock:
                self.open.discard(conn)
            plain.close()

    def read(self, stream):
        line = stream.readline(65536).decode("latin-1").split()
        if len(line) != 3:
            return None
        headers = {}
        while (text := stream.readline(65536).decode("latin-1").strip()):
            name, _, value = text.partition(":")
            headers[name.lower()] = value.strip()
        body = stream.read(int(headers.get("content-length", 0)))
        parts = urllib.parse.urlsplit(line[1])
        return Request(line[0], line[1], parts.path,
                       dict(urllib.parse.parse_qsl(parts.query)), headers, body)

    def one(self, conn, stream):
        """One request; true if the connection lives on."""
        request = self.read(stream)
        if not request:
            return False
        with self.lock:
            self.requests.append(request)
        reply = self.handle(request)
        time.sleep(reply.delay)
        if reply.reset:
            return self.break_off(conn)
        if reply.raw is not None:
            conn.sendall(reply.raw)
            return False
        return self.send(conn, request, reply)

    @staticmethod
    def break_off(conn):
        """Neither close_notify nor FIN: RST."""
        conn.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        raise OSError("broken off")

    def send(self, conn, request, reply):
        body = reply.payload()
        lines = [f"HTTP/1.1 {reply.status} Status"]
        lines += [f"{k}: {v}" for k, v in reply.headers.items()]
        keep = reply.keep and reply.length is not False and reply.cut is None
        if reply.chunked:
            lines.append("Transfer-Encoding: chunked")
            body = b"".join(b"1\r\n%c\r\n" % c for c in body) + b"0\r\n\r\n"
        elif reply.length is not False and reply.status != 204:
            size = len(body) if reply.length is True else reply.length
            lines.append(f"Content-Length: {size}")
        lines.append(f"Connection: {'keep-alive' if keep else 'close'}")
        conn.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
        if request.method != "HEAD":
            self.send_body(conn, reply, body)
        if reply.cut is not None:
            raise OSError("cut")  # closes without close_notify
        return keep

    @staticmethod
    def send_body(conn, reply, body):
        if reply.cut is not None:
            body = body[:reply.cut]
        if not reply.drip:
            conn.sendall(body)
            return
        for i in range(len(body)):
            conn.sendall(body[i:i + 1])
            time.sleep(reply.drip)
