# SPDX-License-Identifier: GPL-2.0-or-later
"""novalab.py: what the operations of novaops.py are tried in.

  Lab      the test's folder: two mounts (two compute nodes), their backing folders on a file
           system of their own, the watcher on that, the image service, the key service's faults
  Node     a process that is one compute node: Nova's own driver, without libvirt. The second
           node has a mount namespace in which its mount lies at the first one's path, and an
           sshd, so that Nova's ssh, scp and rsync go from one to the other.
  Machine  a whole machine in QEMU, without a guest system in it
  Guest    a QEMU process (qemu-storage-daemon: its block layer and locks) with disks open as a
           guest's are, on an NBD socket
"""
import ctypes
import fcntl
import glob
import hashlib
import json
import os
import pickle
import re
import signal
import socket
import struct
import subprocess
import time
import traceback
from contextlib import contextmanager

MARK = "vmcryptfs-test-plaintext-"
CLONE_NEWNS, MS_REC, MS_SLAVE, MS_BIND, MNT_DETACH = 0x20000, 0x4000, 0x80000, 0x1000, 2
DIE_WITH_US = ("setpriv", "--pdeathsig", "KILL")
PR_SET_PDEATHSIG = 1
EXT4_IOC_SHUTDOWN, NO_LOG_FLUSH = 0x8004587D, 2
QEMU_UID = 64055  # not Nova's, as on a node
MIB = 1 << 20


def run(*args, fails=False, **more):
    """The output of a program; it must end with 0, or with something else if it `fails`."""
    done = subprocess.run([str(a) for a in args], capture_output=True, text=True, **more)
    if (done.returncode != 0) != fails:
        raise AssertionError(f"{args}: {done.returncode}: {done.stdout[-400:]}{done.stderr[-800:]}")
    return done.stdout if not fails else done.stderr


def need(truth, what):
    if not truth:
        raise AssertionError(what)


def equal(what, want, got):
    need(want == got, f"{what}: wanted {want!r}, got {got!r}")


def wait_for(what, test, seconds=30):
    end = time.monotonic() + seconds
    while not test():
        need(time.monotonic() < end, f"not within {seconds} s: {what}")
        time.sleep(0.05)


