#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# tests/bench/run still measures: two contestants, two rows, some tenths of a second.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
need_fuse
need_prog fio python3 mkfs.ext4

run=$VCF_SRC/tests/bench/run
W=$(mktemp -d "${VCF_TMPDIR:-/var/tmp}/vcf-bench-test.XXXXXX")
trap 'rm -rf "$W"' EXIT

VMCRYPTFS=$VMCRYPTFS "$run" --peers plain,vmcryptfs --rows randread32,mkfs --rounds 2 \
	--seconds 0.2 --size 16 --backing "$W" --json "$W/json" --chart "$W/svg" >"$W/out" 2>"$W/err" ||
	fail "the benchmark: $(tail -n 3 "$W/err")"
python3 - "$W/json" <<-'PY' || fail "results: $(cat "$W/err")"
	import json, sys
	found = json.load(open(sys.argv[1]))
	got = {(r["row"], r["contestant"]): r for r in found["results"]}
	assert len(got) == 4 and not found["failed"], (list(got), found["failed"])
	assert all(r["rounds"] == 2 and r["median"] > 0 for r in got.values())
	assert got["randread32", "vmcryptfs"]["cpu_s_per_gib"] > 0
PY
grep -q '^| 4 KiB random read, QD32, IOPS | ' "$W/out" || fail "no table: $(cat "$W/out")"
grep -q 'not measured' "$W/out" || fail "no summary of what must be shown"
python3 -c 'import sys, xml.dom.minidom as x; x.parse(sys.argv[1])' "$W/svg" || fail "the chart"
ok "tables, JSON and chart of two contestants"

"$run" --peers plain,nobody 2>"$W/err" && fail "an unknown contestant is taken"
grep -q nobody "$W/err" || fail "the unknown contestant is not named"
ls -d "$W"/vcf-bench.* 2>/dev/null && fail "folders stay behind"
grep -F " $W/" /proc/self/mountinfo && fail "mounts stay behind"
ok "nothing stays behind"
