# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# leaks.lib.sh: sourced by tests of key services, behind func/lib.sh. Nothing that opens an image
# or a service may be found where others, or a thief of the disk, can read.

needle() { # NAME   what must not be found: standard input, and its hex and base64 forms
	local n=$W/needles/$1

	mkdir -p "$W/needles"
	cat >"$n.raw"
	xxd -p "$n.raw" | tr -d '\n' >"$n.hex"
	tr a-f A-F <"$n.hex" >"$n.HEX"
	base64 -w0 "$n.raw" >"$n.base64"
}

# The secret of an image, as the service gives it to the helper.
image_needle() { # NAME PROGRAM KEY-ID OPTION=VALUE...
	local name=$1

	shift
	/usr/bin/python3 - "$VCF_SRC/tests" "$@" <<-'PY' | needle "$name"
		import sys
		sys.dont_write_bytecode = True
		sys.path.insert(0, sys.argv[1])
		from helper_client import Helper
		options = [o.split("=", 1) for o in sys.argv[4:]]
		with Helper(sys.argv[2], options) as h:
		    sys.stdout.buffer.write(h.get(sys.argv[3]))
	PY
}

daemon_pids() { # the keeper, the server and the helpers
	local server

	server=$(vcf_status_get 's["server_pid"]')
	printf '%s\n' "$VCF_PID" "$(pgrep -P "$VCF_PID")" "$(pgrep -P "$server")" |
		tr ' ' '\n' | sed '/^$/d' | sort -nu
}

helper_pids_of() { # PROGRAM
	local pid

	for pid in $(daemon_pids); do
		[ "$(readlink "/proc/$pid/exe")" != "$(realpath "$1")" ] || echo "$pid"
	done
}

# The memory in a core file, without the notes: what vector registers still hold of the last copy
# is not looked at.
core_memory() { # CORE OUT
	/usr/bin/python3 - "$@" <<-'PY'
		import struct, sys
		core = open(sys.argv[1], "rb").read()
		start, = struct.unpack_from("<Q", core, 32)
		size, count = struct.unpack_from("<HH", core, 54)
		with open(sys.argv[2], "wb") as out:
		    for i in range(count):
		        kind, _, at, _, _, length = struct.unpack_from("<IIQQQQ", core, start + i * size)
		        if kind == 1:  # PT_LOAD
		            out.write(core[at:at + length])
	PY
}

# Looks everywhere while the mount is up and its helpers live. Nobody may use the mount
# meanwhile: a debugger stops the processes.
no_leaks() { # PROGRAM FILE...   the helper; more files to look into
	local pid fds=$W/open-files helper=$1

	shift
	[ -n "$(find "$W/needles" -type f)" ] || fail "nothing to look for"
	[ -n "$(helper_pids_of "$helper")" ] || fail "no helper lives"
	py absent "$W/needles" "$BACK" "$W/state" "$W/run" "$LOG" "$@"
	mkdir -p "$W/public"
	for pid in $(daemon_pids); do
		tr '\0' '\n' <"/proc/$pid/cmdline" >"$W/public/cmdline.$pid"
		tr '\0' '\n' <"/proc/$pid/environ" >"$W/public/environ.$pid"
		# What it has mapped or open that is a file on a disk.
		{
			awk '$6 ~ /^\// { print $6 }' "/proc/$pid/maps"
			find "/proc/$pid/fd" -type l -printf '%l\n' | grep '^/' || true
		} | sort -u | while read -r f; do
			[ ! -f "$f" ] || echo "$f"
		done
	done | sort -u | grep -vE '^(/dev/|/proc/)|\.so(\.|$)' >"$fds" || true
	"$VMCRYPTFS" status --json "$MNT" >"$W/public/status"
	while read -r f; do
		cp "$f" "$W/public/$(tr / _ <<<"$f")"
	done <"$fds"
	py absent "$W/needles" "$W/public"
	rm -rf "$W/public"
	mkdir -p "$W/dump"
	for pid in "$(vcf_status_get 's["server_pid"]')" $(helper_pids_of "$helper"); do
		gdb -q -batch -p "$pid" -ex "generate-core-file $W/dump/core.$pid" \
			>"$W/gdb.out" 2>&1 || true
		[ -s "$W/dump/core.$pid" ] || fail "no dump of $pid: $(tail -n 1 "$W/gdb.out")"
	done
	for pid in "$W"/dump/core.*; do
		core_memory "$pid" "$W/memory"
		[ -s "$W/memory" ] || fail "$pid has no memory"
		py absent "$W/needles" "$W/memory" ||
			fail "in the memory of $(readlink "/proc/${pid##*.}/exe")"
	done
	rm -rf "$W/dump"
}
