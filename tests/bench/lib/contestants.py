# SPDX-License-Identifier: GPL-2.0-or-later
"""Who is measured: each keeps its files in a folder of its own and offers them at a mount point.

start(base, size) makes the folder below base, mounts, and sets `target`, the file for fio, and
`tree`, a folder for whole jobs (None where one image is all there is). stop() undoes all of it,
also after half a start. missing() says why somebody cannot take part, or is None.
"""
import contextlib
import gzip
import os
import shutil
import signal
import subprocess
import tempfile
import time

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
PASSWORD = "bench"


def is_mounted(path):
    with open("/proc/self/mountinfo") as f:
        return any(line.split()[4] == path for line in f)


def unmount(path):
    """Lazily at last: a benchmark leaves nothing behind."""
    how = (["umount", path], ["fusermount3", "-u", path], ["umount", "-l", path],
           ["fusermount3", "-uz", path])
    for command in how:
        for _ in range(3):
            if not is_mounted(path):
                return
            with contextlib.suppress(FileNotFoundError):
                subprocess.run(command, capture_output=True)
                time.sleep(0.05)


def direct_works(path, writing):
    """Whether one block can be read, or written as it is, with O_DIRECT."""
    import mmap
    try:
        fd = os.open(path, os.O_DIRECT | (os.O_RDWR if writing else os.O_RDONLY))
    except OSError:
        return False
    try:
        block = mmap.mmap(-1, 4096)
        os.preadv(fd, [block], 0)
        if writing:
            os.pwritev(fd, [block], 0)
        return True
    except OSError:
        return False
    finally:
        os.close(fd)


def descendants(root):
    """The process ids of root and all below it."""
    children = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError), open(f"/proc/{entry}/stat") as f:
                parent = int(f.read().rpartition(")")[2].split()[1])
                children.setdefault(parent, []).append(int(entry))
    found, left = [], [root]
    while left:
        pid = left.pop()
        found.append(pid)
        left += children.get(pid, [])
    return found


class Contestant:
    name = package = ""
    programs = ()
    note = ""
    ends_with_mount = True

    def __init__(self):
        self.dir = self.target = self.tree = self.mnt = self.prepared = None
        self.running = []

    def missing(self):
        for program in self.programs:
            if not shutil.which(program):
                return f"{program} is not there (Debian: {self.package})"
        return None

    def version(self):
        return None

    def start(self, base, size, before=None):
        """before(self) is called when the folder is there and nothing runs yet."""
        self.dir = tempfile.mkdtemp(prefix=f"vcf-bench.{self.name}.", dir=base)
        os.chmod(self.dir, 0o711)
        self.back, self.mnt = self.dir + "/back", self.dir + "/mnt"
        os.mkdir(self.back)
        os.mkdir(self.mnt)
        self.size = size
        if before:
            before(self)
        self.mount()
        if self.target is None:
            self.target, self.tree = self.mnt + "/image", self.mnt

    def mount(self):
        raise NotImplementedError

    def stop(self):
        if self.dir is None:
            return
        if self.mnt:
            unmount(self.mnt)
        for child in self.running:
            self.end(child)
        self.running = []
        shutil.rmtree(self.dir, ignore_errors=True)
        self.dir = self.target = self.tree = None

    def end(self, child):
        """A server ends by itself once its mount is gone; one that does not is made to."""
        for sig, patience in ((0, 5 * self.ends_with_mount), (signal.SIGTERM, 5),
                              (signal.SIGKILL, 3)):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                if sig:
                    os.killpg(child.pid, sig)
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(patience)
                return

    def run(self, *command, **kw):
        with open(self.dir + "/log", "ab") as log:
            subprocess.run(command, check=True, stdout=log, stderr=log,
                           stdin=subprocess.DEVNULL if "input" not in kw else None, **kw)

    def serve(self, *command, at=None, given=None, env=None):
        """Starts a server in the foreground and waits until its mount is there."""
        at = at or self.mnt
        with open(self.dir + "/log", "ab") as log:
            child = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True,
                                     env=env, stdin=subprocess.PIPE)
        self.running.append(child)
        if given:
            child.stdin.write(given.encode())
        child.stdin.close()
        for _ in range(1200):
            if is_mounted(at):
                return
            if child.poll() is not None:
                break
            time.sleep(0.05)
        raise RuntimeError(f"{command[0]} did not mount: {self.last_words()}")

    def last_words(self):
        try:
            with open(self.dir + "/log", errors="replace") as f:
                return (f.read().strip().splitlines() or ["(says nothing)"])[-1]
        except OSError:
            return "(no log)"

    def password_file(self):
        path = self.dir + "/password"
        with open(path, "w") as f:
            f.write(PASSWORD)
        os.chmod(path, 0o600)
        return path

    def pids(self):
        return [pid for child in self.running for pid in descendants(child.pid)]


