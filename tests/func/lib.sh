# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# lib.sh: sourced by every functional and interop test.
#
# A test looks like this:
#	. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
#	need_fuse
#	vcf_setup
#	vcf_mount
#	...            $MNT is the plain view, $BACK what lies below
#	ok "what was shown"
# Everything else happens at exit: unmount (which must be clean), a look at the daemon's log
# (any warn or err line that the test did not announce with expect_log fails it, so does any
# sanitizer's report), and removal of the test's folder.
#
# Exit status: 0 passed, 77 skipped with a reason, anything else failed.
# Environment: VMCRYPTFS the program; VCF_BUILD the build folder; VCF_TMPDIR where test folders
# go (a file system with O_DIRECT and xattrs; default /var/tmp); VCF_KEEP=1 keeps them;
# VCF_SWITCHES settings for each mount that the test does not make itself (tests/switches);
# CI=true makes a skip a failure unless tests/ci-may-skip names the test.
set -euo pipefail
umask 022

VCF_SRC=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
VCF_BUILD=${VCF_BUILD:-$VCF_SRC/build}
VMCRYPTFS=${VMCRYPTFS:-$VCF_BUILD/fs/vmcryptfs}
FUNC=$VCF_SRC/tests/func
NAME=$(basename "$0" .sh)
PATH=$PATH:/usr/sbin:/sbin
export LC_ALL=C

W='' KEYS='' MNT='' BACK='' LOG='' CONF='' HELPER='' VCF_PID=''
EXPECTED_LOG=() REQUIRED_LOG=() VCF_WRAP=() AT_EXIT=() SWITCHES=()

ok() { echo "ok: $*"; }

fail() {
	echo "FAIL: $*" >&2
	exit 1
}

skip() {
	echo "skip: $*"
	if [ "${CI:-}" = true ] && ! grep -qxF "$NAME" "$VCF_SRC/tests/ci-may-skip"; then
		echo "FAIL: skipped in CI, and tests/ci-may-skip does not name $NAME" >&2
		exit 1
	fi
	exit 77
}

need_root() { [ "$(id -u)" = 0 ] || skip "needs root"; }

need_prog() { # PROGRAM...
	local p
	for p in "$@"; do
		command -v "$p" >/dev/null || skip "needs the program $p"
	done
}

need() { # REASON COMMAND...   gate on a feature by trying it
	local why=$1
	shift
	"$@" >/dev/null 2>&1 || skip "needs $why"
}

need_fuse() {
	[ -x "$VMCRYPTFS" ] || skip "needs $VMCRYPTFS (not built)"
	[ -c /dev/fuse ] || skip "needs /dev/fuse"
	need "a /dev/fuse that opens" bash -c 'exec 9<>/dev/fuse'
	[ "$(id -u)" = 0 ] || need_prog fusermount3
}

# A command that must fail; its stderr goes to $W/stderr.
must_fail() { # COMMAND...
	if "$@" 2>"$W/stderr" >"$W/stdout"; then
		fail "succeeded but should not: $*"
	fi
}

# A command that must fail with the text of an errno.
must_fail_with() { # TEXT COMMAND...
	local text=$1
	shift
	must_fail "$@"
	grep -qF -- "$text" "$W/stderr" || fail "$*: wanted '$text', got: $(cat "$W/stderr")"
}

equal() { # WHAT WANTED GOT
	[ "$2" = "$3" ] || fail "$1: wanted '$2', got '$3'"
}

wait_for() { # SECONDS COMMAND...   polls ten times a second
	local end=$((SECONDS + $1))
	shift
	until "$@" >/dev/null 2>&1; do
		[ $SECONDS -lt $end ] || return 1
		sleep 0.1
	done
}

at_exit() { AT_EXIT+=("$1"); } # a shell command for after the unmount

# This line may (must) be in the daemon's log; extended regular expressions.
expect_log() { EXPECTED_LOG+=("$1"); }
require_log() { EXPECTED_LOG+=("$1") REQUIRED_LOG+=("$1"); }

