#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""vaultreplay.py serve CERTS DIR | ctl DIR JSON | list DIR: Vault's exchanges, replayed.

This is NOT Vault and not OpenBao: neither could be had as a package, so this server was
made from the documentation of their HTTP API (KV version 2, Transit, AppRole, TLS
certificates, status codes, error bodies) and answers as that says. It shows that the
helper does what the documentation asks for; it does not show what a real server does
where the documentation is silent or wrong. It keeps all in memory, in the clear.

  serve  serves https with certificates of certs.py; writes its URL to DIR/url; ends with
         its input
  ctl    changes the state of the one that serves DIR: State.knobs, and "revoke"
  list   prints the records' paths, one a line

Also a module: State and Vault, for tests that want the server in their process.
"""
import base64
import datetime
import hmac
import http.client
import json
import os
import re
import secrets
import socket
import ssl
import sys
import threading
import time

from fakehttp import FakeServer
from fakehttp import Reply as HttpReply

DENIED = "permission denied"
EXPIRED = "2 errors occurred:\n\t* permission denied\n\t* invalid token\n\n"
CAS = "check-and-set parameter did not match the current version"
LOGIN = re.compile(r"auth/(.+)/login\Z")

# What a node needs, as contrib/doc/key-services.md gives it: {path: capabilities}.
NODE = {"secret/data/vmcryptfs/*": "create read",
        "secret/metadata/vmcryptfs/*": "delete list read",
        "transit/encrypt/images": "update", "transit/decrypt/images": "update",
        "transit/keys/images": "read"}


class Reply(Exception):
    def __init__(self, status, body=None, headers=None):
        super().__init__(status)
        self.status, self.body, self.headers = status, body, headers or {}


def errors(status, *texts):
    return Reply(status, {"errors": list(texts)})


def stamp():
    now = datetime.datetime.now(datetime.timezone.utc)
    return now.strftime("%Y-%m-%dT%H:%M:%S.%f") + "000Z"


class State:
    def __init__(self):
        self.lock = threading.Lock()
        self.records = {}       # path below the mount: {created, versions: [...]}
        self.transit = {"images": {"derived": True, "keys": [secrets.token_bytes(32)],
                                   "min": 1},
                        "plain": {"derived": False, "keys": [secrets.token_bytes(32)],
                                  "min": 1}}
        self.tokens = {}        # token: end of life
        self.logins = 0
        self.sealed = False
        self.namespace = ""
        self.lease = 3600
        self.policy = dict(NODE)
        self.roles = {"node-role": "node-secret-id"}
        self.static_tokens = set()
        self.mounts = {"secret": ("kv", {"version": "2"}), "transit": ("transit", None)}
        self.faults = []        # {"match": RE, "times": N, "done": BOOL, ...: of HttpReply}

    knobs = ("sealed", "namespace", "lease", "policy", "roles", "faults")

    def set(self, values):
        for name, value in values.items():
            if name == "revoke":
                self.tokens.clear()
            elif name in self.knobs:
                setattr(self, name, value)
            else:
                raise Reply(400, {"errors": [f"no knob {name}"]})

    # --- who may do what ---

    def issue(self):
        token = "hvs." + secrets.token_urlsafe(70)
        self.tokens[token] = time.monotonic() + self.lease
        self.logins += 1
        return Reply(200, {"auth": {"client_token": token, "accessor": secrets.token_hex(8),
                                    "policies": ["default", "node"], "metadata": None,
                                    "lease_duration": self.lease, "renewable": True},
                           "data": None, "warnings": None})

    def login(self, mount, body, client_cert):
        if mount == "approle":
            want = self.roles.get(body.get("role_id"))
            if want is None or want != body.get("secret_id"):
                raise errors(400, "invalid role or secret ID")
        elif mount == "cert":
            if not client_cert or body.get("name", "node") != "node":
                raise errors(400, "invalid certificate or no client certificate supplied")
        else:
            raise errors(403, DENIED)
        raise self.issue()

    def check_token(self, token):
        if token in self.static_tokens:
            return
        if self.tokens.get(token, 0) <= time.monotonic():
            self.tokens.pop(token, None)
            raise errors(403, EXPIRED)

    def check_right(self, path, capability):
        best = None
        for pattern, capabilities in self.policy.items():
            exact = pattern == path
            if exact or (pattern.endswith("*") and path.startswith(pattern[:-1])):
                if best is None or len(pattern) > len(best[0]):
                    best = pattern, capabilities.split()
        if best is None or capability not in best[1]:
            raise errors(403, "1 error occurred:\n\t* permission denied\n\n")

    # --- KV version 2 ---

    def kv(self, method, part, path, body):
        record = self.records.get(path)
        full = f"secret/{part}/{path}"
        if part == "data" and method == "GET":
            self.check_right(full, "read")
            raise self.read(record)
        if part == "data" and method in ("POST", "PUT"):
            self.check_right(full, "update" if record else "create")
            raise self.write(path, record, body)
        if part == "data" and method == "DELETE":
            self.check_right(full, "delete")
            if record:
                record["versions"][-1]["deletion_time"] = stamp()
            raise Reply(204)
        if part == "metadata" and method == "LIST":
            self.check_right(full, "list")
            raise self.list(path)
        if part == "metadata" and method == "GET":
            self.check_right(full, "read")
            raise self.metadata(record)
        if part == "metadata" and method == "DELETE":
            self.check_right(full, "delete")
            self.records.pop(path, None)
            raise Reply(204)
        raise errors(405, "1 error occurred:\n\t* unsupported operation\n\n")

    @staticmethod
    def version_metadata(record):
        v = record["versions"][-1]
        return {"version": len(record["versions"]), "created_time": v["created_time"],
                "deletion_time": v["deletion_time"], "destroyed": v["destroyed"],
                "custom_metadata": None}

    def read(self, record):
        if not record:
            return Reply(404, {"errors": []})
        v = record["versions"][-1]
        metadata = self.version_metadata(record)
        if v["deletion_time"] or v["destroyed"]:
            return Reply(404, {"data": {"data": None, "metadata": metadata}})
        return Reply(200, {"request_id": secrets.token_hex(8), "lease_id": "",
                           "renewable": False, "lease_duration": 0,
                           "data": {"data": v["data"], "metadata": metadata},
                           "wrap_info": None, "warnings": None, "auth": None})

    def write(self, path, record, body):
        if not isinstance(body.get("data"), dict):
            return errors(400, "no data provided")
        now = stamp()
        cas = body.get("options", {}).get("cas")
        if cas is not None and cas != (len(record["versions"]) if record else 0):
            return errors(400, CAS)
        if not record:
            record = self.records[path] = {"created": now, "versions": []}
        record["versions"].append({"data": body["data"], "created_time": now,
                                   "deletion_time": "", "destroyed": False})
        return Reply(200, {"data": self.version_metadata(record)})

    def list(self, folder):
        names = sorted({p[len(folder):].split("/")[0] + ("/" if "/" in p[len(folder):] else "")
                        for p in self.records if p.startswith(folder)})
        return Reply(200, {"data": {"keys": names}}) if names else Reply(404, {"errors": []})

    @staticmethod
    def metadata(record):
        if not record:
            return Reply(404, {"errors": []})
        return Reply(200, {"data": {"cas_required": False, "created_time": record["created"],
                                    "current_version": len(record["versions"]),
                                    "custom_metadata": None, "max_versions": 0,
                                    "versions": {}}})

    # --- Transit: a stream and a MAC made of HMAC, for nobody to use elsewhere ---

    @staticmethod
    def subkey(key, version, context):
        raw = key["keys"][version - 1]
        return hmac.digest(raw, b"context" + context, "sha256") if key["derived"] else raw

    @staticmethod
    def stream(subkey, nonce, length):
        blocks = [hmac.digest(subkey, b"stream" + nonce + bytes([i]), "sha256")
                  for i in range(length // 32 + 1)]
        return b"".join(blocks)[:length]

    def seal(self, key, context, plain):
        version, nonce = len(key["keys"]), secrets.token_bytes(12)
        subkey = self.subkey(key, version, context)
        text = bytes(a ^ b for a, b in zip(plain, self.stream(subkey, nonce, len(plain))))
        tag = hmac.digest(subkey, b"tag" + nonce + text, "sha256")[:16]
        return f"vault:v{version}:" + base64.b64encode(nonce + text + tag).decode()

    def unseal(self, key, context, sealed):
        match = re.match(r"vault:v(\d+):(.*)\Z", sealed)
        if not match:
            raise errors(400, "invalid ciphertext: no prefix")
        version, raw = int(match[1]), base64.b64decode(match[2])
        if version < key["min"]:
            raise errors(400, "ciphertext or signature version is disallowed by policy "
                              "(too old)")
        if not 0 < version <= len(key["keys"]) or len(raw) < 28:
            raise errors(400, "invalid ciphertext: version is too new")
        nonce, text, tag = raw[:12], raw[12:-16], raw[-16:]
        subkey = self.subkey(key, version, context)
        if hmac.digest(subkey, b"tag" + nonce + text, "sha256")[:16] != tag:
            raise errors(400, "cipher: message authentication failed")
        return bytes(a ^ b for a, b in zip(text, self.stream(subkey, nonce, len(text))))

    def transit_call(self, method, operation, name, body):
        capability = "read" if method == "GET" else "update"
        self.check_right(f"transit/{operation}/{name}", capability)
        key = self.transit.get(name)
        if operation == "keys" and method == "GET":
            if not key:
                raise Reply(404, {"errors": []})
            raise Reply(200, {"data": {"name": name, "type": "aes256-gcm96",
                                       "derived": key["derived"], "keys": {"1": 1},
                                       "min_decryption_version": key["min"]}})
        if method not in ("POST", "PUT") or operation not in ("encrypt", "decrypt"):
            raise errors(405, "1 error occurred:\n\t* unsupported operation\n\n")
        if not key:
            raise errors(400, "encryption key not found")
        context = base64.b64decode(body.get("context", ""))
        if key["derived"] and not context:
            raise errors(400, "missing 'context' for key derivation; the key was created "
                              "using a derived key, which means additional, per-request "
                              "information must be included")
        if operation == "encrypt":
            plain = base64.b64decode(body["plaintext"], validate=True)
            raise Reply(200, {"data": {"ciphertext": self.seal(key, context, plain),
                                       "key_version": len(key["keys"])}})
        plain = self.unseal(key, context, body["ciphertext"])
        raise Reply(200, {"data": {"plaintext": base64.b64encode(plain).decode()}})

    # --- all requests ---

    def mount_call(self, path):
        kind = self.mounts.get(path)
        if not kind:
            raise errors(403, "preflight capability check returned 403, please ensure "
                              "client's policies grant access to path")
        raise Reply(200, {"data": {"type": kind[0], "options": kind[1], "path": path + "/"}})

    def call(self, method, path, headers, body, client_cert):
        """Ends in a Reply."""
        if self.sealed:
            raise errors(503, "Vault is sealed")
        if headers.get("x-vault-namespace", "").strip("/") != self.namespace:
            raise errors(404, f'no handler for route "{path}". route entry not found.')
        if headers.get("x-vault-request") != "true":
            raise errors(412, "missing 'X-Vault-Request' header")
        login = LOGIN.match(path)
        if login and method in ("POST", "PUT"):
            self.login(login[1], body, client_cert)
        self.check_token(headers.get("x-vault-token", ""))
        if path.startswith("sys/internal/ui/mounts/"):
            self.mount_call(path[len("sys/internal/ui/mounts/"):])
        kv = re.match(r"secret/(data|metadata)/(.+)\Z", path)
        if kv:
            self.kv(method, kv[1], kv[2], body)
        transit = re.match(r"transit/(\w+)/([\w-]+)\Z", path)
        if transit:
            self.transit_call(method, transit[1], transit[2], body)
        raise errors(404, f'no handler for route "{path}". route entry not found.')

    def fault(self, line):
        for fault in self.faults:
            if fault.get("times", 1) > 0 and re.search(fault["match"], line):
                fault["times"] = fault.get("times", 1) - 1
                return fault
        return None

    def answer(self, request, client_cert):
        path = request.path.removeprefix("/v1/")
        try:
            body = request.json() if request.body else {}
        except ValueError:
            return errors(400, "error parsing JSON")
        if request.body and request.headers.get("content-type") != "application/json":
            return errors(400, "no JSON")
        try:
            with self.lock:
                if path == "replay/list":
                    return Reply(200, sorted(self.records))
                if path == "replay/ctl":
                    self.set(body)
                    return Reply(200, {})
                self.call(request.method, path, request.headers, body, client_cert)
        except Reply as reply:
            return reply
        raise AssertionError("no reply")

    def handle(self, request, client_cert):
        """A fault may do the request first (`done`), as when its reply is lost."""
        fault = self.fault(f"{request.method} {request.path}")
        if not fault or fault.get("done"):
            reply = self.answer(request, client_cert)
        if fault:
            more = {k: v for k, v in fault.items() if k not in ("match", "times", "done")}
            return HttpReply(**more)
        return HttpReply(reply.status, b"" if reply.body is None else reply.body,
                         {"Content-Type": "application/json", "Cache-Control": "no-store"})


class Vault(FakeServer):
    """Serves a State. A client certificate is welcome, not demanded."""

    def __init__(self, state, certs, cert="server", port=0):
        self.state, self.here = state, threading.local()
        super().__init__(lambda request: state.handle(request, self.here.peer), certs, cert,
                         port=port)
        self.context.load_verify_locations(f"{certs}/ca.crt")
        self.context.verify_mode = ssl.CERT_OPTIONAL

    def serve(self, plain):
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        super().serve(plain)

    def one(self, conn, stream):
        self.here.peer = conn.getpeercert()
        return super().one(conn, stream)


# --- commands ---

def serve(certs, folder):
    with Vault(State(), certs) as server:
        with open(f"{folder}/url.new", "w", encoding="ascii") as f:
            f.write(f"{server.url}\n{certs}/ca.crt\n")
        os.rename(f"{folder}/url.new", f"{folder}/url")
        sys.stdin.read()


def ask(folder, path, body):
    with open(f"{folder}/url", encoding="ascii") as f:
        url, ca = f.read().split()
    connection = http.client.HTTPSConnection(url.removeprefix("https://"),
                                             context=ssl.create_default_context(cafile=ca))
    connection.request("POST", "/v1/replay/" + path, body,
                       {"Content-Type": "application/json"})
    reply = connection.getresponse()
    data = json.loads(reply.read())
    if reply.status != 200:
        sys.exit(str(data))
    return data


def main():
    match sys.argv[1:]:
        case ["serve", certs, folder]:
            serve(certs, folder)
        case ["ctl", folder, text]:
            ask(folder, "ctl", text)
        case ["list", folder]:
            print("".join(p + "\n" for p in ask(folder, "list", "{}")), end="")
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main()
