#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""helper.py: a key helper that misbehaves on demand, for the functional tests.

It is copied into a folder of its own and keeps everything there:
  secrets/ID       hex text and label of a secret          calls     a line "VERB ARGUMENTS" for each
  fds              what /proc/self/fd showed at the start             request (never a secret)
  environ          its environment's names                 pids      a line for each process started
  faults           lines "VERB FAULT": what to do at that verb; read anew for each request:
    hang  die  nonsense  flood  long  wrong  short  denied  notfound  unavailable  quota  invalid
    delay=SECONDS  lose (do it, then die before the answer)
    wrongtag  othertag (of an earlier request)  twice  nul  binary  half (a line, then silence)
    upper  blanks  url (base64 in other forms)  closein (closes stdin)  closeout
    children (leaves some behind, with its pipes)  leak (the secret, on stderr)
    say  shout (megabytes)  moan (then die): on stderr;  later=SECONDS, late-shout=SECONDS: after the
    answer
  greeting  if it exists: what is said on stderr at the start
"""
import base64
import os
import re
import sys
import threading
import time

HOME = os.path.dirname(os.path.abspath(__file__))
SECRETS = os.path.join(HOME, "secrets")


def complain(text):
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def shout():
    for n in range(40000):
        sys.stderr.write(f"line {n} of very many that nobody in the world will ever want to read\n")
    sys.stderr.flush()


def note(name, text):
    fd = os.open(os.path.join(HOME, name), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(fd, text.encode() + b"\n")
    os.close(fd)


def say(text):
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def fault_of(verb):
    try:
        with open(os.path.join(HOME, "faults")) as f:
            for line in f:
                if line.split()[:1] == [verb]:
                    return line.split()[1]
    except FileNotFoundError:
        pass
    return ""


def path_of(key_id):
    if not re.fullmatch(r"id-[0-9a-f-]+", key_id):
        raise KeyError(key_id)
    return os.path.join(SECRETS, key_id)


def load(key_id):
    try:
        with open(path_of(key_id)) as f:
            return f.read().split()
    except FileNotFoundError:
        raise KeyError(key_id) from None


def do_new(tag, label, text):
    raw = base64.b64decode(text, validate=True)
    fd = os.open(path_of("id-" + label), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    os.write(fd, f"{raw.hex()} {label}\n".encode())
    os.close(fd)
    return [f"{tag} created id-{label}"]


def do_get(tag, key_id):
    return [f"{tag} secret " + base64.b64encode(bytes.fromhex(load(key_id)[0])).decode()]


def do_find(tag, label):
    items = [f"{tag} item id-{label} {label} 2026-01-01T00:00:00Z"]
    return (items if os.path.exists(path_of("id-" + label)) else []) + [f"{tag} end"]


def do_list(tag, prefix=""):
    labels = sorted(name[3:] for name in os.listdir(SECRETS))
    return [f"{tag} item id-{label} {label} 2026-01-01T00:00:00Z" for label in labels
            if label.startswith(prefix)] + [f"{tag} end"]


def do_destroy(tag, key_id, label):
    try:
        if load(key_id)[1] != label:
            return [f"{tag} error invalid label differs"]
    except KeyError:
        return [f"{tag} gone"]
    os.unlink(path_of(key_id))
    return [f"{tag} destroyed"]


def do_ping(tag):
    return [f"{tag} pong"]


VERBS = {"new": do_new, "get": do_get, "find": do_find, "list": do_list, "destroy": do_destroy,
         "ping": do_ping}


def answer(tag, verb, args):
    try:
        return VERBS[verb](tag, *args)
    except KeyError:
        return [f"{tag} error notfound no such secret"]


def write_raw(data):
    sys.stdout.flush()
    os.write(1, data)
    time.sleep(3600)


def in_other_letters(lines):
    word = lines[0].split()
    return [" ".join(word[:2] + [word[2].replace("=", "")])]


def leave_children():
    for _ in range(3):
        if os.fork() == 0:
            os.setsid()
            note("children", str(os.getpid()))
            time.sleep(3600)
            os._exit(0)


def leak(args):
    complain("the secret is " + load(args[0])[0])
    complain("or " + base64.b64encode(bytes.fromhex(load(args[0])[0])).decode())


ODD_ANSWERS = {
    "wrongtag": lambda tag, lines: ["18446744073709551615" + lines[0][len(tag):]],
    "othertag": lambda tag, lines: ["1" + lines[0][len(tag):]],
    "twice": lambda tag, lines: lines + lines,
    "nul": lambda tag, lines: write_raw(lines[0].encode()[:-4] + b"\0\0\n"),
    "binary": lambda tag, lines: write_raw(bytes(range(256)) * 8),
    "half": lambda tag, lines: write_raw(lines[0].encode()[:20]),
    "upper": lambda tag, lines: [lines[0].upper()],
    "blanks": lambda tag, lines: [lines[0].replace(" ", "  ") + " "],
    "url": lambda tag, lines: in_other_letters(lines),
}
DEEDS = {
    "closein": lambda args: os.close(0),
    "closeout": lambda args: os.close(1),
    "children": lambda args: leave_children(),
    "leak": leak,
}


def faulty(fault, tag, verb, args):
    """The lines to answer with where a fault is asked for."""
    if fault == "hang":
        time.sleep(3600)
    if fault == "die":
        os._exit(3)
    if fault == "nonsense":
        return ["what is this \x07?"]
    if fault == "flood":
        return [f"{tag} pong"] * 100000
    if fault == "long":
        return [f"{tag} secret " + "A" * 100000]
    if fault == "wrong":
        return [f"{tag} secret " + base64.b64encode(os.urandom(32)).decode()]
    if fault == "short":
        return [f"{tag} secret " + base64.b64encode(os.urandom(16)).decode()]
    if fault.startswith("delay="):
        time.sleep(float(fault[6:]))
        return answer(tag, verb, args)
    if fault == "say":
        complain(f"the words of {verb} " + base64.b64encode(bytes(32)).decode() + "\x1b[31m")
        return answer(tag, verb, args)
    if fault == "shout":
        shout()
        return answer(tag, verb, args)
    if fault == "moan":
        complain("no hope: the credential has been taken away")
        os._exit(5)
    if fault.startswith("late"):
        what = shout if "shout" in fault else lambda: complain("said by and by")
        threading.Timer(float(fault.split("=")[1]), what).start()
        return answer(tag, verb, args)
    if fault in ODD_ANSWERS:
        return ODD_ANSWERS[fault](tag, answer(tag, verb, args))
    if fault in DEEDS:
        DEEDS[fault](args)
        return answer(tag, verb, args)
    if fault == "lose":
        answer(tag, verb, args)
        os._exit(4)
    return [f"{tag} error {fault} as the test wants it"]


def main():
    os.makedirs(SECRETS, mode=0o700, exist_ok=True)
    fds = sorted(int(n) for n in os.listdir("/proc/self/fd"))
    note("fds", " ".join(f"{n}={os.readlink(f'/proc/self/fd/{n}')}" for n in fds
                         if os.path.lexists(f"/proc/self/fd/{n}")))
    note("environ", " ".join(sorted(os.environ)))
    note("pids", str(os.getpid()))
    try:
        with open(os.path.join(HOME, "greeting"), encoding="ascii") as f:
            complain(f.read())
    except FileNotFoundError:
        pass
    say("vmcryptfs-keys 1 test new get find destroy ping")
    for line in sys.stdin:
        words = line.split()
        if words[0] == "option":
            continue
        if words[0] == "ready":
            say("ready")
            continue
        tag, verb, args = words[0], words[1], words[2:]
        note("calls", " ".join([verb] + args[:1]))
        fault = fault_of(verb)
        try:
            lines = faulty(fault, tag, verb, args) if fault else answer(tag, verb, args)
        except (TypeError, ValueError):
            lines = [f"{tag} error invalid bad request"]
        say("\n".join(lines))


if __name__ == "__main__":
    main()
