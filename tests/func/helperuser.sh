#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# [key-service] user: the helper runs as that user, without other groups, capabilities or
# descriptors, and outlives its server; a user that does not exist is named.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
need_fuse
need_root
need "a user nobody" id nobody
vcf_setup
helper=$VCF_BUILD/crypto/keys/vmcryptfs-key-file
# shellcheck disable=SC2016  # expands in the inner shell
need "a build folder that others may enter" setpriv --reuid nobody --clear-groups \
	bash -c 'test -x "$1"' - "$helper"
chown -R nobody "$KEYS"
sed -i "/^helper/a user = nobody" "$CONF"
require_log 'killed by signal 9'

helper_pids() { pgrep -u nobody -f "^/.*/vmcryptfs-key-file\$"; }

field() { # PID NAME
	sed -n "s/^$2:[[:space:]]*//p" "/proc/$1/status"
}

vcf_mount
echo content >"$MNT/disk"
pid=$(helper_pids | head -n 1)
[ -n "$pid" ] || fail "no helper runs as nobody"
uid=$(id -u nobody)
equal "uids" "$uid $uid $uid $uid" "$(field "$pid" Uid | tr '\t' ' ')"
equal "groups" "" "$(field "$pid" Groups | tr -d ' ')"
for set in CapInh CapPrm CapEff CapAmb; do
	equal "$set" 0000000000000000 "$(field "$pid" $set)"
done
equal "no new privileges" 1 "$(field "$pid" NoNewPrivs)"
equal "a secret's owner" nobody "$(stat -c %U "$KEYS"/*-* | sort -u)"
ok "the helper is nobody"

kill -9 "$(vcf_status_get "s['server_pid']")"
echo more >"$MNT/disk2"
equal "generation" 2 "$(vcf_status_get "s['generation']")"
equal "read back" content "$(cat "$MNT/disk")"
equal "the helper of before" "$pid" "$(helper_pids | head -n 1)"
ok "it outlives its server"
vcf_umount

# A script, so that it is no wall of our own helpers that keeps files from it.
mkdir -m 500 "$W/credentials"
echo sealed >"$W/credentials/token"
chmod 400 "$W/credentials/token"
mkdir "$W/program"
cat >"$W/program/script" <<SCRIPT
#!/bin/bash
cd "\$CREDENTIALS_DIRECTORY"
echo "\$(id -un) has \$(cat token) \$(stat -c '%U:%a' . token | tr '\n' ' ')" >&2
touch token new 2>/dev/null && echo "can write" >&2
exec "$helper"
SCRIPT
chmod 755 "$W/program/script"
sed -i "s|^helper = .*|helper = $W/program/script|" "$CONF"
sed -i 's|^\[file\]|[script]|' "$CONF"
export CREDENTIALS_DIRECTORY=$W/credentials
if unshare -m true; then
	vcf_mount
	equal "read back" content "$(cat "$MNT/disk")"
	vcf_umount
	grep -aq 'nobody has sealed nobody:500 nobody:400' "$LOG" ||
		fail "no credentials: $(grep -a 'key service' "$LOG")"
	! grep -aq 'can write' "$LOG" || fail "it can write there"
	equal "the unit's own" "root:400 sealed" "$(stat -c %U:%a "$W/credentials/token") $(cat "$W/credentials/token")"
	ok "systemd's credentials reach it, as its own"
fi
unset CREDENTIALS_DIRECTORY

sed -i "s/^user = .*/user = vcf-no-such-user/" "$CONF"
must_fail_with 'user = vcf-no-such-user: there is no such user' "$VMCRYPTFS" mount "$CONF"
ok "an unknown user is named"
