#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""kmip-faults.py HELPER DIR: what the kmip helper answers when things go wrong.

DIR is that of kmip-up. Most faults are the real server's; those that it cannot be brought to
come from a proxy before it, which holds the same certificates and spoils single replies.
Prints a table: fault, answer. Exit code 1 if any answer is another than expected.
"""
import base64
import os
import re
import signal
import socket
import ssl
import struct
import subprocess
import sys
import threading
import time
import uuid
import warnings

warnings.simplefilter("ignore")
sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from helper_client import Helper, Wrong, expect

HELPER, DIR = sys.argv[1], os.path.abspath(sys.argv[2])
with open(os.path.join(DIR, "env"), encoding="utf-8") as env_file:
    ENV = dict(line.strip().split("=", 1) for line in env_file)
SERVER, TLS = ENV["KMIP_SERVER"], ENV["KMIP_TLS"]
PORT = int(SERVER.split(":")[1])
SECRET = bytes(range(32))
REGISTER, LOCATE, GET, ATTRIBUTES, ACTIVATE, REVOKE, DESTROY = 3, 8, 10, 11, 18, 19, 20


def options(server=SERVER, ca="ca", client="client", key=None, **more):
    o = {"server": server, "ca-file": f"{TLS}/{ca}.crt", "client-cert": f"{TLS}/{client}.crt",
         "client-key": f"{TLS}/{key or client}.key"}
    o.update({name.replace("_", "-"): value for name, value in more.items()})
    return list(o.items())


def start(**more):
    return Helper(HELPER, options(**more))


def label():
    return str(uuid.uuid4())


def show(what, answer):
    print(f"ok      {what:44} {answer[:150]}")


def expect_error(what, answer, kind, text):
    expect(answer.startswith(f"error {kind} ") and re.search(text, answer),
           f"{what}: wanted {kind} /{text}/, got {answer!r}")
    show(what, answer)


# --- a proxy that spoils replies ---

class Proxy:
    """faults: {operation: function(reply) -> bytes or None (hang up)}"""

    def __init__(self):
        self.faults, self.seen, self.connections = {}, [], 0
        self.before = {}  # the same for requests; bytes: the answer, without the server
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"localhost:{self.listener.getsockname()[1]}"
        self.context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH,
                                                  cafile=f"{TLS}/ca.crt")
        self.context.verify_mode = ssl.CERT_REQUIRED
        self.context.load_cert_chain(f"{TLS}/server.crt", f"{TLS}/server.key")
        self.upstream = ssl.create_default_context(cafile=f"{TLS}/ca.crt")
        self.upstream.load_cert_chain(f"{TLS}/client.crt", f"{TLS}/client.key")
        self.open = []
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(sock,), daemon=True).start()

    @staticmethod
    def message(sock):
        data = b""
        while len(data) < 8 or len(data) < 8 + struct.unpack(">I", data[4:8])[0]:
            more = sock.recv(65536)
            if not more:
                return None
            data += more
        return data

    def serve(self, sock):
        try:
            with self.context.wrap_socket(sock, server_side=True) as client, \
                    self.upstream.wrap_socket(socket.create_connection(("127.0.0.1", PORT)),
                                              server_hostname="localhost") as server:
                self.connections += 1
                self.open.append(client)
                while request := self.message(client):
                    at = request.index(bytes.fromhex("42005c0500000004")) + 8
                    op = struct.unpack(">I", request[at:at + 4])[0]
                    self.seen.append(op)
                    reply = self.before.get(op, lambda _: None)(request)
                    if reply is None:
                        server.sendall(request)
                        reply = self.faults.get(op, lambda r: r)(self.message(server))
                    if reply is None:
                        return
                    client.sendall(reply)
        except OSError:
            pass

    def hang_up_idle(self):
        for client in self.open:
            try:
                client.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        self.open.clear()
        time.sleep(0.05)


def item(tag, kind, value):
    return (struct.pack(">I", tag << 8 | kind) + struct.pack(">I", len(value)) + value +
            bytes(-len(value) % 8))


def number(tag, kind, value):
    return item(tag, kind, struct.pack(">I", value))


def made_reply(op, status, rest):
    version = item(0x420069, 1, number(0x42006a, 2, 1) + number(0x42006b, 2, 4))
    header = item(0x42007a, 1, version + number(0x42000d, 2, 1))
    batch = item(0x42000f, 1, number(0x42005c, 5, op) + number(0x42007f, 5, status) + rest)
    return item(0x42007b, 1, header + batch)


def refusal(op, reason, text):
    return made_reply(op, 1, number(0x42007e, 5, reason) + item(0x42007d, 7, text.encode()))


def success(op, payload):
    return made_reply(op, 0, item(0x42007c, 1, payload))


# --- connections ---

def free_port():
    with socket.create_server(("127.0.0.1", 0)) as s:
        return s.getsockname()[1]


def test_connections():
    for what, more, text in [
            ("refused", {"server": f"127.0.0.1:{free_port()}"}, "Connection refused"),
            ("DNS name unknown", {"server": "nowhere.invalid:5696"}, "not known to DNS"),
            ("wrong CA", {"ca": "other-ca"}, "not signed by a CA"),
            ("client certificate of another CA", {"client": "other"},
             "refuses our TLS certificate"),
            ("server's certificate as ours", {"client": "server"},
             "refuses our TLS certificate"),
            ("key of another certificate", {"key": "client-b"}, "key is of another")]:
        with start(**more) as h:
            expect_error(what, h.ask("ping"), "unavailable", text)


def test_certificates_of_servers():
    for what, cert, text in [("certificate for another host", "elsewhere", "for another host"),
                             ("certificate expired", "expired", "has expired")]:
        port = free_port()
        with subprocess.Popen(["openssl", "s_server", "-accept", f"127.0.0.1:{port}", "-quiet",
                               "-cert", f"{TLS}/{cert}.crt", "-key", f"{TLS}/{cert}.key"],
                              stdin=subprocess.PIPE, stderr=subprocess.DEVNULL,
                              stdout=subprocess.DEVNULL) as server:
            try:
                with start(server=f"localhost:{port}") as h:
                    for _ in range(50):
                        answer = h.ask("ping")
                        if "refused" not in answer:
                            break
                        time.sleep(0.1)
                    expect_error(what, answer, "unavailable", text)
            finally:
                server.kill()


def test_options():
    loose = os.path.join(DIR, "loose.key")
    with open(f"{TLS}/client.key", encoding="utf-8") as f, \
            open(loose, "w", encoding="utf-8") as g:
        g.write(f.read())
    os.chmod(loose, 0o644)
    full = dict(options())
    for what, change, text in [
            ("no client certificate", {"client-cert": None}, "client-cert and client-key are"),
            ("no client key", {"client-key": None}, "client-cert and client-key are"),
            ("client key that others may read", {"client-key": loose}, "chmod"),
            ("client key missing", {"client-key": "/nowhere/key"}, "No such file"),
            ("no server", {"server": None}, "server is missing"),
            ("server as a URL", {"server": "https://h/x"}, "port from 1"),
            ("server with a path", {"server": "h/x"}, "HOST:PORT"),
            ("server with port 0", {"server": "h:0"}, "port from 1"),
            ("server with port 65536", {"server": "h:65536"}, "port from 1"),
            ("servers without a comma", {"server": "a b"}, "commas"),
            ("prefix with #", {"name-prefix": "a#"}, "name-prefix"),
            ("protocol 3.0", {"protocol": "3.0"}, "protocol"),
            ("no TLS wanted", {"insecure-loopback": "yes"}, "unknown option"),
            ("unknown option", {"colour": "red"}, "unknown option")]:
        lines = "".join(f"option {n} {v}\n" for n, v in {**full, **change}.items() if v)
        run = subprocess.run([HELPER], input=lines + "ready\n", capture_output=True, text=True,
                             check=False)
        expect(run.returncode == 1 and "\nready" not in run.stdout and
               re.search(text, run.stderr), f"{what}: {run.stderr!r}")
        show(what, run.stderr.strip())


def test_stopped():
    with open(os.path.join(DIR, "pids/kmip"), encoding="utf-8") as f:
        pid = int(f.read().split()[0])
    name = label()
    with start(connect_timeout="1s", request_timeout="1s") as h:
        key = h.new(name, SECRET)
        os.kill(pid, signal.SIGSTOP)
        try:
            began = time.monotonic()
            expect_error("stopped, on a kept connection", h.ask(f"get {key}"), "unavailable",
                         "no .* within 1 s")
            expect_error("stopped, on a new one", h.ask("ping"), "unavailable",
                         "no .* within 1 s")
            expect(time.monotonic() - began < 4, "it took too long")
        finally:
            os.kill(pid, signal.SIGCONT)
        expect(h.get(key) == SECRET, "not there again")
        expect(h.kind(f"destroy {key} {name}") == "destroyed", "destroy")


# --- failover ---

def test_failover():
    dead = f"127.0.0.1:{free_port()}"
    with start(server=f"{dead},{SERVER}") as h:
        expect(h.ask("ping") == "pong", "the second server is not asked")
        began = time.monotonic()
        for _ in range(20):
            expect(h.ask("ping") == "pong", "ping")
        expect(time.monotonic() - began < 2, "the dead one is asked again and again")
        show("one of two servers is dead", "pong")
    with start(server=f"{dead}, {dead}") as h:
        expect_error("both dead", h.ask("ping"), "unavailable", "refused")
    with socket.create_server(("127.0.0.1", 0)) as mute, \
            start(server=f"127.0.0.1:{mute.getsockname()[1]},{SERVER}",
                  connect_timeout="1s") as h:
        expect(h.ask("ping") == "pong", "a silent first server")
        show("the first of two servers hangs", "pong")


def test_first_server_hangs():
    """With timeout = 10 s a helper has 5 s: enough for the second server."""
    name = label()
    with start() as h:
        key = h.new(name, SECRET)
    with socket.create_server(("127.0.0.1", 0)) as mute, \
            start(server=f"127.0.0.1:{mute.getsockname()[1]},{SERVER}", deadline_ms="5000") as h:
        began = time.monotonic()
        expect(h.get(key) == SECRET, "the second server is not asked")
        expect(time.monotonic() - began < 4.5, "too late")
        show("the first of two hangs, 5 s in all", f"secret after {time.monotonic() - began:.1f} s")
    proxy = Proxy()
    with start(server=f"{proxy.address},{SERVER}", deadline_ms="5000") as h:
        expect(h.get(key) == SECRET, "get")
        proxy.before[GET] = lambda r: time.sleep(10)
        began = time.monotonic()
        expect(h.get(key) == SECRET, "the second server is not asked")
        expect(time.monotonic() - began < 4.5, "too late")
        show("the same over a kept connection", f"secret after {time.monotonic() - began:.1f} s")
    with start() as h:
        expect(h.kind(f"destroy {key} {name}") == "destroyed", "destroy")


def test_failover_of_requests():
    proxy = Proxy()
    name = label()
    with start(server=f"{proxy.address},{SERVER}", request_timeout="1s") as h:
        key = h.new(name, SECRET)
        proxy.before[GET] = lambda r: refusal(GET, 0x100, "General Failure")
        expect(h.get(key) == SECRET, "a failing first server")
        show("the first server fails at get", "secret of the second")
        proxy.before.clear()
        expect(h.get(key) == SECRET and proxy.seen.count(GET) == 1, "it does not stay there")
        expect(h.kind(f"destroy {key} {name}") == "destroyed", "destroy")


# --- connections that die ---

def test_kept_connections():
    proxy = Proxy()
    name, other = label(), label()
    with start(server=proxy.address) as h:
        key = h.new(name, SECRET)
        expect(h.get(key) == SECRET and proxy.connections == 1, "the connection is not kept")
        proxy.hang_up_idle()
        expect(h.get(key) == SECRET and proxy.connections == 2, "get after an idle end")
        proxy.hang_up_idle()
        key2 = h.new(other, SECRET)
        expect(proxy.connections == 3, "new after an idle end")
        show("a kept connection has ended", "a new one, also for new")
        # It dies while the request is on its way, once.
        once = [1]
        proxy.before[GET] = lambda r: proxy.hang_up_idle() if once and once.pop() else None
        expect(h.get(key) == SECRET, "get over a dying connection")
        show("it ends under a get", "the get is repeated")
        proxy.before.clear()
        for k, n in ((key, name), (key2, other)):
            expect(h.kind(f"destroy {k} {n}") == "destroyed", "destroy")


def test_lost_reply_to_new():
    proxy = Proxy()
    name = label()
    proxy.faults[REGISTER] = lambda r: None
    with start(server=proxy.address) as h:
        answer = h.ask(f"new {name} AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=")
        expect_error("the reply to new is lost", answer, "unavailable", "ended the connection")
        expect(proxy.seen.count(REGISTER) == 1, "Register was repeated")
        found = h.items(f"find {name}")
        expect(list(found.values()) == [name], f"find: {found}")
        key = list(found)[0]
        expect(h.get(key) == SECRET, "the secret of the lost reply")
        show("... and find", f"item {key}")
        expect(h.kind(f"destroy {key} {name}") == "destroyed", "destroy")


def test_spoilt_replies():
    proxy = Proxy()
    name = label()
    with start(server=proxy.address, request_timeout="1s") as h:
        key = h.new(name, SECRET)
        for what, spoil, text in [
                ("truncated", lambda r: r[:-16], "no whole reply within 1 s"),
                ("too long", lambda r: r[:4] + b"\x01\0\0\0" + r[8:], "more than 64 KiB"),
                ("of another kind", lambda r: b"HTTP/1.1 400 Bad Request\r\n\r\n",
                 "no KMIP message"),
                ("to another operation", lambda r: r.replace(b"\0\0\0\x0a", b"\0\0\0\x0b"),
                 "does not fit the request"),
                ("malformed inside", lambda r: r[:24] + b"\xff" * 8 + r[32:],
                 "does not fit the request"),
                ("asynchronous", lambda r: r.replace(bytes.fromhex("42007f0500000004") + bytes(4),
                                                     bytes.fromhex("42007f050000000400000002")),
                 "does not fit the request")]:
            proxy.faults[GET] = spoil
            expect_error(f"a reply {what}", h.ask(f"get {key}"), "unavailable", text)
        cut = lambda r: r.replace(item(0x420043, 8, SECRET), item(0x420043, 8, SECRET[:16]) +
                                  item(0x420041, 8, bytes(8)))
        for what, spoil, text in [
                ("a key of 16 bytes", cut, "256 bits"),
                ("the key of another id", lambda r: r.replace(
                    item(0x420094, 7, key.encode()), item(0x420094, 7, b"9" * len(key))),
                 "another key")]:
            proxy.faults[GET] = spoil
            expect_error(what, h.ask(f"get {key}"), "denied", text)
        proxy.faults[GET] = lambda r: time.sleep(2) or r
        began = time.monotonic()
        expect_error("a server that is slow", h.ask(f"get {key}"), "unavailable",
                     "no whole reply within 1 s")
        expect(time.monotonic() - began < 4, "it waited too long")
        proxy.faults.clear()
        expect(h.get(key) == SECRET, "not well again")
        expect(h.kind(f"destroy {key} {name}") == "destroyed", "destroy")


def test_refusals():
    proxy = Proxy()
    with start(server=proxy.address) as h:
        for reason, kind, name in [(0x03, "denied", "Authentication"), (0x0c, "denied", "Perm"),
                                   (0x3a, "quota", "Server Limit"), (0x100, "unavailable", "Gen"),
                                   (0x04, "invalid", "Invalid Message")]:
            proxy.before[LOCATE] = lambda r, n=reason: refusal(LOCATE, n, "of\tits own\x1b[2J\xff")
            expect_error(f"reason 0x{reason:02x}", h.ask(f"find {label()}"), kind,
                         name + r".*of.its own.\[2J")


def test_what_may_not_be_seen():
    proxy = Proxy()
    name = label()
    with start(server=proxy.address) as h:
        keys = [h.new(f"{name}-{i}", SECRET) for i in range(2)]
        denied = refusal(ATTRIBUTES, 0x0c, "not yours")
        proxy.before[ATTRIBUTES] = lambda r: \
            denied if item(0x420094, 7, keys[0].encode()) in r else None
        expect(h.items(f"list {name}") == {keys[1]: f"{name}-1"}, "list")
        expect_error("find of what may not be seen", h.ask(f"find {name}-0"), "denied", "not yours")
        proxy.before[ATTRIBUTES] = lambda r: denied
        expect_error("list without the right to look", h.ask(f"list {name}"), "denied", "not yours")
        proxy.before.clear()
        for i, key in enumerate(keys):
            expect(h.kind(f"destroy {key} {name}-{i}") == "destroyed", "destroy")


# --- records ---

def test_owners():
    name = label()
    with start() as h, start(client="client-b") as b:
        key = h.new(name, SECRET)
        expect_error("get of another owner's key", b.ask(f"get {key}"), "denied", "Permission")
        expect_error("destroy of it", b.ask(f"destroy {key} {name}"), "denied", "Permission")
        expect(b.items(f"find {name}") == {} and b.items("list") == {}, "it is listed")
        expect(h.get(key) == SECRET, "gone")
        expect_error("unknown id", h.ask("get 999999999"), "notfound", "Item Not Found")
        expect_error("id of another form", h.ask("get a/b=c"), "notfound", "Item Not Found")
        expect(h.ask(f"destroy 999999999 {name}") == "gone", "destroy of an unknown id")
        expect_error("destroy with another label", h.ask(f"destroy {key} {label()}"), "invalid",
                     "label is another")
        expect(h.kind(f"destroy {key} {name}") == "destroyed", "destroy")


def test_foreign_objects():
    """What others keep under the same certificate is no secret of ours, and is let alone."""
    from kmip.core import enums
    from kmip.pie import objects
    from kmip.pie.client import ProxyKmipClient
    aes = enums.CryptographicAlgorithm.AES
    masks = [enums.CryptographicUsageMask.ENCRYPT]
    with ProxyKmipClient(hostname="127.0.0.1", port=PORT, cert=f"{TLS}/client.crt",
                         key=f"{TLS}/client.key", ca=f"{TLS}/ca.crt",
                         ssl_version="PROTOCOL_TLSv1_2", config_file=os.devnull) as c, start() as h:
        short = c.register(objects.SymmetricKey(aes, 128, bytes(16), masks=masks,
                                                name="vmcryptfs-short"))
        opaque = c.register(objects.SecretData(bytes(32), enums.SecretDataType.PASSWORD,
                                               masks=masks, name="vmcryptfs-data"))
        other = c.register(objects.SymmetricKey(aes, 256, bytes(32), masks=masks, name="theirs"))
        expect_error("a key of 128 bits", h.ask(f"get {short}"), "denied", "256 bits")
        expect_error("another type of object", h.ask(f"get {opaque}"), "denied", "no secret of ours")
        expect_error("destroy of what has no label", h.ask(f"destroy {other} theirs"), "invalid",
                     "label is another")
        expect(other not in h.items("list"), "listed")
        for uid in short, opaque, other:
            c.destroy(uid)
        # States that were left half-way are gone on from.
        name = label()
        key = h.new(name, SECRET)
        c.revoke(enums.RevocationReasonCode.CESSATION_OF_OPERATION, key)
        expect(h.kind(f"destroy {key} {name}") == "destroyed", "destroy of a revoked key")
        show("destroy of a revoked key", "destroyed")


def test_states():
    """A server that hands out active keys only, and an Activate that did not come through."""
    proxy = Proxy()
    name = label()
    proxy.faults[ACTIVATE] = lambda r: None
    proxy.before[ACTIVATE] = lambda r: refusal(ACTIVATE, 0x100, "later") # never reached it
    with start(server=proxy.address) as h:
        answer = h.kind(f"new {name} AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=")
        expect(answer == "error unavailable", answer)
        expect(h.items(f"find {name}") == {}, "a key that cannot be activated stays")
        show("Activate is refused", "the new key is destroyed again")
    with start(activate="no") as h:
        key = h.new(name, SECRET)
    proxy = Proxy()
    proxy.before[GET] = lambda r: None if ACTIVATE in proxy.seen else \
        refusal(GET, 0x0c, "Only active keys")
    with start(server=proxy.address) as h:
        expect(h.get(key) == SECRET, "get of a key that waits for its activation")
        show("get of a key not yet active", "activated, secret")
        expect(h.kind(f"destroy {key} {name}") == "destroyed", "destroy")
        expect(REVOKE in proxy.seen, "not revoked")
        # A server that keeps the attributes of what has been destroyed.
        key = h.new(name, SECRET)
        proxy.before[GET] = lambda r: refusal(GET, 0x0c, "not now")
        enum = bytes.fromhex("42000b0500000004")
        proxy.faults[ATTRIBUTES] = lambda r: r.replace(enum + b"\0\0\0\2", enum + b"\0\0\0\5")
        expect_error("get of a destroyed key", h.ask(f"get {key}"), "notfound", "been destroyed")
        expect(h.items(f"find {name}") == {}, "find of a destroyed key")
        expect(h.ask(f"destroy {key} {name}") == "gone", "destroy of a destroyed key")
        proxy.faults.clear()
        expect(h.kind(f"destroy {key} {name}") == "destroyed", "destroy")


def test_unique_names():
    """A server that wants each name once: an image with a second secret has it as NAME#2."""
    proxy = Proxy()
    names = set()

    def unique(request):
        at = request.index(bytes.fromhex("42005507")) + 4
        name = request[at + 4:at + 4 + struct.unpack(">I", request[at:at + 4])[0]]
        taken = name in names
        names.add(name)
        return refusal(REGISTER, 0x07, "Name is taken") if taken else None

    proxy.before[REGISTER] = unique
    name = label()
    with start(server=proxy.address) as h:
        keys = [h.new(name, bytes([i]) * 32) for i in range(4)]
        expect(h.items(f"find {name}") == dict.fromkeys(keys, name), "find of all four")
        expect(h.items(f"list {name}") == dict.fromkeys(keys, name), "list of all four")
        expect_error("a fifth key of one label", h.ask(f"new {name} {'A' * 43}="), "invalid",
                     "Name is taken")
        for i, key in enumerate(keys):
            expect(h.get(key) == bytes([i]) * 32, "get")
            expect(h.kind(f"destroy {key} {name}") == "destroyed", "destroy")
        show("names must be unique", "NAME, NAME#2 ...")


