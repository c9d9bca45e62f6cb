#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# cryptsetup asks the key service by itself: with the token plugin, and no passphrase given, it opens what
# may be opened and says why not where it may not.
. "$(dirname "${BASH_SOURCE[0]}")/../func/lib.sh"
need_fuse
need_root
need_prog cryptsetup unshare
plugin=$VCF_BUILD/tests/interop/libcryptsetup-token-vmcryptfs.so
[ -e "$plugin" ] || skip "needs $plugin (not built)"
vcf_setup
vcf_faulty_helper
# Other than tests a plugin is loaded from one folder alone; in a mount namespace ours may be there.
mkdir "$W/tokens"
cp "$plugin" "$W/tokens/"

D=2097152
vcf_mount -o key-service.reserve=0
pattern 1 100000 >"$MNT/disk"
pattern 2 8192 >"$MNT/whole"
vcf_umount
folder=$(cryptsetup --debug luksDump "$BACK/disk" 2>&1 |
	sed -n 's,.*Trying to load \(/.*\)/libcryptsetup-token-vmcryptfs.so.*,\1,p' | head -n 1)
[ -n "$folder" ] && [ -d "$folder" ] || skip "needs a cryptsetup with a folder for plugins"

with_plugin() { # COMMAND...
	# shellcheck disable=SC2016
	unshare --mount --propagation private sh -c 'mount --bind "$1" "$2" && shift 2 && exec "$@"' - \
		"$W/tokens" "$folder" "$@" </dev/null
}
opens() { VMCRYPTFS_CONFIG=$CONF with_plugin cryptsetup open --test-passphrase --token-only "$@"; }
need "a mount namespace" with_plugin true

must_fail_with "its holes would read as noise; first 'vmcryptfs materialize'" opens "$BACK/disk"
before=$(sha256sum <"$BACK/whole")
"$VMCRYPTFS" materialize -c "$CONF" "$BACK/disk" "$BACK/whole" >/dev/null
: >"$HELPER/calls"
opens "$BACK/disk" || fail "the plugin does not open it"
opens --type luks2 "$BACK/whole" || fail "the plugin does not open it"
equal "asked for" 2 "$(helper_calls get)"
ok "opened, with no passphrase given"

with_plugin cryptsetup luksDump "$BACK/disk" | tr '\t' ' ' >"$W/dump"
grep -qE "Key id: *$(key_id_of "$BACK/disk")" "$W/dump" || fail "luksDump: $(cat "$W/dump")"
ok "luksDump shows the key id"

fault get denied
must_fail_with "no answer for the secret $(key_id_of "$BACK/disk") of service 'default': Key was rejected" \
	opens "$BACK/disk"
fault
secret=$HELPER/secrets/$(key_id_of "$BACK/disk")
mv "$secret" "$W/secret"
must_fail_with "there is no secret" opens "$BACK/disk"
cp "$HELPER/secrets/$(key_id_of "$BACK/whole")" "$secret"
must_fail_with "its secret does not open the key slot" opens "$BACK/disk"
mv "$W/secret" "$secret"
cp "$BACK/disk" "$BACK/changed"
py luks2_edit "$BACK/changed" '"created":"20' '"created":"19'
must_fail_with "its MAC or its volume key is wrong" opens "$BACK/changed"
must_fail_with "VMCRYPTFS_CONFIG" with_plugin env -u VMCRYPTFS_CONFIG cryptsetup open \
	--test-passphrase --token-only "$BACK/disk"
must_fail_with "is for cryptsetup's plugin" env VMCRYPTFS_CONFIG="$CONF" "$VMCRYPTFS" token-open "$BACK/disk"
[ ! -s "$W/stdout" ] || fail "a secret on standard output that is no pipe"
opens "$BACK/disk" || fail "the plugin does not open it again"
ok "refused, and why"

# What cryptsetup shows by it is what the mount shows.
if [ -c /dev/mapper/control ] && dmsetup targets 2>/dev/null | grep -q crypt; then
	name=vcf-tokenplugin-$$
	at_exit "cryptsetup close $name 2>/dev/null"
	VMCRYPTFS_CONFIG=$CONF with_plugin cryptsetup open --token-only "$BACK/whole" "$name"
	pattern 2 8192 | cmp -n 8192 - "/dev/mapper/$name" || fail "dm-crypt shows other bytes"
	cryptsetup close "$name"
	ok "dm-crypt shows the plaintext"
fi
[ "$before" != "$(sha256sum <"$BACK/whole")" ] || fail "materialize did nothing"
[ "$(stat -c %s "$BACK/whole")" = $((D + 8192)) ] || fail "the size"
