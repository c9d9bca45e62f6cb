#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# What the kernel lets each process do: capabilities, their bounding set, no_new_privs, a filter of
# system calls. Of keeper, server and helpers, also after a death of the server and after an upgrade; and a helper with a user.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
need_fuse
need_root
need_prog pgrep
vcf_setup
helper=$VCF_BUILD/crypto/keys/vmcryptfs-key-file

# The numbers of linux/capability.h; the table in contrib/doc/security.md argues each.
declare -A CAP=([chown]=0 [dac_override]=1 [fowner]=3 [fsetid]=4 [kill]=5 [setgid]=6 [setuid]=7
	[setpcap]=8 [ipc_lock]=14 [sys_ptrace]=19 [sys_admin]=21 [sys_nice]=23 [sys_resource]=24
	[mknod]=27 [setfcap]=31)

mask() { # NAME...   as /proc/PID/status prints a set
	local name bits=0
	for name in "$@"; do
		bits=$((bits | 1 << CAP[$name]))
	done
	printf '%016x' $bits
}

field() { sed -n "s/^$2:[[:space:]]*//p" "$1/status"; } # FOLDER NAME

# What the test itself has not nobody can keep.
having() { printf '%016x' $((0x$1 & 0x$(field /proc/self CapPrm))); } # MASK

SERVER=$(having "$(mask chown dac_override fowner fsetid setgid setuid ipc_lock sys_admin \
	sys_nice mknod setfcap)")
KEEPER=$(having "$(mask chown dac_override fowner fsetid setgid setuid ipc_lock sys_admin \
	sys_nice mknod setfcap kill setpcap sys_ptrace sys_resource)")
HELPER=$(having "$(mask dac_override)")

# The sanitizers make calls of their own.
FILTERED=2
! grep -aqE '__(a|t)san_init' "$VMCRYPTFS" || FILTERED=0

look() { # WHAT PID MASK
	local task set

	for task in "/proc/$2"/task/*; do
		for set in CapPrm CapEff CapBnd; do
			equal "$1: $set of $task" "$3" "$(field "$task" $set)"
		done
		for set in CapInh CapAmb; do
			equal "$1: $set of $task" 0000000000000000 "$(field "$task" $set)"
		done
		equal "$1: NoNewPrivs of $task" 1 "$(field "$task" NoNewPrivs)"
		equal "$1: Seccomp of $task" $FILTERED "$(field "$task" Seccomp)"
	done
}

helper_pid() { pgrep -f -P "$VCF_PID" "^/.*/vmcryptfs-key-file\$" | head -n 1 || true; }

look_all() { # WHEN
	local pid server

	pid=$(helper_pid)
	server=$(vcf_status_get "s['server_pid']")
	[ -n "$pid" ] || fail "$1: no helper"
	look "$1: keeper" "$(vcf_status_get "s['keeper_pid']")" "$KEEPER"
	look "$1: server" "$server" "$SERVER"
	look "$1: helper" "$pid" "$HELPER"
	ok "$1: nobody has more than he uses"
}

vcf_mount
echo content >"$MNT/disk"
look_all "a new mount"

require_log 'killed by signal 9'
kill -9 "$(vcf_status_get "s['server_pid']")"
echo more >"$MNT/disk2"
equal "generation" 2 "$(vcf_status_get "s['generation']")"
look_all "after a death"

# A filter stays over execve(2), and there is room for some hundred: none is added for each upgrade.
filters() { awk '$1 == "Seccomp_filters:" { print $2 }' "/proc/$VCF_PID/status"; }
before=$(filters)
"$VMCRYPTFS" upgrade "$MNT" >"$W/upgrade.out"
equal "filters of the keeper" "$before" "$(filters)"
equal "generation" 3 "$(vcf_status_get "s['generation']")"
equal "read back" content "$(cat "$MNT/disk")"
echo third >"$MNT/disk3"
look_all "after an upgrade"
vcf_umount

# shellcheck disable=SC2016  # expands in the inner shell
if setpriv --reuid nobody --clear-groups bash -c 'test -x "$1"' - "$helper"; then
	chown -R nobody "$KEYS"
	sed -i "/^helper/a user = nobody" "$CONF"
	vcf_mount
	cat "$MNT/disk" "$MNT/disk2" >"$W/read"
	look "helper with a user" "$(helper_pid)" 0000000000000000
	vcf_umount
	ok "a helper with a user has none"
fi