def test_pages():
    """Pages of a list, and a server that begins each of them with the first id."""
    def value(request, tag):
        at = request.find(struct.pack(">I", tag << 8 | 2))
        return struct.unpack(">I", request[at + 8:at + 12])[0] if at >= 0 else 0

    def pages(request, heed=1):
        begin, most = heed * value(request, 0x4200d4), value(request, 0x42004f) or 250
        ids = [f"id-{i}" if i % 10 else "not {ours}" for i in range(250)][begin:begin + most]
        return success(LOCATE, b"".join(item(0x420094, 7, i.encode()) for i in ids))

    for what, heed, locates in ("a list of 250 in pages of 100", 1, 4), \
            ("pages that are all the first one", 0, 3):
        proxy = Proxy()
        proxy.before[LOCATE] = lambda r, h=heed: pages(r, h)
        proxy.before[ATTRIBUTES] = lambda r: refusal(ATTRIBUTES, 1, "no such key")
        with start(server=proxy.address) as h:
            expect(h.items("list") == {}, "list")
        counts = proxy.seen.count(LOCATE), proxy.seen.count(ATTRIBUTES)
        expect(counts == (locates, 225), f"{what}: {counts}")
        show(what, f"{counts[0]} Locates, {counts[1]} keys looked at")


def test_memory():
    """Nothing of a secret stays in the helper, whichever library has handled it."""
    name, secret = label(), os.urandom(32)
    with start() as h:
        key = h.new(name, secret)
        expect(h.get(key) == secret and h.ask("ping") == "pong", "get")
        with open(f"/proc/{h.process.pid}/maps", encoding="utf-8") as maps, \
                open(f"/proc/{h.process.pid}/mem", "rb", 0) as memory:
            lines = maps.readlines()
            if any("asan" in line for line in lines):
                return
            for line in lines:
                begin, end = (int(n, 16) for n in line.split(" ")[0].split("-"))
                try:
                    memory.seek(begin)
                    data = memory.read(end - begin)
                except (OSError, OverflowError):
                    continue
                for form in secret, secret.hex().encode(), base64.b64encode(secret)[:40]:
                    expect(form not in data, f"a secret is left in {line.strip()}")
        show("secrets in the helper's memory afterwards", "none")
        expect(h.kind(f"destroy {key} {name}") == "destroyed", "destroy")


def main():
    failures = 0
    for name, test in list(globals().items()):
        if not name.startswith("test_"):
            continue
        began = time.monotonic()
        try:
            test()
            print(f"ok      {name[5:].replace('_', ' ')} ({time.monotonic() - began:.2f} s)")
        except (Wrong, OSError) as e:
            failures += 1
            print(f"WRONG   {name[5:].replace('_', ' ')}: {e}")
    sys.exit(1 if failures else 0)


main()