class Plain(Contestant):
    name = "plain"
    note = "a folder, no mount"

    def mount(self):
        self.mnt = None
        self.target, self.tree = self.back + "/image", self.back


class PassthroughLl(Contestant):
    """libfuse's example, which never touches the bytes. What is cached decides much: direct files
    and no attributes (never) are better for O_DIRECT, the other end (always) for metadata."""
    package = "libfuse3-dev gcc pkg-config"
    programs = ("gcc", "pkg-config")
    source = "/usr/share/doc/libfuse3-dev/examples/passthrough_ll.c"

    def __init__(self, name, cache):
        super().__init__()
        self.name, self.cache = name, cache
        self.note = "libfuse's example passthrough_ll, cache=" + cache

    def missing(self):
        if not (os.path.exists(self.source) or os.path.exists(self.source + ".gz")):
            return f"{self.source} is not there (Debian: {self.package})"
        return super().missing()

    def build(self):
        text = self.dir + "/passthrough_ll.c"
        packed = not os.path.exists(self.source)
        with (gzip.open(self.source + ".gz") if packed else open(self.source, "rb")) as f, \
                open(text, "wb") as out:
            out.write(f.read())
        flags = subprocess.run(["pkg-config", "--cflags", "--libs", "fuse3"], check=True,
                               capture_output=True, text=True).stdout.split()
        self.run("gcc", "-O2", "-o", self.dir + "/passthrough_ll", text, "-I",
                 os.path.dirname(self.source), *flags)

    def mount(self):
        self.build()
        self.serve(self.dir + "/passthrough_ll", "-f", "-o",
                   f"source={self.back},cache={self.cache}", self.mnt)


class Ours(Contestant):
    package = "vmcryptfs"
    file_helper = True

    def __init__(self, name, program, *options, note="", variant=False, no_cipher=False):
        """variant: a form of containers beside the usual one; no part in rows of many images"""
        super().__init__()
        self.variant, self.no_cipher = variant, no_cipher
        self.name, self.program, self.options = name, os.path.abspath(program), options
        self.note = note or f"{os.path.relpath(self.program)} {' '.join(options)}".rstrip()

    def missing(self):
        if not os.access(self.program, os.X_OK):
            return f"{self.program} is not built"
        built = time.gmtime(os.stat(self.program).st_mtime)
        self.note += time.strftime(" (built %Y-%m-%dT%H:%MZ)", built)
        return None

    def mount(self):
        for name in ("keys", "state", "run"):
            os.mkdir(f"{self.dir}/{name}", 0o700)
        self.serve_ours()
        os.mkdir(self.mnt + "/plain")

    def serve_ours(self):
        options = [f"mount.state-directory={self.dir}/state", "rules.passthrough=plain/**",
                   f"mount.runtime-directory={self.dir}/run", *self.options]
        if self.file_helper:
            options.append(f"file.directory={self.dir}/keys")
        env = dict(os.environ, VMCRYPTFS_NO_CIPHER="yes") if self.no_cipher else None
        self.serve(self.program, "mount", "-f", *(word for option in options
                                                  for word in ("-o", option)),
                   self.back, self.mnt, env=env)

    def again(self):
        """Unmounted and mounted anew: nothing is open, no key is held."""
        unmount(self.mnt)
        for child in self.running:
            self.end(child)
        self.running = []
        self.serve_ours()


class Gocryptfs(Contestant):
    name = package = "gocryptfs"
    programs = ("gocryptfs",)

    def mount(self):
        password = self.password_file()
        self.run("gocryptfs", "-q", "-init", "-scryptn", "10", "-passfile", password, self.back)
        self.serve("gocryptfs", "-q", "-fg", "-passfile", password, self.back, self.mnt)


