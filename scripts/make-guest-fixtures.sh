#!/bin/sh
# Makes the lab's guest disks, small partitioned images with real file systems, without root: test/golden/guest-disks/{ext4,ntfs}.fixture.gz
# Needs: sfdisk (fdisk), mkfs.ext4 and debugfs (e2fsprogs), mkntfs and ntfscp (ntfs-3g), python3, node. Prints the list of files with digests.
set -eu
here=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
out=$here/test/golden/guest-disks
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
PATH=$here/node_modules/.bin:$PATH:/usr/sbin:/sbin
export SOURCE_DATE_EPOCH=1735689600 E2FSPROGS_FAKE_TIME=1735689600
mkdir -p "$out" "$work/tree/etc" "$work/tree/home/admin/docs" "$work/tree/var/log"

printf 'lab-guest\n' > "$work/tree/etc/hostname"
printf 'NAME="Lab Linux"\nVERSION_ID="1"\n' > "$work/tree/etc/os-release"
printf 'Umlaut and blank in the name.\n' > "$work/tree/home/admin/docs/Übung eins.txt"
python3 - "$work/tree/var/log/messages" "$work/tree/home/admin/docs/random.bin" <<'PY'
import random, sys
random.seed(4711)
with open(sys.argv[1], 'w') as log:
    for n in range(8000):
        log.write('Jan  1 00:%02d:%02d lab-guest daemon[%d]: event %d of the night\n' % (n // 60 % 60, n % 60, random.randrange(9999), n))
with open(sys.argv[2], 'wb') as data:
    data.write(bytes(random.randrange(256) for _ in range(150000)))
PY
ln -s ../../../etc/hostname "$work/tree/home/admin/docs/link"
find "$work/tree" -exec touch -h -d @1735689600 {} +

# GPT, one ext4 partition of 56 MiB from 1 MiB on, in a disk of 64 MiB.
truncate -s 56M "$work/ext4.part"
mkfs.ext4 -q -F -L labroot -U 6f1d2c3b-0001-4000-8000-0000000000e4 -E lazy_itable_init=0,hash_seed=6f1d2c3b-0001-4000-8000-0000000000e4 \
  -O ^metadata_csum_seed -J size=4 -d "$work/tree" "$work/ext4.part"
truncate -s 64M "$work/ext4.img"
sfdisk -q "$work/ext4.img" <<'PT'
label: gpt
label-id: 6F1D2C3B-0000-4000-8000-000000000001
start=2048, size=114688, type=0FC63DAF-8483-4772-8E79-3D69D8477DE4, uuid=6F1D2C3B-0000-4000-8000-000000000002, name=root
PT
dd if="$work/ext4.part" of="$work/ext4.img" bs=1M seek=1 conv=notrunc,sparse status=none

# MBR, one NTFS partition of 40 MiB from 1 MiB on, in a disk of 48 MiB.
truncate -s 40M "$work/ntfs.part"
mkntfs -q -F -Q -L labdata -s 512 -p 2048 -H 255 -S 63 "$work/ntfs.part" > /dev/null 2>&1
ntfscp -q "$work/ntfs.part" "$work/tree/var/log/messages" messages.txt
ntfscp -q "$work/ntfs.part" "$work/tree/home/admin/docs/random.bin" random.bin
ntfscp -q "$work/ntfs.part" "$work/tree/home/admin/docs/Übung eins.txt" 'Übung eins.txt'
truncate -s 48M "$work/ntfs.img"
printf 'label: dos\nlabel-id: 0x6f1d2c3b\nstart=2048, size=81920, type=7\n' | sfdisk -q "$work/ntfs.img"
dd if="$work/ntfs.part" of="$work/ntfs.img" bs=1M seek=1 conv=notrunc,sparse status=none

for name in ext4 ntfs; do
  node -e "
    const { readFileSync, writeFileSync } = require('node:fs')
    import(process.argv[1]).then(({ packFixture }) => writeFileSync(process.argv[3], packFixture(readFileSync(process.argv[2]))))
  " "$here/src/lab/storage/index.ts" "$work/$name.img" "$out/$name.fixture.gz"
  printf '%s.img  %s\n' "$name" "$(sha256sum < "$work/$name.img" | cut -d' ' -f1)"
done
cd "$work/tree" && find . -type f | sort | xargs -d '\n' sha256sum
