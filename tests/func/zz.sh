. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
vcf_setup
vcf_mount
for i in $(seq 100); do
(cd $W; fio --name=v --filename="$MNT/f" --size=1m --rw=randwrite --iodepth=8 --ioengine=libaio --direct=$((i%2)) --bs=4k --verify=crc32c --verify_fatal=1 --end_fsync=1 >fio.log 2>&1)
if ! "$VMCRYPTFS" umount "$MNT" 2>$W/uerr; then echo "$i: $(cat $W/uerr)"; fuser -vm "$MNT"; vcf_status | head -80; vcf_status_get 's["open_images"]' || true;
 for p in /proc/[0-9]*; do readlink $p/ns/mnt; done | sort | uniq -c; grep -l "$MNT" /proc/[0-9]*/mountinfo | wc -l
 ls -l /proc/[0-9]*/{cwd,root,exe} 2>/dev/null | grep "$MNT"; ls -l /proc/[0-9]*/fd/* 2>/dev/null | grep "$MNT"
 for k in 1 2 3 4 5 6 7 8 9 10; do sleep 1; "$VMCRYPTFS" umount "$MNT" && { echo "free after $k s"; break; }; done; fi
vcf_wait
vcf_mount
done
