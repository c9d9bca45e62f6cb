#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# destroyer = controller: a host leaves what is due alone; another machine destroys it, by the
# inventories of all hosts, and its receipts close the entries.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
need_fuse
vcf_setup
sed -i "s|^\[key-service\]|site = here\n&\nreserve = 0\ndestroyer = controller|" "$CONF"
opts=(-o key-service.destroy-delay=0 -o key-service.linger=0)
vcf_mount "${opts[@]}"
# The controller has no mount.
cat >"$W/controller.conf" <<-CONFIG
	[mount]
	site = here
	[key-service]
	helper = file
	[file]
	directory = $KEYS
	[audit]
	file = $W/audit
CONFIG
chmod 600 "$W/controller.conf"

keys() { timeout 60 "$VMCRYPTFS" keys "$@"; }
code_of() { local rc=0; "$@" >"$W/stdout" 2>"$W/stderr" || rc=$?; echo $rc; }
HOST=$(uname -n)
inv() { keys inventory -c "$CONF" >"$W/$1"; }
reap() { # INVENTORY RECEIPTS
	keys reap -c "$W/controller.conf" --hosts "$HOST" "$W/$1" >"$W/$2" 2>"$W/sums"
}
waiting() { vcf_status_get 's["destroy_queue"]["waiting"]'; }

for f in a b copied spoiled later; do
	echo "content $f" >"$MNT/$f"
done
declare -A id
for f in a b copied spoiled later; do
	id[$f]=$(key_id_of "$BACK/$f")
done
cp "$BACK/copied" "$BACK/copy" # below the mount: it shares the secret
rm "$MNT/a" "$MNT/b" "$MNT/copied" "$MNT/spoiled"
sleep 1.5
equal "the host destroys nothing" "4 5" "$(waiting) $(find "$KEYS" -type f | wc -l)"
equal "status" controller "$(vcf_status_get 's["destroy_queue"]["destroyer"]')"
equal "refused without all hosts" 6 "$(code_of keys reap -c "$W/controller.conf" --hosts "$HOST,x" <(inv x; cat "$W/x"))"
ok "a host leaves them alone"

printf %064d 0 >"$KEYS/${id[spoiled]}"
inv one
keys restore-pending "$MNT" b 2>&1 >/dev/null | grep -q "still destroys" || fail "no word of warning"
rm "$MNT/later" # after the inventory
reap one receipts || fail "reap: $(cat "$W/sums")"
for event in fetched destroyed; do
	grep "\"event\":\"$event\"" "$W/audit" | grep "\"command\":\"keys reap\"" |
		grep "\"key_id\":\"${id[a]}\"" | grep -q '"path":"a"' || fail "no line: $event, in $(cat "$W/audit")"
done
equal "sums" "2 destroyed, 0 gone, 1 in-use, 1 suspect, 0 failed" "$(cat "$W/sums")"
[ ! -e "$KEYS/${id[a]}" ] || fail "a's secret is there"
[ -e "$KEYS/${id[copied]}" ] || fail "the secret of a copy was destroyed"
[ -e "$KEYS/${id[spoiled]}" ] || fail "a secret that does not fit was destroyed"
[ -e "$KEYS/${id[later]}" ] || fail "a secret that no inventory has was destroyed"
grep -q '"text":"service acknowledged"' "$W/receipts" || fail "receipts: $(cat "$W/receipts")"
ok "destroyed: what is due, fits and is used by nobody"

head -n -1 "$W/receipts" >"$W/cut"
equal "receipts that were cut" 6 "$(code_of keys reaped "$MNT" "$W/cut")"
equal "nothing is closed" 4 "$(waiting)"
expect_log 'spoiled: its secret .* is not destroyed'
equal "closed" "2 entries are closed, 1 are suspect now, 1 receipts close none here" \
	"$(keys reaped "$MNT" "$W/receipts")"
equal "twice" "0 entries are closed, 0 are suspect now, 4 receipts close none here" \
	"$(keys reaped "$MNT" "$W/receipts")"
equal "one waits" 1 "$(waiting)"
equal "the copy opens" "content copied" "$(cat "$MNT/copy")"
ok "receipts close the entries"

vcf_umount
inv two
reap two receipts2 || fail "reap: $(cat "$W/sums")"
equal "sums" "1 destroyed, 0 gone, 0 in-use, 0 suspect, 0 failed" "$(cat "$W/sums")"
reap two receipts3 || fail "reap again: $(cat "$W/sums")"
equal "sums" "0 destroyed, 1 gone, 0 in-use, 0 suspect, 0 failed" "$(cat "$W/sums")"
keys reaped -c "$CONF" "$W/receipts2" 2>/dev/null | grep -q "^1 entries" || fail "reaped without a daemon"
equal "a service that does not answer" 7 "$(code_of keys reap -o file.directory=/nonexistent \
	-o key-service.timeout=1 -c "$W/controller.conf" --hosts "$HOST" "$W/two")"
printf '#!/bin/sh\nexit 1\n' >"$W/ends"
chmod 755 "$W/ends"
begin=$SECONDS
equal "a helper that does not start" 7 "$(code_of keys reap -o key-service.helper="$W/ends" \
	-c "$W/controller.conf" --hosts "$HOST" "$W/two")"
[ $((SECONDS - begin)) -lt 20 ] || fail "it is repeated"
grep -q 'the key helper does not start: helper ended' "$W/stdout" || fail "no reason: $(cat "$W/stdout")"
ok "without a daemon; repeated"
