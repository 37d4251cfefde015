import { execFile } from 'node:child_process'
import { open, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { MIB } from '../../src/core/index.ts'
import { goldenVolume } from '../golden-volume.ts'
import { requirePeer } from '../peer.ts'
import { digestOfFile, type LabSession, openLabSession } from './lab-session.ts'

const run = promisify(execFile)

type Part = { readonly at: number; readonly type: string; readonly volume?: string; readonly mark?: readonly [number, string] }
type Disk = { readonly size: number; readonly volume?: string; readonly table?: 'gpt' | 'dos'; readonly parts?: readonly Part[] }

const LINUX = '0FC63DAF-8483-4772-8E79-3D69D8477DE4'
const WINDOWS = 'EBD0A0A2-B9E5-4433-87C0-68B6B72699C7'
const ESP = 'C12A7328-F81F-11D2-BA4B-00C93EC93B3B'

/** Guests of test/golden/volumes: what lies on each disk, in MiB. `mark`: bytes (latin1) that tell what it is. */
const GUESTS: Readonly<Record<string, readonly Disk[]>> = {
  linux: [
    {
      size: 384,
      table: 'gpt',
      parts: [
        { at: 1, type: ESP, volume: 'fat32' },
        { at: 42, type: LINUX, volume: 'root-ext4' },
        { at: 50, type: LINUX, volume: 'dirty-xfs' },
      ],
    },
    { size: 110, volume: 'subvolumes-btrfs' },
    { size: 16, volume: 'lvm-files' },
    {
      size: 148,
      table: 'dos',
      parts: [
        { at: 1, type: '83', volume: 'dirty-ext4' },
        { at: 10, type: '83', volume: 'dirty-btrfs' },
        { at: 132, type: '6', volume: 'fat16' },
        { at: 144, type: '1', volume: 'fat12' },
      ],
    },
  ],
  windows: [
    {
      size: 20,
      table: 'dos',
      parts: [
        { at: 1, type: '7', volume: 'windows-ntfs' },
        { at: 9, type: '6', volume: 'fat16' },
      ],
    },
    {
      size: 8,
      table: 'gpt',
      parts: [
        { at: 1, type: LINUX, mark: [0, 'LUKS\xba\xbe\0\x02'] },
        { at: 2, type: WINDOWS, mark: [3, '-FVE-FS-'] },
        { at: 3, type: WINDOWS, mark: [3, 'ReFS\0\0\0\0\0\0\0\0\0FSRS'] },
      ],
    },
    { size: 4, table: 'dos', parts: [{ at: 1, type: '42' }] },
  ],
}

/** SHA-256 of the files of each volume, as the programs that made it gave them back. */
export const goldenFiles = async (): Promise<Readonly<Record<string, Readonly<Record<string, string>>>>> =>
  JSON.parse(await readFile(join(import.meta.dirname, '..', 'golden', 'volumes', 'files.json'), 'utf8'))

export type VolumeGuests = {
  readonly session: LabSession
  /** SHA-256 of what lies on the datastore of a VM's disks. */
  stored(vm: string): Promise<readonly string[]>
}

/** A lab with a Linux and a Windows whose disks hold every kind of volume there is in test/golden/volumes. */
export async function openVolumeGuests(): Promise<VolumeGuests> {
  const session = await openLabSession({
    scenario: {
      taskMs: 0,
      recordDigests: true,
      datacenters: [
        {
          name: 'DC',
          hosts: [{ name: 'esx1' }],
          datastores: [{ name: 'ds1', type: 'VMFS6' }],
          vms: Object.entries(GUESTS).map(([name, disks]) => ({
            name,
            power: 'poweredOff',
            disks: disks.map(({ size }) => ({ size: `${size}MiB`, content: 'empty' })),
          })),
        },
      ],
    },
  })
  const flats = (vm: string): readonly string[] =>
    (GUESTS[vm] ?? []).map((_, index) => join(session.lab.datastores['ds1'] ?? '', vm, `${vm}${index === 0 ? '' : `_${index}`}-flat.vmdk`))
  for (const [vm, disks] of Object.entries(GUESTS)) for (const [index, disk] of disks.entries()) await fill(flats(vm)[index] ?? '', disk)
  return { session, stored: (vm) => Promise.all(flats(vm).map(digestOfFile)) }
}

async function fill(path: string, { table, volume, parts = [] }: Disk): Promise<void> {
  if (table !== undefined) {
    const script = [
      `label: ${table}`,
      ...(table === 'dos' ? ['label-id: 0x57c0ffee'] : []),
      ...parts.map(
        ({ at, type, volume: name }) => `start=${at * 2048}, size=${name === undefined ? 2048 : sizeOf(name) / 512}, type=${type}`,
      ),
    ]
    const done = run(requirePeer('sfdisk'), ['-q', path])
    done.child.stdin?.end(`${script.join('\n')}\n`)
    await done
  }
  await using file = await open(path, 'r+')
  if (volume !== undefined) await write(file, 0, volume)
  for (const part of parts) {
    if (part.volume !== undefined) await write(file, part.at * MIB, part.volume)
    if (part.mark !== undefined) await file.write(Buffer.from(part.mark[1], 'latin1'), 0, undefined, part.at * MIB + part.mark[0])
  }
}

const sizeOf = (name: string): number => goldenVolume(name).size

async function write(file: Awaited<ReturnType<typeof open>>, at: number, name: string): Promise<void> {
  const volume = goldenVolume(name)
  const piece = Buffer.alloc(MIB)
  const zeros = Buffer.alloc(MIB)
  for (let done = 0; done < volume.size; done += MIB) {
    const part = piece.subarray(0, Math.min(MIB, volume.size - done))
    await volume.read(done, part)
    if (!part.equals(zeros.subarray(0, part.length))) await file.write(part, 0, part.length, at + done)
  }
}
