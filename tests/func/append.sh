#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# O_APPEND: a log written by several processes at once loses no line and tears none.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
need_fuse
vcf_setup
vcf_mount

for who in a b c d; do
	(for i in $(seq 500); do printf '%s %05d a line of the log\n' $who "$i"; done >>"$MNT/log") &
	pids+=($!)
done
wait "${pids[@]}"
equal "lines" 2000 "$(wc -l <"$MNT/log")"
equal "whole lines" 2000 "$(grep -cxE '[abcd] [0-9]{5} a line of the log' "$MNT/log")"
equal "different lines" 2000 "$(sort -u "$MNT/log" | wc -l)"
ok "four writers"

vcf_remount
echo "after the remount" >>"$MNT/log"
equal "last line" "after the remount" "$(tail -n 1 "$MNT/log")"
equal "lines" 2001 "$(wc -l <"$MNT/log")"
