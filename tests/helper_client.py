# SPDX-License-Identifier: GPL-2.0-or-later
"""A key helper's other end for tests: starts one, speaks lines with it, checks their form.

Independent of the C code: written from contrib/doc/key-helper.md.
"""
import base64
import os
import re
import select
import subprocess
import time

REPLY_MAX = 16 * 1024
WAIT_S = 20
DEADLINE = ("deadline-ms", str(WAIT_S * 1000))
LABEL = re.compile(r"(?!\.)(?!.*\.\.)[A-Za-z0-9._:+=@-]{1,128}\Z")
KEY_ID = re.compile(r"(?!\.)(?!.*\.\.)[A-Za-z0-9._:/+=@-]{1,512}\Z")
CREATED = re.compile(r"(-|\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?Z)\Z")
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,63}\Z")
ERROR = re.compile(
    r"error (denied|notfound|unavailable|quota|invalid)( retry-after=\d+)?( .*)?\Z")


class Wrong(Exception):
    """The helper broke a rule."""


def expect(good, text):
    if not good:
        raise Wrong(text)


class Helper:
    def __init__(self, program, options, start=True):
        env = {k: os.environ[k] for k in ("PATH", "LANG", "CREDENTIALS_DIRECTORY")
               if k in os.environ}
        self.process = subprocess.Popen([program], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, env=env, bufsize=0)
        self.pending = b""
        self.tag = 0
        self.hello = self.line()
        words = self.hello.split(" ")
        expect(words[:2] == ["vmcryptfs-keys", "1"], f"hello: {self.hello!r}")
        expect(len(words) > 2 and NAME.match(words[2]), f"hello: {self.hello!r}")
        self.capabilities = []
        self.add_capabilities(words[3:])
        if "deadline" in self.capabilities and "deadline-ms" not in (n for n, _ in options):
            options = [DEADLINE, *options]
        if start:
            self.send("".join(f"option {n} {v}\n" for n, v in options) + "ready\n")
            ready, *words = self.line().split(" ")
            expect(ready == "ready", "it does not say ready after its options")
            self.add_capabilities(words)

    def add_capabilities(self, words):
        expect(all(re.match(r"[a-z0-9-]{1,32}\Z", w) for w in words),
               f"capabilities: {words!r}")
        self.capabilities += words

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()

    def send(self, text):
        data = text.encode("latin-1")
        while data:
            data = data[self.process.stdin.write(data):]

    def line(self):
        """The next line, '' at the end of the helper's output."""
        end = time.monotonic() + WAIT_S
        while b"\n" not in self.pending:
            left = max(0, end - time.monotonic())
            expect(select.select([self.process.stdout], [], [], left)[0],
                   "no answer in time")
            data = os.read(self.process.stdout.fileno(), 65536)
            if not data:
                expect(not self.pending, f"ended within a line: {self.pending!r}")
                return ""
            self.pending += data
        line, self.pending = self.pending.split(b"\n", 1)
        expect(len(line) < REPLY_MAX, "a line is too long")
        expect(line and all(0x20 <= c <= 0x7e for c in line), f"characters of {line!r}")
        return line.decode()

    def reply(self, tag):
        """The next line without its tag, which must be tag."""
        line = self.line()
        got, _, rest = line.partition(" ")
        expect(got == str(tag), f"not an answer to {tag}: {line!r}")
        if rest.startswith("error"):
            expect(ERROR.match(rest), f"form of {rest!r}")
        return rest

    def ask(self, request, tag=None):
        self.tag += 1
        tag = tag or self.tag
        self.send(f"{tag} {request}\n")
        return self.reply(tag)

    def kind(self, request):
        """`error KIND`, or the answer's first word."""
        words = self.ask(request).split(" ")
        return " ".join(words[:2]) if words[0] == "error" else words[0]

    def new(self, label, secret):
        answer = self.ask(f"new {label} {base64.b64encode(secret).decode()}")
        word, _, key_id = answer.partition(" ")
        expect(word == "created" and KEY_ID.match(key_id), f"new: {answer!r}")
        return key_id

    def get(self, key_id):
        answer = self.ask(f"get {key_id}")
        word, _, text = answer.partition(" ")
        expect(word == "secret" and len(text) == 44, f"get: {answer.split()[0]!r}")
        secret = base64.b64decode(text, validate=True)
        expect(base64.b64encode(secret).decode() == text, "get: sloppy base64")
        expect(len(secret) == 32, "get: not 32 bytes")
        return secret

    def items(self, request):
        """{id: label} of find or list."""
        self.tag += 1
        self.send(f"{self.tag} {request}\n")
        found = {}
        while True:
            answer = self.reply(self.tag)
            if answer == "end":
                return found
            words = answer.split(" ")
            expect(len(words) == 4 and words[0] == "item", f"{request}: {answer!r}")
            expect(KEY_ID.match(words[1]) and LABEL.match(words[2]), f"item: {answer!r}")
            expect(CREATED.match(words[3]), f"time of creation: {answer!r}")
            expect(words[1] not in found, f"twice: {answer!r}")
            found[words[1]] = words[2]

    def end(self):
        """Ends its input; it must end by itself, silently."""
        self.process.stdin.close()
        expect(self.line() == "", "output after the end of its input")
        try:
            code = self.process.wait(WAIT_S)
        except subprocess.TimeoutExpired:
            raise Wrong("does not end at the end of its input") from None
        expect(code == 0, f"exit code {code}")
