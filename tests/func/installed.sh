#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# What is installed around the program: man pages, completions and units know each command and each
# option; the places and modes of the files; an operator's configuration is not overwritten.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
[ -x "$VMCRYPTFS" ] || skip "needs $VMCRYPTFS (not built)"
W=$(mktemp -d "${VCF_TMPDIR:-/var/tmp}/vcf-$NAME.XXXXXX")
trap 'rm -rf "$W"' EXIT
contrib=$VCF_SRC/contrib
built=$VCF_BUILD/contrib

mapfile -t commands < <("$VMCRYPTFS" help | sed -n 's/^  \([a-z][a-z-]*\)  .*/\1/p')
[ ${#commands[@]} -ge 12 ] || fail "help lists ${#commands[@]} commands"
mapfile -t keys < <("$VMCRYPTFS" help config | sed -n 's/^  \([a-z-]*\) = .*/\1/p')
[ ${#keys[@]} -ge 40 ] || fail "help config lists ${#keys[@]} options"

options_of() { # COMMAND   the words of its help that begin with a dash
	"$VMCRYPTFS" help "$1" | grep -oE '(^|[^[:alnum:]_-])--?[a-z][a-z-]*' | grep -oE -- '-.*' | sort -u
}

in_page() { # FILE TEXT   as it is in roff's source
	local text=${2//-/\\-}

	grep -qF -- "$text" "$1" || fail "${1##*/} does not have $2"
}

man_pages() {
	local c o page

	for page in vmcryptfs.8 vmcryptfs.conf.5 vmcryptfs-keys.7; do
		[ -s "$built/man/$page" ] || fail "no man page $page in $built"
	done
	if grep -q 'lists them' "$built/man/vmcryptfs.8"; then
		echo "the program does not run where it is built: pages without its tables"
		return
	fi
	for c in "${commands[@]}"; do
		grep -qx ".SS $c" "$built/man/vmcryptfs.8" || fail "vmcryptfs(8) has no command $c"
		for o in $(options_of "$c"); do
			in_page "$built/man/vmcryptfs.8" "$o"
		done
	done
	for o in "${keys[@]}"; do
		in_page "$built/man/vmcryptfs.conf.5" ".B $o "
	done
	if command -v man >/dev/null && command -v groff >/dev/null; then
		for page in "$built"/man/*.[578]; do
			LC_ALL=C.UTF-8 MANROFFSEQ='' MANWIDTH=80 man --warnings -E UTF-8 -l -Tutf8 -Z "$page" \
				2>"$W/words" >/dev/null || fail "man: $(cat "$W/words")"
			[ ! -s "$W/words" ] || fail "${page##*/}: $(cat "$W/words")"
		done
	fi
	ok "man pages have ${#commands[@]} commands and ${#keys[@]} options"
}

offered() { # WORD...   what bash completes behind these words
	COMP_WORDS=("$VMCRYPTFS" "$@") COMP_CWORD=$#
	set +eu # as in anybody's shell
	_vmcryptfs 2>/dev/null
	set -eu
	printf '%s\n' "${COMPREPLY[@]}"
}

offered_zsh() { # WORD...
	zsh -f -c '
		compadd() { while [[ $1 != -- ]]; do shift; done; shift; print -l -- "$@" }
		_files() { }
		words=("${@:2}") CURRENT=$(($# - 1))
		. "$1" "$@"' completion "$contrib/completions/_vmcryptfs" "$VMCRYPTFS" "$@"
}

completion() { # FUNCTION
	local c o

	"$1" '' >"$W/offered"
	for c in "${commands[@]}"; do
		grep -qx -- "$c" "$W/offered" || fail "$1: no command $c"
	done
	for c in "${commands[@]}"; do
		"$1" "$c" - >"$W/offered"
		for o in $(options_of "$c"); do
			grep -qx -- "$o" "$W/offered" || fail "$1: $c has no $o"
		done
	done
	"$1" mount -o '' >"$W/offered"
	for o in mount.backing key-service.destroy-delay rules.bind escrow.public-key; do
		grep -qx -- "$o=" "$W/offered" || fail "$1: no setting $o"
	done
	"$1" keys '' >"$W/offered"
	grep -qx orphans "$W/offered" || fail "$1: keys has no orphans"
}

completions() {
	# shellcheck source=/dev/null
	. "$contrib/completions/vmcryptfs"
	completion offered
	if command -v zsh >/dev/null; then
		completion offered_zsh
	fi
	ok "completion offers each command, option and setting"
}

# In a folder that looks like a machine on which it is installed: verify looks for the programs.
units() {
	command -v systemd-analyze >/dev/null || return 0
	local u dir=$W/units

	mkdir "$dir"
	for u in 'vmcryptfs@' 'vmcryptfs-daemon@'; do
		sed -e "s|^\(Exec[A-Za-z]*=\)/[^ ]*/vmcryptfs/service|\1$built/systemd/service|" \
			-e "s|^ExecStart=/[^ ]*/vmcryptfs mount|ExecStart=$VMCRYPTFS mount|" \
			-e '/^Documentation=/s/ file:.*//' -e '/^Documentation=man/d' \
			"$built/systemd/$u.service" >"$dir/$u.service"
		ln -s "$u.service" "$dir/${u}x.service"
	done
	SYSTEMD_UNIT_PATH=$dir: systemd-analyze verify "$dir/vmcryptfs@x.service" \
		"$dir/vmcryptfs-daemon@x.service" >"$W/words" 2>&1 || fail "verify: $(cat "$W/words")"
	! grep vmcryptfs "$W/words" || fail "systemd-analyze verify has something to say"
	ok "systemd-analyze verify has nothing to say"
}

build_option() { # NAME
	meson introspect --buildoptions "$VCF_BUILD" |
		python3 -c 'import json,sys; print({o["name"]: o["value"] for o in json.load(sys.stdin)}[sys.argv[1]])' "$1"
}

mode() { # MODE PATH   below the folder of the installation
	equal "mode of $2" "$1" "$(stat -c %a "$W/root$2" 2>&1)"
}

installation() {
	local prefix etc

	prefix=$(build_option prefix)
	etc=$(build_option sysconfdir)
	[[ $etc = /* ]] || etc=$prefix/$etc
	DESTDIR=$W/root meson install -C "$VCF_BUILD" --no-rebuild >"$W/words" 2>&1 ||
		fail "meson install: $(cat "$W/words")"
	mode 755 "$prefix/sbin/vmcryptfs"
	mode 755 "$prefix/libexec/vmcryptfs/vmcryptfs-key-barbican"
	mode 755 "$prefix/libexec/vmcryptfs/service"
	mode 644 "$prefix/lib/systemd/system/vmcryptfs@.service"
	mode 644 "$prefix/lib/systemd/system/vmcryptfs-daemon@.service"
	mode 644 "$prefix/lib/sysusers.d/vmcryptfs.conf"
	mode 644 "$prefix/lib/tmpfiles.d/vmcryptfs.conf"
	mode 644 "$prefix/share/man/man8/vmcryptfs.8"
	mode 644 "$prefix/share/man/man5/vmcryptfs.conf.5"
	mode 644 "$prefix/share/man/man7/vmcryptfs-keys.7"
	mode 644 "$prefix/share/bash-completion/completions/vmcryptfs"
	mode 644 "$prefix/share/doc/vmcryptfs/operations.md"
	mode 644 "$etc/logrotate.d/vmcryptfs"
	mode 644 "$etc/vmcryptfs/nova.conf.example"
	echo "; mine" >"$W/root$etc/vmcryptfs/nova.conf.example"
	DESTDIR=$W/root meson install -C "$VCF_BUILD" --no-rebuild >/dev/null 2>&1 || fail "meson install"
	equal "an operator's file" "; mine" "$(cat "$W/root$etc/vmcryptfs/nova.conf.example")"
	ok "installed: places, modes; what an operator has changed stays"
}

man_pages
completions
units
need_prog meson
installation
