import { GIB, MIB, type Range, SECTOR } from '../../src/core/index.ts'
import { PROXY_VM } from './world.ts'

/** One kind of disk the table has a line for, as the only disk of a VM named after it. */
export type DiskKind = {
  readonly name: string
  readonly datastore: 'v5' | 'v6'
  /** Bytes. */
  readonly size: number
  readonly thin: boolean
  /** Snapshots of a user's own, with writes of the guest before each: links below the frozen one. */
  readonly snapshots: number
  /** So large that only what change tracking calls allocated can be read, and the guest writes to these places alone. Bytes. */
  readonly places?: readonly Range[] | undefined
}

const TIB = 1024 * GIB

/** About both sides of `at`, and no multiple of anything larger than a sector. */
const about = (at: number): Range => ({ offset: at - 3 * SECTOR - 64 * 1024, length: 192 * 1024 + 7 * SECTOR })

/** All kinds; `mib` = size of the ordinary ones. Odd sizes are whole sectors but no multiple of 1 KiB, of a grain or of a block. */
export function diskKinds(mib: number): readonly DiskKind[] {
  const size = mib * MIB
  const half = Math.ceil(mib / 2) * MIB
  const small = Math.ceil(mib / 4) * MIB
  const two = 2 * TIB + GIB + SECTOR
  const three = 3 * TIB + 5 * SECTOR
  const places = (end: number): Range[] => [
    about(MIB * 8),
    about(GIB * 700),
    // Where sectors pass 32 bits.
    about(2 * TIB),
    { offset: end - 9 * SECTOR, length: 9 * SECTOR },
  ]
  return [
    { name: 'flat', datastore: 'v6', size, thin: false, snapshots: 0 },
    { name: 'thin', datastore: 'v6', size, thin: true, snapshots: 0 },
    { name: 'COWD chain', datastore: 'v5', size, thin: true, snapshots: 2 },
    { name: 'SE-sparse chain', datastore: 'v6', size, thin: true, snapshots: 2 },
    { name: 'odd flat', datastore: 'v6', size: half + 77 * SECTOR, thin: false, snapshots: 0 },
    { name: 'odd thin', datastore: 'v5', size: small + SECTOR, thin: true, snapshots: 0 },
    { name: 'odd COWD chain', datastore: 'v5', size: half + 4095 * SECTOR, thin: true, snapshots: 2 },
    { name: 'odd SE-sparse chain', datastore: 'v6', size: small + 2049 * SECTOR, thin: true, snapshots: 2 },
    { name: '> 2 TiB thin', datastore: 'v6', size: two, thin: true, snapshots: 0, places: places(two) },
    { name: '> 2 TiB SE-sparse chain', datastore: 'v6', size: three, thin: true, snapshots: 1, places: places(three) },
  ]
}

/** A name that needs no escaping anywhere. */
export const vmOf = (kind: DiskKind): string => kind.name.replaceAll(/[^A-Za-z0-9]+/g, '-').toLowerCase()

/** A lab with one VM per kind, change tracking on, no workload: only what the table lets the guest write changes a disk. */
export const scenarioOf = (kinds: readonly DiskKind[]): object => ({
  name: 'transports',
  seed: 11,
  taskMs: 0,
  datacenters: [
    {
      name: 'DC',
      hosts: [{ name: 'esx1', ssh: true }],
      datastores: [
        { name: 'v6', type: 'VMFS6', capacity: '16TiB' },
        { name: 'v5', type: 'VMFS5', capacity: '16TiB' },
      ],
      vms: [
        PROXY_VM,
        ...kinds.map((kind) => ({
          name: vmOf(kind),
          datastore: kind.datastore,
          changeTracking: true,
          disks: [{ size: kind.size, thin: kind.thin, content: kind.places === undefined ? 'random' : 'empty' }],
        })),
      ],
    },
  ],
})
