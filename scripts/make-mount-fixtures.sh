#!/bin/bash
# Makes what test/flow/mount-volumes.test.ts puts together to two guests, in test/golden/volumes/: three FAT volumes by mkfs.fat and mtools, the root of a Linux by mkfs.ext4,
# a btrfs with subvolumes, an LVM volume group of one disk, a Windows volume by ntfs-3g with streams, a security descriptor and the drive letters of its registry;
# and files.json with the SHA-256 of every file as these programs give it back. Needs root (loop devices, mounts), dosfstools, mtools, e2fsprogs, btrfs-progs, lvm2, ntfs-3g, libhivex-bin.
set -euo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)
out=$here/test/golden/volumes
work=$(mktemp -d)
export LC_ALL=C.UTF-8 TZ=UTC MTOOLS_SKIP_CHECK=1 MTOOLSRC=/dev/null
cleanup() {
  umount "$work/mnt" 2>/dev/null || true
  losetup -j "$work/lvm-files.img" -O NAME --noheadings 2>/dev/null | xargs -r losetup -d || true
  rm -rf "$work"
}
trap cleanup EXIT
cd "$work"
mkdir mnt sums

sums() { # NAME DIRECTORY: the files of a tree
  (cd "$2" && find . -type f -not -path './lost+found/*' -print0 | sort -z | xargs -0 sha256sum) >"sums/$1"
}

