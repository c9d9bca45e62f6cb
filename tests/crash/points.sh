#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# The server dies at each crash point of each operation; the keeper starts the next one, and the
# program that waits must be told the right thing, and all must be as if nothing had happened.
# Needs a build with -Dcrash-points=true.
# usage: points.sh [--no-resend] [--all] [OPTION-OF-points.py]...
#   --no-resend  the daemon does not ask the kernel to repeat requests (VCF_NO_RESEND=1)
#   --all        all single walks and two minutes of pairs; at the end each point of the sources
#                was visited, or is excused below
# Without options: a minute; which walks fit into it is left to chance.
. "$(dirname "${BASH_SOURCE[0]}")/../func/lib.sh"
CRASH=$VCF_SRC/tests/crash
arguments=(--seconds 20 --pairs 15) names=no

while [ $# -gt 0 ]; do
	case $1 in
	--no-resend) export VCF_NO_RESEND=1 ;;
	--all)
		arguments+=(--seconds 0 --pairs 120)
		names=yes
		;;
	*) arguments+=("$1") ;;
	esac
	shift
done

# Points that no walk of ours can reach: where they are visited.
excuse() { # POINT
	case $1 in
	init-saved) echo "before the mount serves: walk.sh" ;;
	confirm-added) echo "a command of an operator: keys.sh" ;;
	device-*) echo "needs a block device: device.sh" ;;
	lock-* | append-noted) echo "on shared mounts alone, whose servers func-shared* kill" ;;
	replay-async) echo "of a record that lies in no worker's buffer: torture.sh, by chance" ;;
	newsecret-* | replace-* | reform-* | datacopy-* | outfile-*) echo "a command: reform.sh" ;;
	oldsecret-*) echo "a command: rekey.sh, reform.sh" ;;
	rekeyjob-* | rekeyer-*) echo "a command's request, where promotion does not pass it: rekey.sh" ;;
	shred-*) echo "a command: shred.sh" ;;
	backup-* | restore-*) echo "a command: func/header.sh" ;;
	repair-*) echo "a command: func/repair.sh" ;;
	holes-*) echo "a command: func/holes.sh" ;;
	*) return 1 ;;
	esac
}

check_names() {
	local name why

	for name in $(grep -rhoP 'CRASHPOINT\("\K[a-z-]+' "$VCF_SRC"/{util,crypto,fs} | sort -u); do
		[ "$name" != name ] || continue
		grep -qxF -- "$name" "$W/visited" && continue
		if why=$(excuse "$name"); then
			echo "not visited: $name ($why)"
		else
			echo "VIOLATION: no walk visits the point $name"
			bad=1
		fi
	done
}

need_fuse
need_root
grep -aq remove-intent "$VMCRYPTFS" || skip "needs a build with -Dcrash-points=true"
vcf_setup
expect_log 'the server \(pid [0-9]+, generation [0-9]+\) was killed by signal 9 with'
expect_log 'key.*(disk|file system)'
expect_log 'one copy of the header was damaged and is written anew'
ln -s "$KEYS" "$W/keys"
: >"$W/crash"
: >"$W/trace"
: >"$W/visited"
export VCF_CRASH_FILE=$W/crash VCF_CRASH_TRACE=$W/trace
options=(-o key-service.destroy-delay=0 -o key-service.linger=0
	-o 'rules.derived=**/*.part' -o 'rules.passthrough=**/*.pass')
vcf_mount "${options[@]}"
bad=0
python3 "$CRASH/points.py" "$W" "$VCF_PID" --visited "$W/visited" "${arguments[@]}" || bad=1
if [ $bad = 0 ]; then
	vcf_umount
	vcf_mount "${options[@]}"
	python3 "$CRASH/points.py" "$W" "$VCF_PID" --look || fail "secrets at the next mount"
fi
[ $names = no ] || check_names
[ $bad = 0 ] || fail "see above"
ok "all points"
