#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Calls that a process has no use for are stopped by its filter. A debugger makes keeper, server and each
# of our helpers try: the keeper gets an error and goes on; a server dies, is named with the call in the
# log, and replaced while programs read and write; so is a helper. Then seccomp = off.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
need_fuse
need_root
need_prog gdb openssl pgrep
! grep -aqE '__(a|t)san_init' "$VMCRYPTFS" || skip "no filters under the sanitizers"
vcf_setup
server() { vcf_status_get "s['server_pid']"; }

# Prints what EXPRESSION gives in the process, nothing if it ended.
# shellcheck disable=SC2016  # of gdb
inside() { # PID EXPRESSION
	timeout 60 gdb -nx -batch -p "$1" -ex 'handle SIGSYS nostop noprint pass' \
		-ex "print $2" 2>"$W/gdb.err" | sed -n 's/^\$1 = //p'
}

# As the process sees it: the error number of a call that fails.
error_of() { # PID CALL
	inside "$1" "((int)$2, *(int *)((void *(*)(void))__errno_location)())"
}

# swapoff(2) of nothing: EPERM (1) by the filter, else ENOENT (2); unshare(2) of nothing: 0.
vcf_mount
[ "$(error_of "$$" 'swapoff("/nowhere")')" = 2 ] || skip "gdb cannot make a process call swapoff(2)"
echo content >"$MNT/disk"

equal "swapoff in the keeper" 1 "$(error_of "$VCF_PID" 'swapoff("/nowhere")')"
equal "ptrace in the keeper" 1 "$(error_of "$VCF_PID" 'ptrace(0, 0, 0, 0)')"
equal "the keeper goes on" content "$(cat "$MNT/disk")"
ok "refused in the keeper, which goes on"

equal "socket(AF_INET) in the server" 97 "$(error_of "$(server)" 'socket(2, 1, 0)')"
equal "kill of another process" 1 "$(error_of "$(server)" 'kill(1, 0)')"
equal "deaths" 0 "$(vcf_status_get "s['deaths']")"
ok "no network and no signals in the server"

load() {
	while [ ! -e "$W/stop" ]; do
		pattern 1 262144 >"$MNT/copy" && pattern 1 262144 | cmp -s - "$MNT/copy" || return 1
	done
}
load &
job=$!
expect_log 'killed by signal 31 with'
deaths=0
for call in 'unshare(0)' 'execve("/bin/true", 0, 0)' 'fork()'; do
	name=${call%%(*}
	equal "$call in the server" "" "$(inside "$(server)" "(int)$call")"
	deaths=$((deaths + 1))
	replaced() { [ "$(vcf_status_get "s['deaths']" 2>/dev/null)" = $deaths ]; }
	wait_for 30 replaced || fail "$call: the server lives"
	[ "$name" != fork ] || name=clone
	require_log "err: system call [0-9]+ \\($name\\) is refused"
	grep -aqE "err: system call [0-9]+ \\($name\\) is refused" "$LOG" || fail "$call: not in the log"
done
touch "$W/stop"
wait $job || fail "the load failed"
equal "read back" content "$(cat "$MNT/disk")"
equal "lines in the log" $deaths "$(grep -ac 'is refused (seccomp)' "$LOG")"
ok "each ends the server, is named once, and programs see nothing of it"

helper_pid() { pgrep -f -P "$VCF_PID" "^/.*/vmcryptfs-key-file\$" | head -n 1 || true; }
require_log 'key service default: .*vmcryptfs-key-file.* system call [0-9]+ \(unshare\) is refused'
pid=$(helper_pid)
equal "unshare in the helper" "" "$(inside "$pid" '(int)unshare(0)')"
wait_for 30 pid_gone "$pid" || fail "the helper lives"
echo another >"$MNT/disk2"
vcf_remount
equal "read back" another "$(cat "$MNT/disk2")"
ok "a helper that tries is replaced"
vcf_umount

vcf_mount -o mount.seccomp=off
equal "swapoff in the keeper" 2 "$(error_of "$VCF_PID" 'swapoff("/nowhere")')"
equal "unshare in the server" 0 "$(inside "$(server)" '(int)unshare(0)')"
cat "$MNT/disk" >"$W/read"
equal "unshare in the helper" 0 "$(inside "$(helper_pid)" '(int)unshare(0)')"
vcf_umount
ok "seccomp = off: done"

landlock() { # landlock_create_ruleset(2): which version
	python3 -c 'import ctypes, sys; sys.exit(ctypes.CDLL(None).syscall(444, None, 0, 1) <= 0)'
}

# A helper of its own, told what it needs to be ready.
alone() { # NAME OPTION=VALUE...
	local helper=$VCF_BUILD/crypto/keys/vmcryptfs-key-$1 pid o

	mkfifo "$W/in.$1"
	"$helper" <"$W/in.$1" >"$W/out.$1" 2>"$W/err.$1" &
	pid=$!
	exec 8>"$W/in.$1"
	for o in "${@:2}"; do
		echo "option ${o%%=*} ${o#*=}" >&8
	done
	echo ready >&8
	wait_for 30 grep -q '^ready' "$W/out.$1" || fail "$1: not ready: $(cat "$W/err.$1")"
	equal "$1: Seccomp" 2 "$(sed -n 's/^Seccomp:[[:space:]]*//p' "/proc/$pid/status")"
	! landlock || equal "a stranger's folder in $1" 13 "$(error_of "$pid" 'open("/var/tmp", 0)')"
	equal "unshare in $1" "" "$(inside "$pid" '(int)unshare(0)')"
	wait_for 30 pid_gone "$pid" || fail "$1 lives"
	grep -qE '^system call [0-9]+ \(unshare\) is refused' "$W/err.$1" || fail "$1: $(cat "$W/err.$1")"
	exec 8>&-
	ok "$1"
}

secret=0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef
umask 077
echo password >"$W/password"
alone file directory="$KEYS"
alone static secret=$secret
alone vault address=http://127.0.0.1:9 insecure-loopback=yes auth=token token-file="$W/password"
alone barbican auth-url=http://127.0.0.1:9/v3 insecure-loopback=yes username=u project-name=p \
	password-file="$W/password" user-domain-name=Default project-domain-name=Default
openssl req -x509 -newkey ed25519 -nodes -keyout "$W/key" -out "$W/cert" -days 2 -subj /CN=x 2>"$W/openssl.err"
alone kmip server=127.0.0.1:9 client-cert="$W/cert" client-key="$W/key"
