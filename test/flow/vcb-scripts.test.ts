import { execFile } from 'node:child_process'
import { mkdir, readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest'
import { canMount, expectNothingLeft, requireMounting } from '../mount-world.ts'
import { requirePeer } from '../peer.ts'
import { expectFiles, expectGone, VMS } from '../products/guest-files.ts'
import { digestOfFile, type LabSession } from './lab-session.ts'
import { leasesOf, openGuestFiles } from './mount-world.ts'
import { type VcbTools, vcbTools } from './vcb-tools.ts'

/* Scripts that go about it as published ones did (docs/vcb-commands.md lists what those call), against guests with file systems: every file comes out with its bytes. */
let session: LabSession
let tools: VcbTools
let host: string
beforeAll(async () => {
  session = await openGuestFiles()
  tools = vcbTools(session)
  host = new URL(session.lab.endpoints.vcenter.url).host
})
afterAll(() => session[Symbol.asyncDispose]())
afterEach(async () => {
  for (const lease of await leasesOf(session)) await session.vcb('unmount', lease.lease)
  if (canMount()) await expectNothingLeft(session.directory)
})
const place = (...names: readonly string[]): string => join(session.directory, ...names)

/** The disk of an export has the bytes that the snapshot had, as an independent program reads it. */
async function expectImage(directory: string, vm: string): Promise<void> {
  const raw = place('image.raw')
  const disk = join(directory, `scsi0-0-0-${vm}.vmdk`)
  await promisify(execFile)(requirePeer('qemu-img'), ['convert', '-f', 'vmdk', '-O', 'raw', disk, raw])
  expect(new Map([['scsi0:0', await digestOfFile(raw)]])).toEqual(await session.frozenDigests(vm))
}

test('file level, one VM after the other: the name becomes a reference, mount, copy, unmount', async () => {
  requireMounting()
  const { stdout } = await tools.script(FILES, host, session.lab.user, place('mnt'), place('tape'), 'linux', 'windows')
  expect(stdout).toBe('linux: copied\nwindows: copied\n')
  for (const [vm, names] of VMS) await expectFiles(names, place('tape', vm))
  await expectGone(session, 5000)
})

const FILES = `#!/bin/sh
# The file level form of a batch file on the proxy: everything that has a number or a letter is copied.
HOST=$1; USER=$2; MNT=$3; TAPE=$4; shift 4
FAILED=0
for VM in "$@"; do
  MOREF=\`vcbVmName -h $HOST -u $USER -L 0 -s name:$VM | grep moref: | cut -d: -f2\`
  [ -n "$MOREF" ] || { echo "$VM: not found" >&2; FAILED=1; continue; }
  vcbMounter -h $HOST -u $USER -a moref:$MOREF -r $MNT/$VM -t file -m nbd -L 1 > mount.log 2>&1
  if [ $? -ne 0 ]; then cat mount.log >&2; FAILED=1; continue; fi
  mkdir -p $TAPE/$VM
  for TREE in $MNT/$VM/letters/* $MNT/$VM/digits/*; do
    [ -d "$TREE" ] && cp -rP "$TREE" $TAPE/$VM/ || [ ! -d "$TREE" ] || FAILED=1
  done
  vcbMounter -h $HOST -u $USER -U -r $MNT/$VM > unmount.log 2>&1 || { cat unmount.log >&2; FAILED=1; continue; }
  echo "$VM: copied"
done
exit $FAILED
`

test('image level, two at a time with output to files, then files picked out of the images', async () => {
  requireMounting()
  const { stdout } = await tools.script(IMAGES, host, session.lab.user, place('images'), 'linux', 'windows')
  expect(stdout).toBe('linux 0\nwindows 0\n')
  for (const [vm, names] of VMS) {
    await expectImage(place('images', vm), vm)
    await tools.script(
      'mountvm -d "$1" -cycleId "$2" && cp -rP "$2/digits" "$3" && mountvm -u "$2"',
      place('images', vm, `scsi0-0-0-${vm}.vmdk`),
      place('pick'),
      place(`picked-${vm}`),
    )
    await expectFiles(names, place(`picked-${vm}`))
  }
  await expectGone(session, 5000)
})

const IMAGES = `#!/bin/sh
# As wrappers do: no more known of the command than its exit status and two files.
HOST=$1; USER=$2; ROOT=$3; shift 3
for VM in "$@"; do
  ( vcbMounter -h $HOST -u $USER -t fullvm -r $ROOT/$VM -a name:$VM -m san -M 1 -F 1 > $VM.out 2> $VM.err; echo $? > $VM.exit ) &
done
wait
for VM in "$@"; do echo $VM $(cat $VM.exit); done
`

test('on the console: localhost, no mode and no type, double slashes, a checksum list, rm instead of -U', async () => {
  const { stdout } = await tools.script(CONSOLE, 'linux', place('vmimages'), place('remote'))
  expect(stdout).toContain('no difference\n')
  await expectImage(place('remote', 'linux'), 'linux')
  expect(await readdir(place('vmimages'))).toEqual([])
  await expectGone(session, 5000)
})

const CONSOLE = `#!/bin/bash
NAME=$1; ROOT=$2; REMOTE=$3
rm -rf /$ROOT/$NAME/
vcbMounter -h localhost -a name:$NAME -r /$ROOT/$NAME
cd /$ROOT/$NAME
md5sum * > files.md5
mkdir -p $REMOTE
cp -r /$ROOT/$NAME $REMOTE
cd $REMOTE/$NAME
if md5sum -c /$ROOT/$NAME/files.md5 | grep FAILED; then echo "difference"; else echo "no difference"; rm -rf /$ROOT/$NAME/; fi
`

test('by a list of all names, with -m cos, a bare -M, and snapshots of one name removed from every VM', async () => {
  await mkdir(place('cos'))
  const { stdout } = await tools.script(NAMES, host, session.lab.user, place('cos'))
  expect(stdout).toBe('linux\nwindows\nremoved 2\n')
  for (const [vm] of VMS) await expectImage(place('cos', vm), vm)
  expect((await session.lab.control.state()).vms.flatMap(({ snapshots }) => snapshots)).toEqual([])
  await expectGone(session, 5000)
})

const NAMES = `#!/bin/sh
HOST=$1; USER=$2; ROOT=$3
for NAME in $(vcbVmName -h $HOST -u $USER -sAny -L 0 | grep name: | sed -e s/name://); do
  vcbMounter -h $HOST -u $USER -a name:$NAME -r $ROOT/$NAME -t fullvm -m cos -L 0 -M || exit 1
  echo $NAME
done
for i in $(vcbVmName -h localhost -s Any:* | grep moref); do vcbSnapshot -h localhost -c $i Nightly; done > made
for i in $(vcbVmName -h localhost -s Any:* | grep moref); do
  for p in $(vcbSnapshot -h localhost -f $i Nightly | grep SsId); do vcbSnapshot -h localhost -d $i $p || exit 1; done
done
echo removed $(grep -c SsId made)
`
