#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# All groups of nova.sh with disks of either format, and one table of what passed.
# usage: novatable.sh [FOLDER-FOR-THE-OUTPUT]
set -uo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
out=${1:-$(mktemp -d "${VCF_TMPDIR:-/var/tmp}/vcf-novatable.XXXXXX")}
[ $# = 1 ] || trap 'rm -rf "$out"' EXIT
failed=0
for group in create life guest move safe; do
	for format in raw qcow2; do
		begun=$SECONDS rc=0
		"$here/nova.sh" $group $format >"$out/$group-$format" 2>&1 || rc=$?
		[ $rc != 77 ] || { cat "$out/$group-$format"; exit 77; }
		grep -a '^ok' "$out/$group-$format"
		[ $rc = 0 ] || { failed=1; grep -av '^ok' "$out/$group-$format"; }
		echo "-- group $group $format: status $rc, $((SECONDS - begun)) s"
	done
done

declare -A parts=([02]=2 [03]=2 [08]=2 [10]=4) # lines of one operation
row() { # NUMBER NAME [FORMAT REASON]   a format for which there is no such operation, and why
	local n=$1 name=$2 not=${3:-} why=${4:-} result=() format

	for format in raw qcow2; do
		if [ "$format" = "$not" ]; then
			result+=("n.a.")
		elif [ "$(cat "$out"/*-$format | grep -acE "^ok $n [^:]* $format:")" -ge "${parts[$n]:-1}" ]; then
			result+=("pass")
		else
			result+=("FAIL")
			failed=1
		fi
	done
	printf '%-3s %-38s %-5s %-5s %s\n' "$n" "$name" "${result[@]}" "${why:+not applicable: $why}"
}
printf '%-3s %-38s %-5s %-5s\n' "" operation raw qcow2
row 01 "service start"
row 02 "create, raw" qcow2 "the disk is an overlay then, see 3"
row 03 "create, qcow2" raw "the disk is a copy then, see 2"
row 04 "ephemeral, swap, config drive, kernel"
row 05 "reboot, host boot"
row 06 "pause, suspend"
row 07 "rescue, unrescue"
row 08 "snapshot, cold and live"
row 09 "shelve, unshelve"
row 10 "cold migration, resize, revert"
row 11 "live block migration"
row 12 "live migration, shared storage"
row 13 "evacuate"
row 14 "delete"
row 15 "rebuild"
row 16 "attach, detach of volumes"
row 17 "image cache ageing"
row 18 "qemu-img info in use"
row 19 "discard"
row 20 "host crash"
row 21 "daemon dies, upgrade"
row 22 "key service outage"
row 23 "backup, theft"
row 24 "mount absent"
echo "below each: every file opened or written was searched for the marks while the operation ran,"
echo "the whole medium with its deleted blocks after each group (contrib/doc/nova.md says more)"
exit $failed
