# SPDX-License-Identifier: GPL-2.0-or-later
"""novasafe.py: daemon, key service, medium and mount fail or are stolen."""
import glob
import json
import os
import signal
import threading
import time

from novalab import (MIB, IMAGE, OTHER, U, equal, marked, need, run, wait_for)
from novawatch import Patterns


def killed_server(lab, a):
    with lab.row(21, "the daemon dies, and is upgraded") as said:
        a.call("spawn", U[1], IMAGE)
        path = f"{lab.mnt['a']}/{U[1]}/disk"
        guest = lab.guest({"disk": (path, lab.fmt)})
        stop, kills = threading.Event(), []

        def killer():
            while not stop.wait(0.4):
                pid = lab.status()["server_pid"]
                os.kill(pid, signal.SIGKILL)
                kills.append(pid)

        thread = threading.Thread(target=killer)
        thread.start()
        try:
            for n in range(12):
                guest.write_marked("disk", (100 + n) * MIB, MIB, f"kill{n}")
            a.call("spawn", U[2], OTHER, flavor={"swap": 16})
        finally:
            stop.set()
            thread.join()
        run(lab.program, "upgrade", lab.mnt["a"])
        for n in range(12):
            equal("after kills", marked(MIB, f"kill{n}"),
                  a.call("copy_out", path, (100 + n) * MIB, MIB))
        guest.write_marked("disk", 120 * MIB, 5000, "upgraded")
        guest.stop()
        a.call("content_ok", f"{lab.mnt['a']}/{U[2]}/disk", OTHER)
        need(kills, "nothing was killed")
        said.append(f"{len(kills)} x kill -9 while a guest writes and Nova makes an instance, then "
                    "an upgrade: no error, all there")


def outage(lab, a):
    with lab.row(22, "key service outage") as said:
        path, closed = (f"{lab.mnt['a']}/{u}/disk" for u in U[1:3])
        guest = lab.guest({"disk": (path, lab.fmt)})
        time.sleep(2)  # linger
        lab.fault(*(f"{v} unavailable" for v in ("get", "new", "find", "ping", "list", "destroy")))
        guest.write_marked("disk", 130 * MIB, 50000, "outage")
        begin = time.monotonic()
        text = run("dd", f"if={closed}", "of=/dev/null", "count=1", fails=True)
        took = time.monotonic() - begin
        need("Connection timed out" in text and took < 30, f"{took} s: {text}")
        try:
            a.call("image_info", closed)
            need(False, "a closed image was opened")
        except AssertionError as e:
            need("InvalidDiskInfo" in str(e) and "timed out" in str(e), str(e))
        state = lab.status()["key_services"][0]
        need(state["state"] == "failing", f"status says {state}")
        a.call("new_disk", U[3])
        lab.fault()
        wait_for("the service", lambda: lab.status()["key_services"][0]["breaker"] == "closed", 40)
        a.call("content_ok", closed, OTHER)
        run("swaplabel", f"{lab.mnt['a']}/{U[3]}/disk")
        guest.stop()
        said.append(f"an open disk goes on, a closed one gets ETIMEDOUT after {took:.1f} s (Nova: "
                    "InvalidDiskInfo), status says failing, a new disk is made from the "
                    "reserve; all opens afterwards")


def theft(lab, a):
    with lab.row(23, "backup and theft") as said:
        guest = lab.guest({"disk": (f"{lab.mnt['a']}/{U[1]}/disk", lab.fmt)})
        guest.write_marked("disk", 140 * MIB, 50000, "secret")
        guest.stop()
        os.sync()
        stolen = lab.path("stolen")
        run("cp", "-a", "--sparse=always", lab.path("disk", "a"), stolen)
        equal("found in the copy", [], found_in(lab, stolen))
        disk = f"{stolen}/{U[1]}/disk"
        key = json.loads(run(lab.program, "info", "--json", disk))["key_id"]
        without_keys(lab, stolen)
        with open(os.path.join(lab.helper, "secrets", key), encoding="ascii") as f:
            secret = f.read().split()[0]
        keyfile = f"/dev/shm/vcf-nova-key-{os.getpid()}"
        with open(os.open(keyfile, os.O_CREAT | os.O_WRONLY, 0o600), "w", encoding="ascii") as f:
            f.write(secret)
        try:
            run("cryptsetup", "open", "--test-passphrase", "--type", "luks2", "--key-file", keyfile,
                disk)
            open_copy(lab, disk, keyfile)
        finally:
            os.unlink(keyfile)
        said.append("a copy of the backing folder: no pattern, no image opens at another key "
                    "service (ENOKEY); with its secret cryptsetup opens it, and the guest's "
                    "disk is there")