# Makes the test's folder: $W with $BACK, $MNT, state, run, log and a configuration $CONF;
# $KEYS (in memory) for the `file` helper.
vcf_setup() {
	trap vcf_exit EXIT
	trap 'exit 130' INT
	trap 'exit 143' TERM
	W=$(mktemp -d "${VCF_TMPDIR:-/var/tmp}/vcf-$NAME.XXXXXX")
	chmod 711 "$W"
	BACK=$W/back MNT=$W/mnt LOG=$W/log CONF=$W/vmcryptfs.conf
	mkdir -m 755 "$BACK" "$MNT"
	mkdir -m 700 "$W/state" "$W/run"
	: >"$LOG"
	export VMCRYPTFS_RUNTIME_DIRECTORY=$W/run
	if [ -d /dev/shm ] && [ -w /dev/shm ]; then
		KEYS=$(mktemp -d "/dev/shm/vcf-$NAME.XXXXXX")
	else
		KEYS=$W/keys
		mkdir -m 700 "$KEYS"
		expect_log 'key.*(disk|file system)'
	fi
	cat >"$CONF" <<-CONFIG
		[mount]
		backing = $BACK
		mountpoint = $MNT
		state-directory = $W/state
		runtime-directory = $W/run
		guard = no
		[key-service]
		helper = file
		[file]
		directory = $KEYS
	CONFIG
	chmod 600 "$CONF"
}

# Uses tests/func/helper.py instead of the `file` helper; its folder is $HELPER.
vcf_faulty_helper() {
	HELPER=$W/helper
	mkdir -m 700 "$HELPER"
	install -m 755 "$FUNC/helper.py" "$HELPER/vmcryptfs-key-test"
	sed -i "s|^helper = .*|helper = $HELPER/vmcryptfs-key-test|; /^\[file\]/,\$d" "$CONF"
}

