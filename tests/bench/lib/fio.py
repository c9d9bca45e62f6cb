# SPDX-License-Identifier: GPL-2.0-or-later
"""The rows that fio measures, on one file of a contestant that was written in full before."""
import dataclasses
import json
import os
import subprocess

from . import contestants

MIB, GIB = 1 << 20, 1 << 30


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of the table."""
    name: str
    title: str
    rw: str
    bs: str
    depth: int = 1
    jobs: int = 1
    direct: bool = True
    unit: str = "IOPS"
    once: bool = False      # no byte twice, none from the page cache
    more: tuple = ()
    core: bool = False
    less_is_better = False

    def writes(self):
        return self.rw != "read" and self.rw != "randread"

    @staticmethod
    def takes(_):
        return True

    def prepare(self, contestant, tools):
        pass

    def finish(self, contestant, tools, following=None):
        pass

    def measure(self, contestant, seconds, bench):
        return measure(self, contestant, seconds, bench)


def pair(name, title, read, write, bs, **kw):
    return (Row(name.format("read"), title.format("read"), read, bs, **kw),
            Row(name.format("write"), title.format("write"), write, bs, **kw))


SEQ, RAND = ("read", "write"), ("randread", "randwrite")
ROWS = (
    *pair("seq{}", "1 MiB sequential {}, QD4", *SEQ, "1m", depth=4, unit="MiB/s", core=True),
    *pair("seq{}128", "128 KiB sequential {}, QD8", *SEQ, "128k", depth=8, unit="MiB/s"),
    *pair("rand{}1", "4 KiB random {}, QD1", *RAND, "4k", core=True),
    *pair("rand{}1pin", "4 KiB random {}, QD1, fio pinned to CPU 0", *RAND, "4k",
          more=("--cpus_allowed=0",)),
    *pair("rand{}32", "4 KiB random {}, QD32", *RAND, "4k", depth=32, core=True),
    *pair("rand{}4x32", "4 KiB random {}, 4 jobs x QD32", *RAND, "4k", depth=32, jobs=4),
    Row("mixed16", "16 KiB random, 70 % read, QD16", "randrw", "16k", depth=16,
        more=("--rwmixread=70",)),
    Row("fsync4", "4 KiB random write, fsync after each", "randwrite", "4k", more=("--fsync=1",)),
    *pair("bseq{}", "buffered 1 MiB sequential {}", *SEQ, "1m", direct=False, unit="MiB/s",
          once=True),
    *pair("brand{}", "buffered 4 KiB random {}", *RAND, "4k", direct=False, once=True),
)


def execute(arguments):
    """fio's JSON; a fio that is interrupted takes its jobs with it."""
    child = subprocess.Popen(["fio", "--output-format=json", *arguments], stdout=subprocess.PIPE,
                             stderr=subprocess.PIPE, text=True)
    try:
        out, err = child.communicate()
    except BaseException:
        child.terminate()
        child.wait()
        raise
    if child.returncode:
        words = (err.strip() or out.strip()).splitlines()
        raise RuntimeError("fio: " + (words[0] if words else f"status {child.returncode}"))
    found = json.loads(out[out.index("{"):])["jobs"]
    if any(job["error"] for job in found):
        raise RuntimeError(f"fio: error {max(job['error'] for job in found)}")
    return found


def common(target, size):
    return ["--name=bench", f"--filename={target}", f"--size={size}", "--fallocate=none",
            "--group_reporting", "--randrepeat=0"]


def fill(contestant):
    """Random bytes everywhere: no hole is ever read."""
    execute([*common(contestant.target, contestant.size), "--rw=write", "--bs=1m",
             "--ioengine=psync", "--end_fsync=1", "--refill_buffers"])
    contestant.direct = {way: contestants.direct_works(contestant.target, way == "write")
                         for way in ("read", "write")}


def ticks(pids):
    """CPU seconds of these processes, in the kernel too; their own, not their children's."""
    total = 0
    for pid in pids:
        try:
            with open(f"/proc/{pid}/stat") as f:
                words = f.read().rpartition(")")[2].split()
        except OSError:
            continue
        total += int(words[11]) + int(words[12])
    return total / os.sysconf("SC_CLK_TCK")


def machine_ticks():
    """CPU seconds of the whole machine: busy, and stolen by its host."""
    with open("/proc/stat") as f:
        n = [int(word) for word in f.readline().split()[1:]]
    hertz = os.sysconf("SC_CLK_TCK")
    return (n[0] + n[1] + n[2] + n[5] + n[6]) / hertz, n[7] / hertz


def own_cpu(job):
    """CPU seconds of fio's jobs; without its start, which costs more than a short run."""
    return (job["usr_cpu"] + job["sys_cpu"]) / 100 * job["job_runtime"] / 1000


def forget(folder):
    """What lies below a contestant is on the disk and not in memory (tmpfs keeps it)."""
    os.sync()
    for path, _, names in os.walk(folder):
        for name in names:
            fd = os.open(f"{path}/{name}", os.O_RDONLY)
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(fd)


def measure(row, contestant, seconds, bench):
    """One run: the value, and what it cost. `cpu_s`: fio and the contestant's servers."""
    direct = row.direct and contestant.direct["write" if row.writes() else "read"]
    arguments = [*common(contestant.target, contestant.size), f"--rw={row.rw}", f"--bs={row.bs}",
                 f"--iodepth={row.depth}", f"--numjobs={row.jobs}", f"--runtime={seconds}",
                 f"--direct={int(direct)}", *row.more]
    arguments += (["--ioengine=psync"] + (["--end_fsync=1"] if row.writes() else [])
                  if row.once else [f"--ioengine={bench.engine}", "--time_based", "--norandommap"])
    if row.once and not row.writes():
        forget(contestant.back)
    pids = contestant.pids()
    before, (busy, stolen) = ticks(pids), machine_ticks()
    job = execute(arguments)[0]
    after, (busy_after, stolen_after) = ticks(pids), machine_ticks()
    sides = (job["read"], job["write"])
    cpu = after - before + own_cpu(job)
    gib = sum(side["io_bytes"] for side in sides) / GIB
    value = sum(side["bw_bytes"] for side in sides) / MIB if row.unit == "MiB/s" else \
        sum(side["iops"] for side in sides)
    return {"value": value, "direct": direct, "cpu_s": cpu, "gib": gib,
            "cpu_s_per_gib": cpu / gib if gib else None,
            "machine_cpu_s": busy_after - busy, "stolen_s": stolen_after - stolen,
            "latency_us": max(side["clat_ns"]["mean"] for side in sides) / 1000}


def pick_engine(folder):
    for engine in ("libaio", "io_uring", "psync"):
        probe = folder + "/probe"
        try:
            execute([*common(probe, 65536), "--rw=write", f"--ioengine={engine}"])
            return engine
        except RuntimeError:
            continue
        finally:
            if os.path.exists(probe):
                os.unlink(probe)
    raise RuntimeError("fio has no engine that works here")
