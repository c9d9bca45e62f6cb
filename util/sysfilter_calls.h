/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which system calls: by families, since the C library and the kernel's headers decide which of
 * several a function uses. A name that this architecture or libseccomp does not know is skipped.
 * What is allowed only with some arguments stands in sysfilter.c.
 */
#ifndef VCF_UTIL_SYSFILTER_CALLS_H
#define VCF_UTIL_SYSFILTER_CALLS_H

/* clang-format off */
/* What data goes through comes first; the filter is searched as a tree anyway. */
static const char *const calls_common[] = {
	"read", "write", "pread64", "pwrite64", "readv", "writev", "futex", "futex_waitv",
	/* time */
	"clock_gettime", "clock_getres", "clock_nanosleep", "nanosleep", "gettimeofday",
	"time",
	/* files: what is opened is for capabilities and Landlock to say */
	"access", "close", "close_range", "dup", "dup2", "dup3", "faccessat",
	"faccessat2", "fcntl", "fdatasync", "flock", "fstat", "fstatfs", "fsync",
	"ftruncate", "getcwd", "getdents", "getdents64", "linkat", "lseek", "lstat",
	"mkdirat", "newfstatat", "open", "openat", "openat2", "readlink", "readlinkat",
	"renameat", "renameat2", "stat", "statfs", "statx", "umask", "unlink", "unlinkat",
	/* memory; code is loaded by the crypto library and by the name service */
	"brk", "madvise", "mlock", "mlock2", "mmap", "mprotect", "mremap", "munlock",
	"munmap",
	/* threads and signals */
	"arch_prctl", "exit", "exit_group", "get_robust_list", "membarrier", "pause",
	"restart_syscall", "rseq", "rt_sigaction", "rt_sigpending", "rt_sigprocmask",
	"rt_sigreturn", "rt_sigsuspend", "rt_sigtimedwait", "sched_getaffinity",
	"sched_getparam", "sched_getscheduler", "sched_yield", "set_robust_list",
	"set_tid_address", "sigaltstack",
	/* who and where we are */
	"getcpu", "getegid", "geteuid", "getgid", "getgroups", "getpgrp", "getpid",
	"getppid", "getpriority", "getrandom", "getresgid", "getresuid", "getrlimit",
	"getrusage", "getsid", "gettid", "getuid", "sysinfo", "times", "uname",
	/* waiting */
	"epoll_create", "epoll_create1", "epoll_ctl", "epoll_pwait", "epoll_pwait2",
	"epoll_wait", "eventfd2", "pipe", "pipe2", "poll", "ppoll", "pselect6", "select",
	"inotify_add_watch", "inotify_init1", "inotify_rm_watch", "name_to_handle_at",
	"signalfd4", "timerfd_create", "timerfd_gettime", "timerfd_settime",
	/* sockets; their families are looked at */
	"accept", "accept4", "bind", "connect", "getpeername", "getsockname",
	"getsockopt", "listen", "recvfrom", "recvmmsg", "recvmsg", "sendmmsg", "sendmsg",
	"sendto", "setsockopt", "shutdown", "socketpair", NULL,
};

static const char *const calls_server[] = {
	"preadv", "preadv2", "pwritev", "pwritev2", "io_submit", "io_getevents",
	"io_pgetevents", "io_setup", "io_destroy", "io_cancel",
	/* what callers want of files */
	"chmod", "chown", "copy_file_range", "fadvise64", "fallocate", "fchmod",
	"fchmodat", "fchmodat2", "fchown", "fchownat", "lchown", "link", "mkdir", "mknod",
	"mknodat", "rename", "rmdir", "symlink", "symlinkat", "sync_file_range", "syncfs",
	"truncate", "utimensat", "fgetxattr", "flistxattr", "fremovexattr", "fsetxattr",
	"getxattr", "lgetxattr", "listxattr", "llistxattr", "lremovexattr", "lsetxattr",
	"removexattr", "setxattr",
	/* a caller's own identity while a file is made */
	"capget", "capset", "setfsgid", "setfsuid",
	/* containers' headers and keys in memory; the keeper; idle threads */
	"memfd_create", "memfd_secret", "pidfd_open", "sched_setaffinity",
	"sched_setscheduler", "wait4",
	/* what the kernel offers, for the log */
	"landlock_create_ruleset", NULL,
};

/* For a program that is executed it would be too late to be asked what it needs. */
static const char *const calls_refused[] = {
	/* other processes' memory and descriptors */
	"kcmp", "pidfd_getfd", "process_vm_readv", "process_vm_writev", "ptrace",
	/* the kernel's own business */
	"acct", "bpf", "create_module", "delete_module", "fanotify_init", "finit_module",
	"get_kernel_syms", "init_module", "ioperm", "iopl", "kexec_file_load",
	"kexec_load", "lookup_dcookie", "modify_ldt", "nfsservctl", "open_by_handle_at",
	"perf_event_open", "personality", "query_module", "quotactl", "quotactl_fd",
	"reboot", "swapoff", "swapon", "syslog", "sysfs", "uselib", "userfaultfd",
	"ustat", "vhangup", "vm86", "vm86old",
	/* the machine's time and name */
	"adjtimex", "clock_adjtime", "clock_settime", "sethostname", "setdomainname",
	"settimeofday", "stime", NULL,
};
/* clang-format on */

#endif
