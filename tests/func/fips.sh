#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# With libgcrypt in its FIPS mode images are made, read and written as without: LUKS2 and LUKS1, encrypt and
# derived, and each mode reads what the other has written. (No claim that anything conforms to anything.)
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
need_fuse
need_prog python3
vcf_setup
vcf_config <<-CONFIG
	[rules]
	derived = *.derived
CONFIG

fips_active() {
	LIBGCRYPT_FORCE_FIPS_MODE=1 python3 - <<-PYTHON
		import ctypes, sys
		g = ctypes.CDLL("libgcrypt.so.20")
		g.gcry_check_version(None)
		sys.exit(0 if g.gcry_control(55, 0) else 1)  # GCRYCTL_FIPS_MODE_P
	PYTHON
}
need "a libgcrypt that can be put into its FIPS mode" fips_active

write_all() { # WHO
	local name

	for name in encrypt.img image.derived; do
		pattern 7 300001 >"$MNT/$1.$name"
	done
}

read_all() { # WHO
	local name

	for name in encrypt.img image.derived; do
		pattern 7 300001 | cmp - "$MNT/$1.$name" || fail "$1.$name"
	done
}

for type in luks2 luks1; do
	options=(-o format.type="$type")
	[ $type = luks2 ] || options+=(-o format.sector-size=512)
	VCF_WRAP=()
	vcf_mount "${options[@]}"
	write_all plain.$type
	vcf_umount
	VCF_WRAP=(env LIBGCRYPT_FORCE_FIPS_MODE=1)
	vcf_mount "${options[@]}"
	write_all fips.$type
	read_all plain.$type
	vcf_remount "${options[@]}"
	read_all fips.$type
	vcf_umount
	VCF_WRAP=()
	vcf_mount "${options[@]}"
	read_all fips.$type
	vcf_umount
	ok "$type: made, read and written in FIPS mode and outside of it"
done
