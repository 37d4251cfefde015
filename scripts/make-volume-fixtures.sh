#!/bin/bash
# Makes test/golden/volumes/: file systems copied while they were mounted (as a snapshot of a running VM sees them) and after they were unmounted, and two
# LVM physical volumes of one group. Needs root (loop devices, mounts), xfsprogs, btrfs-progs, e2fsprogs and lvm2; device-mapper is not used.
set -euo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)
out=$here/test/golden/volumes
work=$(mktemp -d)
loops=()
cleanup() {
  [ $? = 0 ] || cat "$work/said" >&2
  umount "$work/mnt" 2>/dev/null || true
  local loop
  for loop in "${loops[@]}"; do losetup -d "$loop" 2>/dev/null || true; done
  rm -rf "$work"
}
trap cleanup EXIT
mkdir -p "$out" "$work/mnt"
cd "$work"
attach() { loop=$(losetup -f --show "$1"); loops+=("$loop"); }

live() { # TYPE SIZE
  truncate -s "$2" "$1.live"
  attach "$1.live"
  case $1 in
    ext4) mkfs.ext4 -q -L golden-ext4 "$loop" ;;
    xfs) mkfs.xfs -q -L golden-xfs "$loop" ;;
    btrfs) mkfs.btrfs -q -L golden-btrfs "$loop" >/dev/null ;;
  esac
  mount -t "$1" "$loop" mnt
  local n
  for n in 1 2 3 4 5 6 7 8; do
    echo "written behind the last checkpoint, $n" >"mnt/file$n"
    python3 -c 'import os, sys; os.fsync(os.open(sys.argv[1], os.O_RDWR))' "mnt/file$n"
  done
  cp --sparse=always "$1.live" "dirty-$1.img"
  umount mnt
  cp --sparse=always "$1.live" "clean-$1.img"
  losetup -d "$loop"
}
live ext4 8M
live xfs 320M
live btrfs 120M

truncate -s 24M lvm-a.img lvm-b.img
attach lvm-a.img; a=$loop
attach lvm-b.img; b=$loop
lvm() { # PROGRAM ARGUMENTS
  "$1" --driverloaded n --config "devices{use_devicesfile=0 filter=[\"a|$a|\",\"a|$b|\",\"r|.*|\"]} backup{backup=0 archive=0}" "${@:2}" 2>>"$work/said"
}
lvm pvcreate -q "$a" "$b" >>said
lvm vgcreate -q -s 1M guest-vg "$a" "$b" >>said
make() { lvm lvcreate -q -an -Zn -Wn -y "$@" >>said; }
make -n root -l 6 guest-vg "$a:0-5"
make -n home -l 4 guest-vg "$b:0-3"
lvm lvextend -q -l +3 guest-vg/root "$b:4-6" >>said
lvm lvextend -q -l +2 guest-vg/root "$a:8-9" >>said
make -n fast -i 2 -I 64 -l 8 guest-vg
lvm lvs --noheadings --separator ' ' -o name,segtype,seg_pe_ranges guest-vg | tee ranges | sed "s|$a|lvm-a|g; s|$b|lvm-b|g"

# A file system in each, written where lvs says that its extents are.
truncate -s 11M root.lv; mkfs.ext4 -q -L lv-root root.lv
truncate -s 4M home.lv; mkfs.ext4 -q -L lv-home home.lv
truncate -s 8M fast.lv; mkfs.ext4 -q -L lv-fast fast.lv
python3 - "$a=lvm-a.img" "$b=lvm-b.img" <<'PY'
import re, sys
images = dict(arg.split('=') for arg in sys.argv[1:])
MIB = 1 << 20
def put(image, extent, inside, data):
    with open(image, 'r+b') as f:
        f.seek(MIB + extent * MIB + inside)
        f.write(data)
done = {}
for line in open('ranges'):
    name, kind, *ranges = line.split()
    if name not in ('root', 'home', 'fast'): continue
    data = open(name + '.lv', 'rb').read()
    parts = [(images[m[1]], int(m[2]), int(m[3])) for m in (re.fullmatch(r'(.*):(\d+)-(\d+)', r) for r in ranges)]
    if kind == 'linear':
        (image, first, last), = parts
        length = (last - first + 1) * MIB
        at = done.get(name, 0)
        put(image, first, 0, data[at:at + length])
        done[name] = at + length
    else:
        for n in range(len(data) // 65536):
            image, first, _ = parts[n % len(parts)]
            put(image, first, n // len(parts) * 65536, data[n * 65536:(n + 1) * 65536])
PY
sync
sha256sum root.lv home.lv fast.lv

python3 - "$out" dirty-ext4 clean-ext4 dirty-xfs clean-xfs dirty-btrfs clean-btrfs lvm-a lvm-b <<'PY'
import gzip, struct, sys
out, *names = sys.argv[1:]
for name in names:
    numbers, blocks, size = [], [], 0
    with open(name + '.img', 'rb') as image:
        while block := image.read(4096):
            if block.strip(b'\0'):
                numbers.append(size // 4096)
                blocks.append(block)
            size += len(block)
    packed = b'VCBLABFX' + struct.pack('<QI', size, len(numbers)) + struct.pack('<%dI' % len(numbers), *numbers) + b''.join(blocks)
    with open(f'{out}/{name}.fixture.gz', 'wb') as file:
        file.write(gzip.compress(packed, 9, mtime=0))
PY
