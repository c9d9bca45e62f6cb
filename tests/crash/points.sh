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

# Points that no walk of ours can reach, and why.
declare -A excused=(
	[init-saved]="before the mount serves: walk.sh"
	[confirm-added]="a command of an operator: keys.sh"
	[oldsecret-noted]="a command: rekey.sh"
	[oldsecret-gone]="likewise"
	[oldsecret-queued]="likewise"
	[newsecret-creating]="a command of an operator: reform.sh"
	[newsecret-made]="likewise"
	[newsecret-undone]="likewise"
	[replace-made]="likewise"
	[replace-noted]="likewise"
	[replace-emptied]="likewise"
	[replace-exchanged]="likewise"
	[replace-synced]="likewise"
	[replace-wiping]="likewise"
	[replace-unlinked]="likewise"
	[replace-durable]="likewise"
	[replace-done]="likewise"
	[replace-undone]="likewise"
	[reform-copied]="likewise"
	[reform-verified]="likewise"
	[datacopy-piece]="likewise"
	[outfile-made]="likewise"
	[outfile-synced]="likewise"
	[oldsecret-destroyed]="likewise"
	[shred-noted]="a command: shred.sh"
	[shred-wiped]="likewise"
	[shred-destroyed]="likewise"
	[shred-told]="likewise"
	[shred-removed]="likewise"
	[device-filled]="needs a block device: device.sh"
	[device-claimed]="likewise"
	[backup-written]="commands on images that nobody has open: func/header.sh, repair.sh, holes.sh"
	[backup-named]="likewise"
	[restore-begin]="likewise"
	[restore-body]="likewise"
	[restore-second]="likewise"
	[restore-first]="likewise"
	[repair-kept]="likewise"
	[repair-tail]="likewise"
	[holes-filled]="likewise"
	[holes-punched]="likewise"
)

check_names() {
	local name

	for name in $(grep -rhoP 'CRASHPOINT\("\K[a-z-]+' "$VCF_SRC"/{util,crypto,fs} | sort -u); do
		[ "$name" != name ] || continue
		grep -qxF -- "$name" "$W/visited" && continue
		if [ -n "${excused[$name]:-}" ]; then
			echo "not visited: $name (${excused[$name]})"
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
