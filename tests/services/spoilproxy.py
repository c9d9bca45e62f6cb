#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""spoilproxy.py UPSTREAM-URL TLS-DIR DIR: between a helper and Barbican, spoils payloads.

Serves https with TLS-DIR/server.crt, forwards to UPSTREAM-URL (whose CA is TLS-DIR/ca.crt), and writes
its own URL to DIR/proxy-url. What DIR/fault says happens to answers of GET .../payload; an empty file
or none: nothing. Ends with its input.
"""
import http.client
import http.server
import os
import ssl
import sys
import threading
import time
import urllib.parse

UPSTREAM, TLS, DIR = urllib.parse.urlsplit(sys.argv[1]), sys.argv[2], sys.argv[3]
HTML = b"<html><head><title>Sorry</title></head><body>perhaps later</body></html>"


def fault():
    try:
        with open(f"{DIR}/fault", encoding="ascii") as f:
            return f.read().strip()
    except FileNotFoundError:
        return ""


class Proxy(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self, status, body, headers=(), length=None):
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = True

    def spoil(self, name, status, body, headers):
        """Answers in place of the right answer."""
        page = [("Content-Type", "text/html")]
        match name:
            case "500" | "502" | "503":
                self.answer(int(name), HTML, page)
            case "429":
                self.answer(429, b"{}", [("Retry-After", "2")])
            case "truncated":
                self.answer(status, body[:10], headers, length=len(body))
            case "too-long":
                self.answer(status, b"x" * (1 << 20), headers)
            case "short-secret":
                self.answer(status, body[:16], headers)
            case "wrong-secret":
                self.answer(status, os.urandom(32), headers)
            case "slow":
                time.sleep(10)
                self.answer(status, body, headers)
            case _:
                self.answer(status, body, headers)

    def forward(self):
        upstream = http.client.HTTPSConnection(
            UPSTREAM.hostname, UPSTREAM.port, timeout=30,
            context=ssl.create_default_context(cafile=f"{TLS}/ca.crt"))
        length = int(self.headers.get("Content-Length", 0))
        headers = {n: v for n, v in self.headers.items() if n.lower() not in ("host", "connection")}
        upstream.request(self.command, self.path, self.rfile.read(length) or None, headers)
        reply = upstream.getresponse()
        body = reply.read()
        kept = [(n, v) for n, v in reply.getheaders()
                if n.lower() not in ("connection", "content-length", "transfer-encoding")]
        name = fault() if self.path.endswith("/payload") else ""
        if name:
            self.spoil(name, reply.status, body, kept)
        else:
            self.answer(reply.status, body, kept)

    do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = forward

    def log_message(self, *_):
        pass


def main():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Proxy)
    server.daemon_threads = True
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(f"{TLS}/server.crt", f"{TLS}/server.key")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with open(f"{DIR}/proxy-url.new", "w", encoding="ascii") as f:
        f.write(f"https://localhost:{server.server_port}")
    os.rename(f"{DIR}/proxy-url.new", f"{DIR}/proxy-url")
    sys.stdin.read()


main()