fault() { # [VERB FAULT]   from now on; without arguments: none
	if [ $# = 0 ]; then
		rm -f "$HELPER/faults"
	else
		echo "$1 $2" >"$HELPER/faults.new"
		mv "$HELPER/faults.new" "$HELPER/faults"
	fi
}

helper_calls() { grep -c "^$1" "$HELPER/calls" 2>/dev/null || true; } # PREFIX

vcf_config() { cat >>"$CONF"; } # appends standard input to the configuration

switch_excepted() { # SETTING
	local word setting test why

	while read -r word setting test why; do
		# shellcheck disable=SC2053  # patterns
		if [ "$word" = except ] && [[ $1 == $setting && $NAME == $test ]]; then
			echo "without $1: $why"
			return 0
		fi
	done <"$VCF_SRC/tests/switches"
	return 1
}

# SWITCHES: mount options of VCF_SWITCHES, in front of the test's own; what its configuration has wins.
vcf_switches() {
	local setting option

	SWITCHES=()
	for setting in ${VCF_SWITCHES:-}; do
		option=${setting#*.}
		grep -qE "^${option%%=*} *=" "$CONF" || switch_excepted "$setting" ||
			SWITCHES+=(-o "$setting")
	done
}

is_mounted() { grep -qF " $MNT " /proc/self/mountinfo; } # also when nobody serves it

mounted_or_gone() { is_mounted || ! kill -0 "$VCF_PID"; }

# Starts the daemon in the foreground mode and waits until the mount answers. Its process is
# $VCF_PID; its exit status will be in $W/daemon.rc.
vcf_mount() { # [MOUNT-OPTION...]
	vcf_try_mount "$@" && is_mounted || fail "the daemon did not mount; its log: $(tail -n 20 "$LOG")"
}

vcf_try_mount() {
	rm -f "$W/daemon.pid" "$W/daemon.rc"
	vcf_switches
	(
		trap - EXIT
		"${VCF_WRAP[@]}" "$VMCRYPTFS" mount -f "${SWITCHES[@]}" "$@" "$CONF" >>"$LOG" 2>&1 &
		echo $! >"$W/daemon.pid"
		rc=0
		wait $! || rc=$?
		echo $rc >"$W/daemon.rc"
	) &
	wait_for 5 test -s "$W/daemon.pid"
	VCF_PID=$(cat "$W/daemon.pid")
	wait_for 60 mounted_or_gone || fail "no mount after 60 s"
	is_mounted || return "$(vcf_rc)"
}

vcf_rc() { # the exit status of the daemon, which is ending
	wait_for 60 test -s "$W/daemon.rc" || fail "the daemon did not end within 60 s"
	cat "$W/daemon.rc"
}

pid_gone() { ! kill -0 "$1"; }

# Waits for the daemon to end and demands status 0.
vcf_wait() { equal "the daemon's exit status" 0 "$(vcf_rc)"; }

vcf_umount() {
	"$VMCRYPTFS" umount "$MNT" || fail "umount"
	! is_mounted || fail "still mounted after umount"
	vcf_wait
}

vcf_remount() {
	vcf_umount
	vcf_mount "$@"
}

vcf_status() { "$VMCRYPTFS" status --json "$MNT"; }

# One value of `status --json`: a Python expression over the object `s`.
vcf_status_get() { # EXPRESSION
	vcf_status | python3 -c "import json,sys; s=json.load(sys.stdin); print($1)"
}

# The key id in a container's token.
key_id_of() { # BACKING-FILE
	"$VMCRYPTFS" info --json "$1" | python3 -c 'import json,sys; print(json.load(sys.stdin)["key_id"])'
}

# Random but repeatable bytes.
pattern() { py pattern "$1" "$2"; } # SEED BYTES

same() { cmp -s "$1" "$2" || fail "differ: $1 $2: $(cmp "$1" "$2" 2>&1)"; }

py() { # TOOL ARGUMENT...     tests/func/calls.py
	python3 "$FUNC/calls.py" "$@"
}

check_log() {
	local bad re

	if grep -aE 'ERROR: (Address|Leak)Sanitizer|WARNING: ThreadSanitizer|runtime error:|Assertion .* failed' "$LOG"
	then
		fail "a sanitizer or an assertion spoke"
	fi
	bad=$(grep -aE '\] (warn|err): |is refused \(seccomp\)' "$LOG" || true)
	for re in "${EXPECTED_LOG[@]}"; do
		bad=$(grep -avE -- "$re" <<<"$bad" || true)
	done
	[ -z "$bad" ] || fail "unexpected in the daemon's log:"$'\n'"$bad"
	for re in "${REQUIRED_LOG[@]}"; do
		grep -aqE -- "$re" "$LOG" || fail "missing in the daemon's log: $re"
	done
}

# The last checks of a test that went well so far.
vcf_finish() {
	! is_mounted || vcf_umount
	check_log
}

# Whatever is left: lazily unmounted, ended, removed.
vcf_sweep() {
	local p

	cd /
	[ -z "$MNT" ] || ! is_mounted || umount -l "$MNT" 2>/dev/null ||
		fusermount3 -u -z "$MNT" 2>/dev/null || true
	for p in $(cat "$W/daemon.pid" 2>/dev/null) $(jobs -p); do
		kill "$p" 2>/dev/null || continue
		wait_for 5 pid_gone "$p" || kill -KILL "$p" 2>/dev/null || true
	done
	for p in "${AT_EXIT[@]}"; do
		eval "$p" || true
	done
	[ -z "$KEYS" ] || [ "${VCF_KEEP:-}" = 1 ] || rm -rf "$KEYS"
	if [ -n "$W" ] && [ "${VCF_KEEP:-}" != 1 ] && ! is_mounted; then
		rm -rf --one-file-system "$W"
	fi
}

vcf_exit() {
	local rc=$?

	trap '' INT TERM
	trap - EXIT
	set +e
	cd / # the shell itself must not keep the mount busy
	if [ $rc = 0 ]; then
		(set -e; vcf_finish)
		rc=$?
	fi
	if [ $rc != 0 ] && [ $rc != 77 ]; then
		echo "--- the daemon's log (last lines)" >&2
		[ -z "$LOG" ] || tail -n 40 "$LOG" >&2
	fi
	vcf_sweep
	exit $rc
}
