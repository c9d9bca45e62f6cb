#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Helpers killed in the middle of 100 concurrent opens: each open ends right or with a
# documented errno; afterwards all open.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
need_fuse
vcf_setup
vcf_faulty_helper
vcf_mount
for i in $(seq 100); do
	echo "content $i" >"$MNT/f$i"
done
vcf_remount
expect_log 'helper|f[0-9]+:'

fault get delay=0.1
for i in $(seq 100); do
	(
		if cat "$MNT/f$i" >"$W/out.$i" 2>"$W/err.$i"; then
			grep -qx "content $i" "$W/out.$i"
		else
			grep -qE 'timed out|not available|rejected' "$W/err.$i"
		fi
	) &
	pids+=($!)
done
for _ in 1 2 3 4 5; do
	sleep 0.3
	for p in $(tail -n 4 "$HELPER/pids"); do
		grep -qs vmcryptfs-key-test "/proc/$p/cmdline" && kill -KILL "$p" 2>/dev/null || true
	done
done
bad=0
for p in "${pids[@]}"; do
	wait "$p" || bad=$((bad + 1))
done
equal "opens that ended wrong" 0 $bad
equal "opens" 100 "$(cat "$W"/out.* "$W"/err.* | wc -l)"
echo "$(cat "$W"/out.* | wc -l) opened, $(cat "$W"/err.* | wc -l) failed with a documented errno"
fault
for i in $(seq 100); do
	equal "content" "content $i" "$(cat "$MNT/f$i")"
done
ok "100 opens while helpers were killed"
