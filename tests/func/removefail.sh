#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# An unlink or a rename that fails below leaves all as it was: names, contents, secrets, and no
# intent in the journal.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
need_fuse
need_root
vcf_setup
now=(-o key-service.reserve=0 -o key-service.destroy-delay=0 -o key-service.linger=0
	-o 'rules.passthrough=plain/**')
vcf_mount "${now[@]}"
mkdir "$MNT/fixed" "$MNT/full" "$MNT/plain" "$MNT/dir"
for f in fixed/victim frozen source full/inner; do
	echo "content $f" >"$MNT/$f"
done
chattr +a "$BACK/fixed" && chattr +i "$BACK/frozen" || skip "needs chattr +a and +i"
at_exit "chattr -a $BACK/fixed; chattr -i $BACK/frozen"

as_before() { # WHAT
	local f

	sleep 1.2 # time for the queue, which must have nothing to do
	for f in fixed/victim frozen source full/inner; do
		equal "$1: $f" "content $f" "$(cat "$MNT/$f")"
	done
	equal "$1: secrets" 4 "$(find "$KEYS" -type f | wc -l)"
	equal "$1: destroy_queue" "0 0" "$(vcf_status_get "s['destroy_queue']['waiting'], s['suspects']" |
		tr -d '(),')"
	ok "$1"
}

must_fail_with "not permitted" rm -f "$MNT/fixed/victim"
as_before "unlink in an append-only folder"
must_fail_with "not permitted" rm -f "$MNT/frozen"
as_before "unlink of an immutable file"
must_fail_with "not permitted" mv -f "$MNT/source" "$MNT/fixed/victim"
as_before "rename over, in an append-only folder"
must_fail_with "not permitted" mv -f "$MNT/source" "$MNT/frozen"
as_before "rename over an immutable file"
must_fail_with "not permitted" py rename2 none "$MNT/frozen" "$MNT/source"
as_before "rename of an immutable file over another"
must_fail_with "directory" py rename2 none "$MNT/source" "$MNT/full"
must_fail_with "not empty" py rename2 none "$MNT/dir" "$MNT/full"
must_fail_with "ot a directory" py rename2 none "$MNT/dir" "$MNT/source"
must_fail_with "exists" py rename2 noreplace "$MNT/source" "$MNT/full/inner"
as_before "rename onto what it cannot replace"
must_fail_with "cross-device" py rename2 none "$MNT/source" "$MNT/plain/source"
as_before "rename into another class"
must_fail_with "No such" py rename2 none "$MNT/nothing" "$MNT/source"
as_before "rename of nothing"

chattr -a "$BACK/fixed"
chattr -i "$BACK/frozen"
vcf_remount "${now[@]}"
! grep -q 'deletion is cancelled' "$LOG" || fail "an intent was left in the journal"
as_before "after a remount"
