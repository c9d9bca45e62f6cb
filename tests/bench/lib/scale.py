# SPDX-License-Identifier: GPL-2.0-or-later
"""Many images at once, and how long an image takes to open. For ours alone, and the plain
directory where it says what fio itself makes of 64 files."""
import os
import shutil
import threading
import time

from . import contestants, fio, jobs

IMAGES, STREAMS, ONE_BY_ONE, AT_ONCE = 1000, 64, 50, 100


def is_main(peer):
    return isinstance(peer, contestants.Ours) and not peer.variant


def fio_on(paths, size, seconds, rw, engine):
    """IOPS over these files, which have `size` bytes together."""
    job = fio.execute([
        "--name=bench", "--filename=" + ":".join(paths), f"--size={size}", "--fallocate=none",
        "--group_reporting", "--randrepeat=0", f"--rw={rw}", "--bs=4k", "--iodepth=16",
        "--numjobs=4", "--direct=1", f"--ioengine={engine}", "--time_based", "--norandommap",
        f"--runtime={seconds}"])[0]
    return job["read"]["iops"] + job["write"]["iops"]


def rss_kib(pids):
    """The largest of these processes: the server."""
    most = 0
    for pid in pids:
        try:
            with open(f"/proc/{pid}/status") as f:
                most = max([most] + [int(line.split()[1]) for line in f
                                     if line.startswith("VmRSS:")])
        except OSError:
            pass
    return most


class Many:
    """1,000 images open and I/O on 64 of them, against the same load on as many bytes of one."""
    core, unit, less_is_better = False, "of 1 image", False
    name = "images1000"
    title = f"4 KiB random, 4 x QD16, on {STREAMS} of {IMAGES:,} open images (worse of read, write)"

    def __init__(self):
        self.held = {}

    @staticmethod
    def takes(peer):
        return isinstance(peer, contestants.Plain) or is_main(peer)

    def prepare(self, peer, tools):
        peer.rss_before = rss_kib(peer.pids())
        folder = peer.tree + "/images"
        jobs.listed_images(folder, IMAGES)
        peer.many = [f"{folder}/i{i}" for i in range(STREAMS)]
        peer.many_size = tools.size // 4
        fio.execute([*fio.common(":".join(peer.many), peer.many_size), "--rw=write", "--bs=64k",
                     "--ioengine=psync", "--refill_buffers"])
        self.held[peer.name] = [os.open(f"{folder}/i{i}", os.O_RDWR) for i in range(IMAGES)]

    def finish(self, peer, tools, following=None):
        for fd in self.held.pop(peer.name, []):
            os.close(fd)
        jobs.remove(peer.tree + "/images")

    def measure(self, peer, seconds, bench):
        found = {}
        for rw in ("randread", "randwrite"):
            for what, paths in (("one", [peer.target]), ("many", peer.many)):
                found[f"{rw}_{what}"] = fio_on(paths, peer.many_size, seconds, rw, bench.engine)
        return {"value": min(found[f"{rw}_many"] / found[f"{rw}_one"]
                             for rw in ("randread", "randwrite")),
                "rss_kib": rss_kib(peer.pids()), "rss_before_kib": peer.rss_before, **found}


class Opening:
    """A vmcryptfs of its own, whose key helper answers in 1 ms and whose keys do not linger."""
    core, less_is_better = False, True

    @staticmethod
    def takes(peer):
        return is_main(peer)

    def prepare(self, peer, tools):
        peer.closed = contestants.Ours(peer.name, peer.program, *peer.options,
                                      no_cipher=peer.no_cipher)
        other = peer.closed
        other.start(tools.dir, 0, before=self.with_helper)
        jobs.listed_images(other.tree + "/images", ONE_BY_ONE + AT_ONCE)
        other.again()

    @staticmethod
    def with_helper(other):
        folder = other.dir + "/helper"
        os.mkdir(folder, 0o700)
        program = shutil.copy(contestants.TOP + "/tests/bench/helper",
                              folder + "/vmcryptfs-key-bench")
        other.options = (*other.options, "key-service.helper=" + program, "key-service.linger=0")
        other.file_helper = False

    def finish(self, peer, tools, following=None):
        peer.closed.stop()

    def settle(self, peer):
        """The helpers run, and keys of the last round are gone."""
        first_byte(peer.closed.tree + "/images/i0")
        time.sleep(2.5)  # the sweep comes every second


def first_byte(path):
    fd = os.open(path, os.O_RDONLY)
    got = os.read(fd, 1)
    os.close(fd)
    if got != b"x":
        raise RuntimeError("an image reads wrong")


class FirstByte(Opening):
    name, title, unit = "firstbyte", f"open to first byte, median of {ONE_BY_ONE}", "ms"

    def measure(self, peer, seconds, bench):
        self.settle(peer)
        took = []
        for i in range(1, ONE_BY_ONE):
            begun = time.monotonic()
            first_byte(f"{peer.closed.tree}/images/i{i}")
            took.append((time.monotonic() - begun) * 1000)
        took.sort()
        return {"value": took[len(took) // 2], "least": took[0], "most": took[-1]}


class Parallel(Opening):
    name, title, unit = "open100", f"{AT_ONCE} images opened at once", "s"

    def measure(self, peer, seconds, bench):
        self.settle(peer)
        start, failed = threading.Barrier(AT_ONCE + 1), []

        def work(i):
            start.wait()
            try:
                first_byte(f"{peer.closed.tree}/images/i{ONE_BY_ONE + i}")
            except (OSError, RuntimeError) as e:
                failed.append(e)

        threads = [threading.Thread(target=work, args=(i,)) for i in range(AT_ONCE)]
        for thread in threads:
            thread.start()
        start.wait()
        begun = time.monotonic()
        for thread in threads:
            thread.join()
        took = time.monotonic() - begun
        if failed:
            raise RuntimeError(str(failed[0]))
        return {"value": took}


ROWS = (Many(), FirstByte(), Parallel())
