# SPDX-License-Identifier: GPL-2.0-or-later
"""Whole jobs: what people do with a folder of images or of small files. Seconds: less is better.

Each row has prepare (once), setup (before each run, not timed), the command, and cleanup. Small
files lie in the folder plain/, which our contestants' rules make passthrough; images elsewhere.
"""
import dataclasses
import os
import random
import resource
import shutil
import subprocess
import tarfile
import tempfile
import time

from . import fio, machine

MIB, GIB = 1 << 20, 1 << 30
# Fewer where a server, which keeps one descriptor a file, may not have so many.
SMALL_FILES = min(20000, machine.DESCRIPTORS * 3 // 4)
LISTED_FILES, LISTED_IMAGES = SMALL_FILES // 2, 1000


def cold():
    """Nothing of names and attributes is known any more (root only), nothing is left to write."""
    os.sync()
    try:
        with open("/proc/sys/vm/drop_caches", "w") as f:
            f.write("2")
    except OSError:
        pass


def remove(*paths):
    for path in paths:
        if os.path.isdir(path):
            shutil.rmtree(path)
        elif os.path.lexists(path):
            os.unlink(path)


def sparse_source(path, size):
    """A raw image, a quarter of it data in pieces of 4 MiB with holes between."""
    with open(path, "wb") as f:
        f.truncate(size)
        for at in range(0, size, 16 * MIB):
            f.seek(at)
            f.write(os.urandom(4 * MIB))


def archive(path, count):
    """Files of 0 to 16 KiB, fifty a folder, as in a tree of sources."""
    rng, piece = random.Random(1), os.urandom(1 << 16)
    source = tempfile.mkdtemp(dir=os.path.dirname(path))
    for i in range(count):
        folder = f"{source}/d{i // 50}"
        os.makedirs(folder, exist_ok=True)
        at = rng.randrange(1 << 15)
        with open(f"{folder}/f{i}", "wb") as f:
            f.write(piece[at:at + min(int(rng.expovariate(1 / 3000)), 16384)])
    with tarfile.open(path, "w") as tar:
        tar.add(source, "tree")
    shutil.rmtree(source)


def listed_files(folder, count):
    for i in range(count):
        if i % 100 == 0:
            os.makedirs(f"{folder}/d{i // 100}")
        with open(f"{folder}/d{i // 100}/f{i}", "wb") as f:
            f.write(b"x" * (i % 7))


def many_files(tree, _):
    listed_files(tree + "/plain/many", LISTED_FILES)


def many_images(tree, _):
    listed_images(tree + "/images", LISTED_IMAGES)


def listed_images(folder, count):
    os.makedirs(folder)
    for i in range(count):
        with open(f"{folder}/i{i}", "wb") as f:
            f.write(b"x")


class Tools:
    """What all contestants are fed from, made when it is first needed; one folder a place."""

    def __init__(self, base, size):
        self.dir = tempfile.mkdtemp(prefix="vcf-bench.tools.", dir=base)
        self.size = size

    def source(self):
        path = self.dir + "/source.raw"
        if not os.path.exists(path):
            sparse_source(path, self.size)
        return path

    def tar(self):
        path = self.dir + "/small.tar"
        if not os.path.exists(path):
            archive(path, SMALL_FILES)
        return path

    def remove(self):
        shutil.rmtree(self.dir, ignore_errors=True)


@dataclasses.dataclass(frozen=True)
class Job:
    name: str
    title: str
    command: object              # of (tree, tools): a list, or a list of lists
    prepare_with: object = None  # of (tree, tools): once a contestant
    leaves: tuple = ()           # below the tree: removed after each run
    from_cold: bool = False
    core = False
    unit = "s"
    less_is_better = True

    @staticmethod
    def takes(peer):
        return peer.tree is not None

    def prepare(self, peer, tools):
        os.makedirs(peer.tree + "/plain", exist_ok=True)
        if self.prepare_with and peer.prepared is not self.prepare_with:
            self.prepare_with(peer.tree, tools)
        peer.prepared = self.prepare_with

    def finish(self, peer, tools, following=None):
        """The inverse of prepare, unless the following row wants the same."""
        if self.prepare_with and getattr(following, "prepare_with", None) is self.prepare_with:
            return
        peer.prepared = None
        for name in ("plain", "images", "source.raw", *self.leaves):
            remove(f"{peer.tree}/{name}")

    def measure(self, peer, seconds, bench):
        tools = bench.tools
        command = self.command(peer.tree, tools)
        os.sync()
        if self.from_cold:
            cold()
        pids = peer.pids()
        before, used = fio.ticks(pids), resource.getrusage(resource.RUSAGE_CHILDREN)
        begun = time.monotonic()
        done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        took = time.monotonic() - begun
        cpu = fio.ticks(pids) - before + spent_since(used)
        for name in self.leaves:
            remove(f"{peer.tree}/{name}", f"{tools.dir}/{name}")
        if done.returncode:
            raise RuntimeError(f"{command[0]}: {(done.stderr.strip() or 'fails').splitlines()[-1]}")
        return {"value": took, "cpu_s": cpu}


def spent_since(used):
    now = resource.getrusage(resource.RUSAGE_CHILDREN)
    return now.ru_utime + now.ru_stime - used.ru_utime - used.ru_stime


def mkfs(tree, _):
    with open(tree + "/big.raw", "wb") as f:
        f.truncate(20 * GIB)
    return ["mkfs.ext4", "-q", "-F", tree + "/big.raw"]


def copy_source(tree, tools):
    subprocess.run(["cp", "--sparse=always", tools.source(), tree + "/source.raw"], check=True)


RAW = ("qemu-img", "convert", "-f", "raw", "-O", "raw")
ROWS = (
    Job("mkfs", "mkfs.ext4 of 20 GiB, sparse", mkfs, leaves=("big.raw",)),
    Job("convertin", "qemu-img convert into it, sparse", lambda tree, tools:
        [*RAW, tools.source(), tree + "/in.raw"], leaves=("in.raw",)),
    Job("convertout", "qemu-img convert out of it, sparse", lambda tree, tools:
        [*RAW, tree + "/source.raw", tools.dir + "/out.raw"], copy_source, leaves=("out.raw",)),
    Job("cpsparse", "cp --sparse=always into it", lambda tree, tools:
        ["cp", "--sparse=always", tools.source(), tree + "/copy.raw"], leaves=("copy.raw",)),
    Job("untar", f"untar {SMALL_FILES:,} small files (plain)", lambda tree, tools:
        ["tar", "-C", tree + "/plain", "-xf", tools.tar()], leaves=("plain/tree",)),
    Job("lsplain", f"ls -lR of {LISTED_FILES:,} files (plain)", lambda tree, _:
        ["ls", "-lR", tree + "/plain/many"], many_files, from_cold=True),
    Job("findplain", f"find -size over {LISTED_FILES:,} files (plain)", lambda tree, _:
        ["find", tree + "/plain/many", "-size", "+100k"], many_files, from_cold=True),
    Job("lsimages", f"ls -lR of {LISTED_IMAGES:,} images", lambda tree, _:
        ["ls", "-lR", tree + "/images"], many_images, from_cold=True),
    Job("findimages", f"find -size over {LISTED_IMAGES:,} images", lambda tree, _:
        ["find", tree + "/images", "-size", "+100k"], many_images, from_cold=True),
)
