#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# `metrics`: what it tells is what status says, by HTTP, by a Unix socket and as a file; others cannot reach
# it; a client that is slow or rude holds up nobody for long; it outlives the server and says that one is gone.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
need_fuse
need_prog python3 curl
expect_log 'was killed by signal 9'
vcf_setup
chmod 755 "$W/run"
PORT=$(python3 -c 'import socket; s=socket.socket(); s.bind(("127.0.0.1",0)); print(s.getsockname()[1])')
vcf_config <<-CONFIG
	[metrics]
	listen = 127.0.0.1:$PORT
	file = $W/vmcryptfs.prom
	interval = 1
	per-image = yes
	image-limit = 3
CONFIG
vcf_mount
awkward=$(printf 'a"b\\c\nd\033[2J\377')
for i in one two three four "$awkward"; do
	dd if=/dev/zero of="$MNT/$i" bs=4096 count=10 oflag=direct status=none
done
dd if=/dev/zero of="$MNT/$awkward" bs=4096 count=100 oflag=direct conv=notrunc status=none

for a in 0.0.0.0:$PORT 192.0.2.1:$PORT "[::]:$PORT" example.org:$PORT "$PORT" unix:relative; do
	must_fail "$VMCRYPTFS" metrics --listen "$a"
	grep -q "listen = " "$W/stderr" || fail "no words for $a: $(cat "$W/stderr")"
	must_fail "$VMCRYPTFS" check-config -o "metrics.listen=$a" "$CONF"
done
must_fail_with "other machines could reach it" "$VMCRYPTFS" metrics --listen "0.0.0.0:$PORT"
must_fail_with "where to?" "$VMCRYPTFS" metrics "$MNT"
ok "an address that others can reach is refused, with words"

start() { # ARGUMENT...
	"$VMCRYPTFS" metrics "$@" 2>"$W/exporter.err" &
	EXPORTER=$!
}
answers() { curl -sf -m 9 "http://127.0.0.1:$PORT/metrics" -o "$W/page"; }
value() { sed -n "s|^$1 ||p" "$W/page"; } # SERIES
m="mountpoint=\"$MNT\""

start -c "$CONF"
wait_for 30 answers || fail "nobody answers: $(cat "$W/exporter.err")"
equal "up" 1 "$(value "vmcryptfs_up{$m}")"
equal "keys" 5 "$(value "vmcryptfs_keys{$m}")"
equal "bytes" "$(vcf_status_get "s['io']['bytes_written']")" \
	"$(value "vmcryptfs_io_bytes_total{$m,direction=\"write\"}")"
equal "writes" "$(vcf_status_get "s['io']['writes']")" \
	"$(value "vmcryptfs_io_duration_seconds_bucket{$m,direction=\"write\",le=\"+Inf\"}")"
equal "images within the limit" 3 "$(grep -c '^vmcryptfs_image_opens{' "$W/page")"
equal "images beyond" 2 "$(value "vmcryptfs_images_omitted{$m}")"
grep -qF 'image="a\"b\\c\nd'$'\033''[2J\\xff"' "$W/page" || fail "the awkward name: $(grep -a image_opens "$W/page")"
curl -sI -m 5 "http://127.0.0.1:$PORT/metrics" -X GET | grep -qi '^content-type: text/plain; version=0.0.4' || fail "type"
equal "elsewhere" 404 "$(curl -s -m 5 -o /dev/null -w '%{http_code}' "http://127.0.0.1:$PORT/x")"
equal "another method" 405 "$(curl -s -m 5 -o /dev/null -w '%{http_code}' -d x "http://127.0.0.1:$PORT/metrics")"
for f in grafana/vmcryptfs.json prometheus/alerts.yml; do
	grep -oE 'vmcryptfs_[a-z_]+' "$VCF_SRC/contrib/$f" | sort -u >"$W/names"
	"$VMCRYPTFS" metrics --list | awk '{print $1; if ($2 == "histogram") print $1 "_bucket\n" $1 "_sum\n" $1 "_count"}' |
		sort -u | comm -13 - "$W/names" >"$W/unknown"
	[ ! -s "$W/unknown" ] || fail "$f has metrics that there are not: $(cat "$W/unknown")"
done
ok "a scrape has what status has, and dashboard and rules name nothing else"

wait_for 30 grep -q "^vmcryptfs_up{$m} 1" "$W/vmcryptfs.prom" || fail "no file"
equal "its mode" 644 "$(stat -c %a "$W/vmcryptfs.prom")"
ino=$(stat -c %i "$W/vmcryptfs.prom")
wait_for 30 eval "[ \"\$(stat -c %i '$W/vmcryptfs.prom')\" != $ino ]" || fail "the file is not written again"
ok "a text file, replaced every second"

exec 9<>"/dev/tcp/127.0.0.1/$PORT" # says nothing
exec 8<>"/dev/tcp/127.0.0.1/$PORT"
printf 'GET /metrics HTTP/1.1\r\n' >&8 # and one that does not end
begun=$SECONDS
wait_for 30 answers || fail "a silent client holds up the others"
[ $((SECONDS - begun)) -lt 20 ] || fail "for $((SECONDS - begun)) s"
exec 9>&- 8>&-
ok "silent clients are dropped"

server=$(vcf_status_get "s['server_pid']")
kill -STOP "$server"
stopped() { answers && [ "$(value "vmcryptfs_up{$m}")$(value "vmcryptfs_mounted{$m}")" = 01 ]; }
wait_for 20 stopped || fail "a server that hangs is not told"
kill -CONT "$server"
ok "a server that hangs holds up nobody, and is up 0"

gen=$(vcf_status_get "s['generation']")
kill -KILL "$(vcf_status_get "s['server_pid']")"
wait_for 30 eval "answers && [ \"\$(value 'vmcryptfs_server_deaths_total{$m}')\" = 1 ]" || fail "the death is not told"
equal "up after it" 1 "$(value "vmcryptfs_up{$m}")"
equal "generation" $((gen + 1)) "$(value "vmcryptfs_server_generation{$m}")"
ok "it goes on with the next server"

kill "$EXPORTER"
wait "$EXPORTER" || fail "its exit status"
[ ! -e "$W/vmcryptfs.prom" ] || fail "the file stays"
start --listen "unix:$W/run/metrics" "$MNT"
wait_for 30 curl -sf --unix-socket "$W/run/metrics" http://x/metrics -o "$W/page" || fail "unix: $(cat "$W/exporter.err")"
equal "up" 1 "$(value "vmcryptfs_up{$m}")"
! grep -q '^vmcryptfs_image_' "$W/page" || fail "images without being asked for"
equal "the socket's mode" 660 "$(stat -c %a "$W/run/metrics")"
must_fail_with "in use" "$VMCRYPTFS" metrics --listen "unix:$W/run/metrics"
vcf_umount
gone() {
	curl -sf --unix-socket "$W/run/metrics" http://x/metrics -o "$W/page" &&
		[ "$(value "vmcryptfs_up{$m}")$(value "vmcryptfs_mounted{$m}")" = 00 ]
}
wait_for 30 gone || fail "an absent mount is not told"
kill -KILL "$EXPORTER"
wait_for 10 pid_gone "$EXPORTER"
start --listen "unix:$W/run/metrics" "$MNT" # over the socket that the dead one left
wait_for 30 gone || fail "no new one: $(cat "$W/exporter.err")"
kill "$EXPORTER"
wait "$EXPORTER" || fail "its exit status"
[ ! -e "$W/run/metrics" ] || fail "the socket stays"
ok "a Unix socket; a mount that is gone is up 0"
