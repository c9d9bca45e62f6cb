#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Every option is in tests/switches, for tuning or not; and a short look at each set: random
# operations agree with a plain file's. All tests with each set: tests/run --switches.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
need_fuse
table=$VCF_SRC/tests/switches

options() { # the names of [mount] and [key-service]
	"$VMCRYPTFS" help config | awk '/^\[/ { section = substr($1, 2, length($1) - 2) }
		(section == "mount" || section == "key-service") && /^  [a-z]/ { print section "." $1 }'
}
missing=$(options | while read -r option; do
	grep -E '^(set|fixed) ' "$table" | grep -qE " $option(=| |\$)" || echo "$option"
done)
[ -n "$(options)" ] || fail "no option in the help"
[ -z "$missing" ] || fail "neither tuned nor fixed in tests/switches: $missing"
while read -r word _ name _; do
	[ "$word" != except ] || compgen -G "$VCF_SRC/tests/*/$name.sh" >/dev/null || fail "no test $name"
done <"$table"
ok "each option"

while read -r word name settings; do
	[ "$word" = set ] || continue
	VCF_SWITCHES=$settings bash "$FUNC/model.sh" 1500 >/dev/null || fail "$name: $settings"
	ok "$name: $settings"
done <"$table"