# FAT: long names, an empty file, files that lie in pieces because others before them were removed.
mkdir -p esp/EFI/BOOT esp/many
echo 'firmware starts this, once' | head -c 26 >esp/EFI/BOOT/BOOTX64.EFI
printf 'a name beyond 8.3: ü' >'esp/Übung mit einem langen Namen.txt'
: >esp/empty
for n in $(seq 60); do echo "file $n" >"esp/many/a file with number $n"; done
python3 -c 'import random; random.seed(7); open("esp/pieces.bin", "wb").write(random.randbytes(40000))'
find esp -exec touch -d '2026-03-04 05:06:08' {} +
fat() { # BITS SIZE
  truncate -s "$2" "fat$1.img"
  mkfs.fat --invariant -F "$1" -s 1 -i CAFE00$1 -n "GOLDEN$1" "fat$1.img" >/dev/null
  local n
  for n in $(seq 40); do head -c 700 /dev/zero | tr '\0' x | mcopy -i "fat$1.img" - "::x$n"; done
  for n in $(seq 1 2 40); do mdel -i "fat$1.img" "::x$n"; done
  mcopy -s -m -i "fat$1.img" esp/* ::
  for n in $(seq 2 2 40); do mdel -i "fat$1.img" "::x$n"; done
  fsck.fat -n "fat$1.img" >/dev/null
  mkdir back
  mcopy -s -m -n -i "fat$1.img" '::*' back
  sums "fat$1" back
  rm -r back
}
fat 12 1440K
fat 16 8M
fat 32 40M

# The root of a Linux, whose fstab names all the others.
mkdir -p root/etc root/boot/efi root/home root/var/log root/data root/srv root/usr/bin
cat >root/etc/fstab <<'FSTAB'
LABEL=golden-root / ext4 errors=remount-ro 0 1
UUID=CAFE-0032 /boot/efi vfat umask=0077 0 1
UUID=6f1d2c3b-0003-4000-8000-0000000000b7 /home btrfs subvol=@home 0 2
UUID=6f1d2c3b-0003-4000-8000-0000000000b7 /var/log btrfs subvol=/@log,noatime 0 2
LABEL=golden-xfs /data xfs defaults 0 2
/dev/mapper/files--vg-srv /srv ext4 defaults 0 2
UUID=none none swap sw 0 0
FSTAB
echo golden-guest >root/etc/hostname
ln -s /etc/shadow root/usr/bin/leads-out
truncate -s 6M root-ext4.img
find root -exec touch -h -d @1735689600 {} +
mkfs.ext4 -q -F -L golden-root -O ^has_journal -d root root-ext4.img
sums root-ext4 root

# The smallest that a kernel mounts, for test/crash: it has a file, and a lease of it few effects.
mkdir small
echo 'in a small file system' >small/file
truncate -s 1M small-ext4.img
mkfs.ext4 -q -F -L golden-small -O ^has_journal -d small small-ext4.img
sums small-ext4 small

# LVM: one logical volume of two pieces, in the wrong order on the disk.
mkdir tree
for n in $(seq 14000); do printf 'line %6d of a file in two pieces%70s\n' "$n" ''; done >tree/two-pieces.txt
echo 'in a logical volume' >tree/file
truncate -s 16M lvm-files.img
loop=$(losetup -f --show lvm-files.img)
lvm() { "$1" --driverloaded n --config "devices{use_devicesfile=0 filter=[\"a|$loop|\",\"r|.*|\"]} backup{backup=0 archive=0}" "${@:2}" >>said 2>&1; }
lvm pvcreate -q "$loop"
lvm vgcreate -q -s 1M files-vg "$loop"
lvm lvcreate -q -an -Zn -Wn -y -n srv -l 4 files-vg "$loop:8-11"
lvm lvextend -q -l +4 files-vg/srv "$loop:1-4"
sync
losetup -d "$loop"
truncate -s 8M srv.lv
mkfs.ext4 -q -F -L golden-srv -O ^has_journal -d tree srv.lv
dd if=srv.lv of=lvm-files.img bs=1M count=4 seek=9 conv=notrunc status=none
dd if=srv.lv of=lvm-files.img bs=1M skip=4 count=4 seek=2 conv=notrunc status=none
sums lvm-files tree

# btrfs: what is in a subvolume, in a nested one, and outside.
truncate -s 110M subvolumes-btrfs.img
mkfs.btrfs -q -L golden-sub -U 6f1d2c3b-0003-4000-8000-0000000000b7 subvolumes-btrfs.img >/dev/null
mount -o loop subvolumes-btrfs.img mnt
for name in @home @home/nested @log; do btrfs subvolume create "mnt/$name" >/dev/null; done
echo 'at home' >mnt/@home/file
echo 'in a subvolume of a subvolume' >mnt/@home/nested/file
echo 'a line' >mnt/@log/messages
echo 'outside' >mnt/top
sums subvolumes-btrfs mnt
umount mnt

# Windows: C: is the volume itself, E: the FAT behind it on its disk.
truncate -s 8M windows-ntfs.img
mkntfs -q -F -Q -L golden-win -s 512 -p 2048 -H 255 -S 63 windows-ntfs.img >/dev/null 2>&1
node -e "import(process.argv[1]).then(({ emptyHive }) => require('node:fs').writeFileSync('hive', emptyHive()))" "$here/test/empty-hive.ts"
hex() { printf '%s' "$1" | sed 's/../&,/g; s/,$//'; }
hivexsh -w hive >/dev/null <<HIVE
add MountedDevices
cd MountedDevices
setval 2
\\DosDevices\\C:
hex:3:$(hex eeffc0570000100000000000)
\\DosDevices\\E:
hex:3:$(hex eeffc0570000900000000000)
commit
HIVE
ntfs-3g -o streams_interface=windows windows-ntfs.img mnt
mkdir -p mnt/Windows/System32/config mnt/Users
cp hive mnt/Windows/System32/config/SYSTEM
echo plain >mnt/Users/a.txt
echo hidden >mnt/Users/a.txt:secret
python3 - mnt/Users/a.txt <<'PY'
import os, sys
# O:BA G:BA D:P(A;;FR;;;WD): everybody may read, and nothing is inherited.
admins = bytes.fromhex('01020000000000052000000020020000')
everyone = bytes.fromhex('010100000000000100000000')
ace = bytes.fromhex('00001400') + (0x120089).to_bytes(4, 'little') + everyone
acl = bytes.fromhex('0200') + (8 + len(ace)).to_bytes(2, 'little') + bytes.fromhex('01000000') + ace
head = bytes.fromhex('0100') + (0x9004).to_bytes(2, 'little') + b''.join(n.to_bytes(4, 'little') for n in (20, 36, 0, 52))
os.setxattr(sys.argv[1], 'system.ntfs_acl', head + admins + admins + acl)
print(os.getxattr(sys.argv[1], 'system.ntfs_acl').hex())
PY
sums windows-ntfs mnt
umount mnt
while pgrep -f "ntfs-3g.*$work" >/dev/null; do sleep 0.1; done

names=(fat12 fat16 fat32 root-ext4 small-ext4 lvm-files subvolumes-btrfs windows-ntfs)
for name in "${names[@]}"; do
  node -e "
    const { readFileSync, writeFileSync } = require('node:fs')
    import(process.argv[1]).then(({ packFixture }) => writeFileSync(process.argv[3], packFixture(readFileSync(process.argv[2]))))
  " "$here/src/lab/storage/index.ts" "$name.img" "$out/$name.fixture.gz"
done
python3 - "$out/files.json" "${names[@]}" <<'PY'
import json, sys
found = {}
for name in sys.argv[2:]:
    lines = [line.rstrip('\n').split('  ./', 1) for line in open('sums/' + name)]
    found[name] = {path: digest for digest, path in lines}
# 60 small files in three volumes: what is in them is told by their names.
for files in found.values():
    for path in [path for path in files if path.startswith('many/')]: del files[path]
json.dump(found, open(sys.argv[1], 'w'), indent=2, ensure_ascii=False, sort_keys=True)
open(sys.argv[1], 'a').write('\n')
PY
ls -l "$out"