def found_in(lab, folder):
    patterns, found = Patterns(lab.path("patterns")), []
    for top, _dirs, names in os.walk(folder):
        for path in (os.path.join(top, n) for n in names):
            with open(path, "rb") as f:
                if not patterns.is_plain("a/" + os.path.relpath(path, folder)):
                    found += [(path, what) for what in patterns.search(f.fileno())]
    need(patterns.searched > MIB, "nothing was searched")
    return found


def without_keys(lab, stolen):
    """A mount of the copy, at a service that has none of the secrets."""
    for name in ("thief", "thief-state"):
        os.makedirs(lab.path(name), mode=0o700)
    conf = lab.path("thief.conf")
    with open(lab.path("a.conf"), encoding="utf-8") as f:
        text = f.read()
    for ours, his in ((lab.path("disk", "a"), stolen), (lab.mnt["a"], lab.path("thief")),
                      (lab.path("disk", "state-a"), lab.path("thief-state")),
                      (lab.helper + "/", lab.helper + "-thief/"),
                      (lab.path("log"), lab.path("thief.log"))):
        text = text.replace(f"= {ours}", f"= {his}")
    with open(conf, "w", encoding="utf-8") as f:
        f.write(text)
    os.chmod(conf, 0o600)
    run("cp", "-r", lab.helper, lab.helper + "-thief")
    for secret in glob.glob(lab.helper + "-thief/secrets/*"):
        os.unlink(secret)
    run(lab.program, "mount", conf)
    try:
        for name in glob.glob(lab.path("thief") + "/*/*"):
            if "/locks/" not in name and os.stat(name).st_size:
                text = run("dd", f"if={name}", "of=/dev/null", "count=1", fails=True)
                need("Required key not available" in text, f"{name}: {text}")
    finally:
        run(lab.program, "umount", lab.path("thief"))


def open_copy(lab, disk, keyfile):
    """The plaintext, by a reader that has nothing of ours: contrib/luksread.py."""
    here = os.path.dirname(os.path.abspath(__file__))
    plain = os.path.join(lab.plain, "recovered")
    run("python3", os.path.join(here, "../../contrib/luksread.py"), disk, keyfile, plain)
    if lab.fmt == "qcow2":  # its backing path is in the mount, which is there
        run("qemu-img", "check", "-f", "qcow2", plain)
    with open(lab.content(plain), "rb") as f:
        f.seek(140 * MIB)
        equal("the guest's data", marked(50000, "secret"), f.read(50000))


def absent(lab, a):
    with lab.row(24, "mount absent") as said:
        lab.umount()
        mnt = lab.mnt["a"]
        os.chmod(mnt, 0)
        run("chattr", "+i", mnt)
        try:
            refused(a, "Operation not permitted")
            equal("below the mount point", [], os.listdir(mnt))
        finally:
            run("chattr", "-i", mnt)
            os.chmod(mnt, 0o755)
        lab.mount()
        status = lab.status()
        for pid in (status["keeper_pid"], status["server_pid"]):
            os.kill(pid, signal.SIGKILL)
        wait_for("the daemon's end", lambda: not lab.daemons("a"))
        refused(a, "Transport endpoint is not connected")
        lab.mount()
        a.call("content_ok", f"{mnt}/{U[1]}/disk", IMAGE)
        a.call("delete", U[1])
        said.append("unmounted: the empty folder (mode 0, chattr +i) takes nothing, also from "
                    "root; keeper and server killed: ENOTCONN; mounted again: all there")


def refused(a, errno_text):
    try:
        a.call("spawn", U[9], IMAGE)
    except AssertionError as e:
        need(errno_text in str(e), str(e))
    else:
        need(False, "an instance was made without a mount")


def group(lab, a):
    killed_server(lab, a)
    outage(lab, a)
    theft(lab, a)
    absent(lab, a)