class Securefs(Contestant):
    name = package = "securefs"
    programs = ("securefs",)

    def mount(self):
        self.run("securefs", "create", "--pass", PASSWORD, "--rounds", "1", self.back)
        self.serve("securefs", "mount", "--pass", PASSWORD, self.back, self.mnt)


class Encfs(Contestant):
    name = package = "encfs"
    programs = ("encfs",)

    def mount(self):
        self.serve("encfs", "--standard", "--stdinpass", "-f", self.back, self.mnt,
                   given=PASSWORD + "\n")


class Cryfs(Contestant):
    name = package = "cryfs"
    programs = ("cryfs",)

    def mount(self):
        env = dict(os.environ, HOME=self.dir, CRYFS_FRONTEND="noninteractive",
                   CRYFS_NO_UPDATE_CHECK="true")
        self.serve("cryfs", "-f", "--config", self.dir + "/cryfs.config", self.back, self.mnt,
                   given=PASSWORD + "\n", env=env)


class LuksFile(Contestant):
    """One LUKS1 container (sectors of 512 bytes), made by qemu-img."""

    def create(self):
        self.password = self.password_file()
        self.image = self.back + "/image"
        self.run("qemu-img", "create", "-q", "-f", "luks",
                 "--object", f"secret,id=s,file={self.password}",
                 "-o", "key-secret=s,iter-time=10", self.image, str(self.size))


class Nbdkit(LuksFile):
    name, package = "nbdkit", "nbdkit libnbd-bin qemu-utils"
    programs = ("nbdkit", "nbdfuse", "qemu-img")
    note = "nbdkit --filter=luks below nbdfuse: one file, LUKS1"

    def mount(self):
        self.create()
        self.serve("nbdfuse", self.mnt + "/nbd", "--command", "nbdkit", "-s", "--exit-with-parent",
                   "--filter=luks", "file", self.image, f"passphrase=+{self.password}")
        self.target = self.mnt + "/nbd"


class Qemu(LuksFile):
    name, package = "qemu", "qemu-system-common qemu-utils"
    programs = ("qemu-storage-daemon", "qemu-img")
    ends_with_mount = False
    note = "the luks FUSE export of qemu-storage-daemon: one file, LUKS1"

    def mount(self):
        self.create()
        self.mnt = self.dir + "/export"
        with open(self.mnt, "w"):
            pass
        direct = "on" if direct_works(self.image, False) else "off"
        self.serve("qemu-storage-daemon", "--object", f"secret,id=s,file={self.password}",
                   "--blockdev", f"file,node-name=f,filename={self.image},cache.direct={direct}",
                   "--blockdev", "luks,node-name=l,file=f,key-secret=s",
                   "--export", f"fuse,id=e,node-name=l,mountpoint={self.mnt},writable=on")
        self.target = self.mnt


CORE = ("plain", "passthrough_ll", "ours-nocipher", "vmcryptfs", "gocryptfs", "qemu")


def everyone(more=()):
    """All contestants by name; more: NAME=PROGRAM[,section.key=value]... of --ours."""
    program = os.environ.get("VMCRYPTFS", TOP + "/build-rel/fs/vmcryptfs")
    nocipher = os.environ.get("VMCRYPTFS_NOCIPHER", TOP + "/build-nocipher/fs/vmcryptfs")
    found = [Plain(), PassthroughLl("passthrough_ll", "never"),
             PassthroughLl("passthrough_ll-cached", "always"),
             Ours("ours-nocipher", nocipher, "format.sector-size=4096", no_cipher=True,
                  note="built with -Dbench-no-cipher=true: its cipher is a copy"),
             Ours("vmcryptfs", program, "format.sector-size=4096"),
             Ours("vmcryptfs-512", program, "format.sector-size=512", variant=True),
             Ours("vmcryptfs-luks1", program, "format.type=luks1", "format.sector-size=512",
                  variant=True),
             Gocryptfs(), Securefs(), Encfs(), Cryfs(), Nbdkit(), Qemu()]
    for text in more:
        name, _, rest = text.partition("=")
        words = rest.split(",")
        found.append(Ours(name, words[0], *words[1:]))
    return {c.name: c for c in found}