def marked(length, seed):
    """Bytes that the watcher knows, different in each line."""
    lines = b"".join(b"%s%s %08d\n" % (MARK.encode(), seed.encode(), n) for n in range(512))
    return (lines * (length // len(lines) + 1))[:length]


class Lab:
    def __init__(self, folder, fmt):
        self.folder, self.fmt = folder, fmt
        self.plain = os.path.join(folder, "plain")
        self.glance = os.path.join(self.plain, "glance")
        self.mnt = {"a": os.path.join(folder, "mnt"), "b": os.path.join(folder, "mntb")}
        self.program = os.environ["VMCRYPTFS"]
        self.helper = os.path.join(folder, "helper")
        self.nodes, self.guests, self.watcher = {}, [], None
        os.makedirs(self.glance, exist_ok=True)
        os.makedirs(self.path("sockets"), exist_ok=True)
        os.chmod(self.path("sockets"), 0o1777)

    def path(self, *parts):
        return os.path.join(self.folder, *parts)

    # The mounts.

    def mount(self, node="a", *options):
        run(self.program, "mount", *options, self.path(node + ".conf"), timeout=60)

    def umount(self, node="a"):
        run(self.program, "umount", self.mnt[node], timeout=60)
        wait_for("the daemon's end", lambda: not self.daemons(node))

    def daemons(self, node):
        conf = self.path(node + ".conf").encode()
        found = []
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{pid}/cmdline", "rb") as f:
                    if conf in f.read().split(b"\0"):
                        found.append(int(pid))
            except OSError:
                pass
        return found

    def status(self, node="a"):
        return json.loads(run(self.program, "status", "--json", self.mnt[node]))

    def below(self, path, node="a"):
        """The backing file of a path in the mount."""
        return self.path("disk", node, os.path.relpath(path, self.mnt["a"]))

    def key_id(self, path, node="a"):
        return json.loads(run(self.program, "info", "--json", self.below(path, node)))["key_id"]

    def secrets(self):
        return set(os.listdir(os.path.join(self.helper, "secrets")))

    def settled_secrets(self):
        """Those there are once the reserve is full."""
        before, now = None, self.secrets()
        while before != now:
            time.sleep(0.4)
            before, now = now, self.secrets()
        return now

    def fault(self, *words):
        faults = os.path.join(self.helper, "faults")
        if words:
            with open(faults + ".new", "w", encoding="ascii") as f:
                f.writelines(w + "\n" for w in words)
            os.rename(faults + ".new", faults)
        elif os.path.exists(faults):
            os.unlink(faults)

    # The watcher.

    def watch(self):
        patterns = self.path("patterns")
        words = [MARK, "QFI\xfb\0\0\0\x03", "\x01CD001", "SWAPSPACE2", "mkfs.fat", "<domain>",
                 'disk": "']
        plain = [r"[ab]/locks/", r"[ab]/compute_nodes$", r"state-[ab]/", r"lost\+found/"]
        with open(patterns, "w", encoding="utf-8") as f:
            json.dump({"patterns": words, "plain": plain}, f)
        here = os.path.dirname(os.path.abspath(__file__))
        self.watcher = subprocess.Popen(
            ["/usr/bin/python3", os.path.join(here, "novawatch.py"), self.path("disk"), patterns],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        equal("the watcher", "ready\n", self.watcher.stdout.readline())
        self.try_watcher()

    def try_watcher(self):
        """It must see what lives for a moment, and plaintext in a corner."""
        momentary, lasting = self.path("disk", "moment"), self.path("disk", "a", "plainfile")
        with open(momentary, "wb") as f:
            f.write(bytes(70000) + marked(100, "control"))
        os.unlink(momentary)
        with open(lasting, "wb") as f:
            f.write(b"neither zeros nor LUKS")
        found = "\n".join(self.look()["found"])
        os.unlink(lasting)
        need("moment: b" in found and "plainfile: begins" in found, f"it is blind: {found}")
        self.look()

    def unwatch(self):
        if self.watcher:
            self.watcher.stdin.close()
            self.watcher.wait()
            self.watcher = None

    def look(self):
        self.watcher.stdin.write("look\n")
        self.watcher.stdin.flush()
        return json.loads(self.watcher.stdout.readline())

    @contextmanager
    def row(self, number, name):
        """One operation; the text to be printed is collected in the list that it gets."""
        said, begin = [], time.monotonic()
        yield said
        seen = self.look()
        need(not seen["found"], f"{number:02} {name}: in the clear below: {seen['found']}")
        took = time.monotonic() - begin
        print(f"ok {number:02} {name} {self.fmt}: {'; '.join(said)} [below: {seen['files']} files, "
              f"{seen['looks']} looks, nothing in the clear; {took:.1f} s]", flush=True)

    # Nodes and guests.

    def start_node(self, name, **settings):
        self.nodes[name] = Node(self, name, settings)
        return self.nodes[name]

    def guest(self, disks, **more):
        guest = Guest(self, disks, **more)
        self.guests.append(guest)
        return guest

    def machine(self, disks, **more):
        machine = Machine(self, disks, **more)
        self.guests.append(machine)
        return machine

    # The host dies, and comes back.

    def power_off(self, guest):
        """Nothing reaches the medium any more, and no process of the host lives on."""
        fd = os.open(self.path("disk"), os.O_RDONLY)
        fcntl.ioctl(fd, EXT4_IOC_SHUTDOWN, struct.pack("I", NO_LOG_FLUSH))
        os.close(fd)
        run("touch", self.path("disk", "late"), fails=True)
        status = self.status()
        for pid in (guest.process.pid, status["keeper_pid"], status["server_pid"]):
            os.kill(pid, signal.SIGKILL)
        wait_for("the daemon's end", lambda: not self.daemons("a"), 30)
        guest.stop()

    def power_on(self):
        """What is on the medium is mounted as after a reboot. It is a copy: the old one cannot
        take part then, whoever may hold it."""
        self.unwatch()
        disk, image = self.path("disk"), self.path("disk.img")
        run("umount", "-l", self.mnt["a"])
        run("umount", "-l", disk)
        run("cp", "--sparse=always", image, image + ".copy")
        os.rename(image + ".copy", image)
        run("mount", "-o", "loop", image, disk)
        self.watch()
        self.mount()

    def end(self):
        for guest in self.guests:
            guest.stop()
        for node in self.nodes.values():
            node.stop()
        self.unwatch()

    # Images.

    def make_image(self, image_id, disk_format, size):
        """An image of the image service: a file system with marked files in it."""
        tree, raw = os.path.join(self.plain, "tree"), os.path.join(self.plain, image_id)
        os.makedirs(tree, exist_ok=True)
        with open(os.path.join(tree, "marked"), "wb") as f:
            f.write(marked(2 * MIB, image_id[:8]))
        with open(raw, "wb") as f:
            f.truncate(size)
        run("mkfs.ext4", "-q", "-F", "-d", tree, raw)
        stored = os.path.join(self.glance, f"{image_id}.{disk_format}")
        if disk_format == "raw":
            os.rename(raw, stored)
        else:
            run("qemu-img", "convert", "-O", disk_format, raw, stored)
            os.unlink(raw)
        return image_id

    def content(self, path, fmt=None):
        """A disk as its guest sees it: the path of a raw copy."""
        copy = os.path.join(self.plain, "content")
        run("qemu-img", "convert", "-U", "-f", fmt or self.fmt, "-O", "raw", path, copy)
        return copy

    def image(self, image_id):
        return glob.glob(f"{self.glance}/{image_id}.*")[0]

    def same_files(self, path, image_id, fmt=None):
        """The guest's file system is sound and has the image's marked file."""
        copy = self.content(path, fmt)
        run("e2fsck", "-fn", copy)
        got = run("debugfs", "-R", "cat /marked", copy)
        equal(f"the marked file on {path}", marked(2 * MIB, image_id[:8]).decode(), got)


class Guest:
    """disks: {NAME: (PATH, FORMAT)}; uid: as whom QEMU runs."""

    def __init__(self, lab, disks, uid=None):
        self.lab = lab
        self.name = lab.path("sockets", f"guest-{os.getpid()}-{len(lab.guests)}")
        program, *more = self.command()
        args = [*DIE_WITH_US, program,
                "-chardev" if program.startswith("qemu-system") else "--chardev",
                f"socket,id=m,path={self.name}.qmp,server=on,wait=off", *more]
        for name, (path, fmt) in disks.items():
            args += ["--blockdev", f"driver=file,node-name={name}-file,filename={path},"
                     "cache.direct=on,aio=native,discard=unmap,locking=on",
                     "--blockdev", f"driver={fmt},node-name={name},file={name}-file,discard=unmap,"
                     "detect-zeroes=unmap", *self.device(name)]
        self.errors = open(self.name + ".err", "w+", encoding="utf-8")
        self.process = subprocess.Popen(args, stderr=self.errors, user=uid, group=uid,
                                        extra_groups=[] if uid else None)
        self.monitor = None
        wait_for("QEMU's start", self.started)
        self.connect()  # it answers when it has opened its disks

    def command(self):
        return ["qemu-storage-daemon", "--nbd-server",
                f"addr.type=unix,addr.path={self.name}.nbd", "--monitor", "chardev=m"]

    def device(self, name):
        return ["--export", f"type=nbd,id=e-{name},node-name={name},name={name},writable=on"]

    def started(self):
        need(self.process.poll() is None, f"QEMU ended: {open(self.errors.name).read()}")
        return os.path.exists(self.name + ".qmp")

    def uri(self, disk):
        return f"nbd+unix:///{disk}?socket={self.name}.nbd"

    def io(self, disk, *commands):
        args = [a for c in commands for a in ("-c", c)]
        out = run("qemu-io", "-f", "raw", *args, self.uri(disk), timeout=60)
        need("failed" not in out and "error" not in out, f"{commands}: {out}")
        return out

    def write_marked(self, disk, offset, length, seed):
        source = os.path.join(self.lab.plain, "pattern")
        with open(source, "wb") as f:
            f.write(marked(length, seed))
        self.io(disk, f"write -s {source} {offset} {length}", "flush")

    def qmp(self, command, **arguments):
        self.monitor.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
        self.monitor.flush()
        while True:
            answer = json.loads(self.monitor.readline())
            need("error" not in answer, f"{command}: {answer}")
            if "return" in answer:
                return answer["return"]

    def listens(self, connection):
        """A socket has its name before anybody listens."""
        try:
            connection.connect(self.name + ".qmp")
        except ConnectionRefusedError:
            return self.process.poll() is not None
        return True

    def connect(self):
        connection = socket.socket(socket.AF_UNIX)
        try:
            wait_for("QEMU's monitor", lambda: self.listens(connection))
            self.monitor = connection.makefile("rw")
            self.monitor.readline()
            self.qmp("qmp_capabilities")
        except OSError as e:
            self.process.wait(10)
            raise AssertionError(f"QEMU ended: {open(self.errors.name).read()}") from e

    def mirror(self, disk, target, sync):
        """A copy job until both are equal; it ends with a pivot to nothing, as Nova's do."""
        self.qmp("blockdev-mirror", **{"job-id": "copy", "device": disk, "target": target,
                                       "sync": sync})
        wait_for("the copy", lambda: any(j["id"] == "copy" and j["status"] == "ready"
                                         for j in self.qmp("query-jobs")), 30)

    def end_mirror(self):
        self.qmp("block-job-cancel", device="copy")
        wait_for("the job's end", lambda: not self.qmp("query-jobs"))

    def stop(self):
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait(20)
        self.errors.close()


class Machine(Guest):
    """A machine in QEMU (TCG) that does not run, with disks on virtio; memory: a file that is put
    into its memory; incoming: where its state comes from; alone: nobody else may write its disks,
    not even by io()."""

    def __init__(self, lab, disks, memory=None, incoming=None, alone=False):
        self.memory, self.incoming, self.alone, self.exported = memory, incoming, alone, False
        super().__init__(lab, disks, QEMU_UID)

    def command(self):
        return ["qemu-system-x86_64", "-S", "-display", "none", "-nodefaults", "-m", "64",
                "-machine", "q35,accel=tcg", "-mon", "chardev=m,mode=control",
                "-device", "virtio-scsi-pci",
                *(["-device", f"loader,file={self.memory},addr=0x1000000,force-raw=on"]
                  if self.memory else []),
                *(["-incoming", self.incoming] if self.incoming else [])]

    def device(self, name):
        return ["-device", f"virtio-blk-pci,drive={name},share-rw={'off' if self.alone else 'on'}"]

    def io(self, disk, *commands):
        self.export(disk)
        return super().io(disk, *commands)

    def export(self, disk):
        if not self.exported:
            self.qmp("nbd-server-start", addr={"type": "unix", "data": {"path": self.name + ".nbd"}})
            self.qmp("block-export-add", type="nbd", id="e", name=disk, writable=True,
                     **{"node-name": disk})
            self.exported = True

    def migrate(self, uri):
        if self.exported:
            self.qmp("nbd-server-stop")
        self.qmp("migrate", uri=uri)
        self.arrived()

    def arrived(self):
        def done():
            status = self.qmp("query-migrate").get("status")
            need(status != "failed", f"migration: {self.qmp('query-migrate')}")
            return status == "completed"
        wait_for("the machine's state", done, 60)


class Node:
    """A process with Nova's driver; call() runs a method of its Nova object there."""

    def __init__(self, lab, name, settings):
        self.name = name
        ours, theirs = socket.socketpair()
        self.pid = os.fork()
        if self.pid == 0:
            ours.close()
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            try:
                Worker(lab, name, settings).serve(theirs.makefile("rwb"))
            except BaseException:  # whatever it is: said, and the end of this process
                traceback.print_exc()
            os._exit(1)
        theirs.close()
        self.pipe = ours.makefile("rwb")
        pickle.load(self.pipe)

    def send(self, method, *args, **more):
        pickle.dump((method, args, more), self.pipe)
        self.pipe.flush()

    def receive(self):
        good, value = pickle.load(self.pipe)
        need(good, f"node {self.name}: {value}")
        return value

    def call(self, method, *args, **more):
        self.send(method, *args, **more)
        return self.receive()

    def stop(self):
        try:
            self.send("quit")
        except OSError:
            pass
        os.waitpid(self.pid, 0)


class Worker:
    def __init__(self, lab, name, settings):
        self.sshd = None
        if name == "b":
            self.enter_second_node(lab)
        import novadriver  # pylint: disable=import-outside-toplevel
        os.environ["PATH"] = lab.path("bin") + ":" + os.environ["PATH"]
        self.nova = novadriver.Nova(lab, name, settings)

    def enter_second_node(self, lab):
        """This process sees the second mount at the first one's path."""
        libc = ctypes.CDLL(None, use_errno=True)

        def done(result, what):
            need(result == 0, f"{what}: {os.strerror(ctypes.get_errno())}")

        first, second = (os.fsencode(lab.mnt[n]) for n in "ab")
        done(libc.unshare(CLONE_NEWNS), "unshare")
        done(libc.mount(b"none", b"/", None, MS_REC | MS_SLAVE, None), "mounts as slaves")
        self.leave_mounts(libc, lab.mnt["b"])
        done(libc.mount(second, first, None, MS_BIND, None), "bind mount")
        done(libc.umount2(second, MNT_DETACH), "umount of the second")
        os.makedirs("/run/sshd", exist_ok=True)
        self.sshd = subprocess.Popen([*DIE_WITH_US, "/usr/sbin/sshd", "-D",
                                      "-f", lab.path("ssh", "sshd_config"),
                                      "-E", lab.path("ssh", "log")])

    def leave_mounts(self, libc, but):
        """The copies of other mounts here would keep their daemons, and other tests', alive."""
        with open("/proc/self/mounts", "rb") as f:
            mounts = [line.split()[1:3] for line in f]
        for folder, kind in mounts:
            folder = re.sub(rb"\\([0-7]{3})", lambda m: bytes([int(m[1], 8)]), folder)
            if kind.startswith(b"fuse.") and folder != os.fsencode(but):
                libc.umount2(folder, MNT_DETACH)

    def serve(self, pipe):
        pickle.dump("here", pipe)
        pipe.flush()
        while True:
            method, args, more = pickle.load(pipe)
            if method == "quit":
                break
            try:
                answer = (True, getattr(self.nova, method)(*args, **more))
            except Exception:  # reported to the one who called
                answer = (False, traceback.format_exc())
            pickle.dump(answer, pipe)
            pipe.flush()
        if self.sshd:
            os.kill(self.sshd.pid, signal.SIGTERM)
            self.sshd.wait()
        os._exit(0)


def holes_kept(plain_path, below_path):
    """The backing file has no more blocks than the plain one, but for header and rounding."""
    plain, under = os.stat(plain_path), os.stat(below_path)
    need(under.st_blocks * 512 <= plain.st_blocks * 512 + 3 * MIB,
         f"{below_path}: {under.st_blocks} blocks, {plain.st_blocks} seen")
    return under.st_blocks


def uuid_of(number):
    return f"5e5c0de0-0000-4000-8000-{number:012x}"


def promoted(lab, path):
    """A file that was made under a temporary name soon has a secret of its own."""
    def own():
        info = json.loads(run(lab.program, "info", "--json", lab.below(path)))
        return info["derived"] is False
    wait_for(f"a secret of its own for {path}", own)


def read(path, offset, length):
    with open(path, "rb") as f:
        f.seek(offset)
        return f.read(length)


def gone(lab, keys):
    wait_for(f"the end of {keys}", lambda: not set(keys) & lab.secrets(), 40)


def blocks(lab, path, node="a"):
    run("sync", "-f", lab.path("disk"))
    return os.stat(lab.below(path, node)).st_blocks * 512


def disks(folder, *names):
    return [f"{folder}/{n}" for n in names]


IMAGE, OTHER, SMALL, SNAP = (f"{c * 8}-1111-4111-8111-111111111111" for c in "abcd")
GIB = 1 << 30
U = [uuid_of(n) for n in range(16)]


def base_of(image_id):
    """As nova.virt.libvirt.imagecache.get_cache_fname()."""
    return "_base/" + hashlib.sha1(image_id.encode()).hexdigest()
