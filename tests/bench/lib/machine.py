# SPDX-License-Identifier: GPL-2.0-or-later
"""What was measured on: said in the header of the tables and in the JSON."""
import contextlib
import os
import resource
import subprocess

from .contestants import TOP


def raise_descriptors():
    """As many open files as we may have: a server keeps one for each file that the kernel knows."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for limit in (max(hard, 1 << 20), hard):
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
            return limit
    return hard


DESCRIPTORS = raise_descriptors()


def first_line(*command):
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    lines = [line.strip() for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    return lines[0] if lines else None


def field(path, name):
    try:
        with open(path) as f:
            found = (line.split(":", 1)[1].strip() for line in f if line.startswith(name))
            return next(found, None)
    except OSError:
        return None


def place(path):
    """The file system and device below a folder, and whether it is memory."""
    best = ("", "?", "?")
    with open("/proc/mounts") as f:
        for line in f:
            device, at, kind = line.split()[:3]
            inside = path == at or path.startswith(at.rstrip("/") + "/")
            if inside and len(at) >= len(best[0]):
                best = (at, kind, device)
    return {"path": path, "kind": "tmpfs" if best[1] == "tmpfs" else "disk",
            "filesystem": best[1], "device": best[2]}


def packages(names):
    done = subprocess.run(["dpkg-query", "-W", "-f", "${Package} ${Version}\n", *names],
                          capture_output=True, text=True) if os.path.exists("/usr/bin/dpkg-query") \
        else None
    return dict(line.split(" ", 1) for line in done.stdout.splitlines()) if done else {}


def facts(peers):
    wanted = sorted({word for peer in peers for word in peer.package.split()} - {"vmcryptfs"} |
                    {"fio", "libfuse3-3", "libgcrypt20", "e2fsprogs", "qemu-utils"})
    memory = field("/proc/meminfo", "MemTotal")
    return {
        "kernel": os.uname().release,
        "cpu": field("/proc/cpuinfo", "model name"),
        "cpus": os.cpu_count(),
        "memory_mib": int(memory.split()[0]) // 1024 if memory else None,
        "commit": first_line("git", "-C", TOP, "describe", "--always", "--dirty", "--abbrev=12"),
        "descriptors": DESCRIPTORS,
        "fio": first_line("fio", "--version"),
        "packages": packages(wanted),
    }


def available_mib():
    text = field("/proc/meminfo", "MemAvailable")
    return int(text.split()[0]) // 1024 if text else 0
