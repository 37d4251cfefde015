import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, it, vi } from 'vitest'
import { MIB, SECTOR, type TransportName } from '../../src/core/index.ts'
import { freezeDisks } from '../transports/frozen-disks.ts'
import { describePeers } from '../peer.ts'
import { ImageUnderTest } from '../transports/image-under-test.ts'
import { TRANSPORTS } from '../transports/transports.ts'
import { openTransportWorld, PROXY_VM } from '../transports/world.ts'
import { type ContractWorld, describeTransport, type TransportFaults } from './transport-contract.ts'

vi.setConfig({ testTimeout: 60_000, hookTimeout: 60_000 })

const SIZE = 5 * MIB + 77 * SECTOR
const scenario = {
  taskMs: 0,
  leaseTimeoutSeconds: 20,
  datacenters: [
    {
      name: 'DC',
      hosts: [{ name: 'esx1', ssh: true }],
      datastores: [{ name: 'v6', type: 'VMFS6' }],
      vms: [PROXY_VM, { name: 'disk', changeTracking: true, disks: [{ size: SIZE, content: 'random' }] }],
    },
  ],
}

const byLibrary = 'nbdkit and the library answer for it; nbdkit killed in mid-read is in test/flow/vddk-backup.test.ts'
const byHost = 'the host walks the chain, and answers for it'
const nbd: TransportFaults = {
  slow: { on: 'nfc:read', delayMs: 400 },
  cut: { on: 'nfc:read', nth: 3, cut: 'before' },
  corrupt: { on: 'nfc:read', nfc: 'badData' },
  corruptCode: 'UNAVAILABLE',
  changedParent: { none: byHost },
  holds: [],
}
const FAULTS: { readonly [name in TransportName]?: TransportFaults } = {
  san: {
    cut: { none: 'the files of a mounted datastore are read without a connection of ours' },
    corrupt: 'link',
    changedParent: 'parent',
    holds: [],
  },
  hotadd: {
    cut: { none: 'an attached disk is read as a device of this machine, without a connection' },
    corrupt: { on: 'hotadd:attach', hotadd: 'wrongSize' },
    changedParent: { none: byHost },
    holds: ['attachedDisk'],
  },
  nbd,
  nbdssl: nbd,
  https: {
    slow: { on: 'folder:GET', delayMs: 400 },
    cut: { on: 'folder:GET', object: '*-flat.vmdk', cutAfterBytes: 1000 },
    corrupt: 'link',
    changedParent: 'parent',
    holds: [],
  },
  ssh: {
    cut: { on: 'ssh:exec', object: 'python3', cutAfterBytes: 1_000_000 },
    corrupt: 'link',
    changedParent: 'parent',
    holds: [],
  },
  lease: {
    cut: { on: 'nfc:GET', cutAfterBytes: MIB },
    corrupt: { on: 'nfc:GET', lease: 'dropGrain', value: 5 },
    changedParent: { none: byHost },
    // The disk is known by its place in a lease of our own snapshot; the descriptor of an export need not name a uuid.
    uuidUntold: true,
    holds: ['exportLease'],
  },
  // With a stand-in for VMware's library: what is held to the contract is the way to it.
  vddk: {
    cut: { none: byLibrary },
    corrupt: { none: byLibrary },
    changedParent: { none: byLibrary },
    // The library is told VM, snapshot and file, and tells no uuid.
    uuidUntold: true,
    holds: [],
  },
}

let world: ContractWorld
beforeAll(async () => {
  world = await openContractWorld()
})
afterAll(() => world[Symbol.asyncDispose]())

describePeers(['nbdkit', 'qemu-img'], 'the transport vddk', () => {
  it('is held to the same contract', () => expect(TRANSPORTS.map(({ name }) => name)).toContain('vddk'))
})
for (const entry of TRANSPORTS) {
  const faults = FAULTS[entry.name]
  if (faults === undefined) throw new Error(`how does ${entry.name} fail? Add it to FAULTS.`)
  describeTransport(entry, faults, () => world)
}

/** A chain of a base and an SE-sparse link, both written to, and its image as the lab's digest proves it. */
async function openContractWorld(): Promise<ContractWorld> {
  await using stack = new AsyncDisposableStack()
  const base = stack.use(await openTransportWorld(scenario))
  const { lab, site } = base
  await lab.write('disk', { percent: 40, unit: 24_576, seed: 1 })
  await base.userSnapshot('disk', 'user')
  await lab.write('disk', { percent: 20, unit: 12_288, seed: 2 })
  const image = new Uint8Array(SIZE)
  {
    await using frozen = await freezeDisks(site.vsphere, 'disk')
    const [disk] = frozen.disks
    const san = TRANSPORTS.find(({ name }) => name === 'san')?.make(site)
    if (disk === undefined || san === undefined) throw new Error('nothing to read')
    await using source = await san.open(disk)
    await source.read(0, image)
    const seen = new ImageUnderTest(SIZE)
    seen.write(0, image)
    const [wanted] = await lab.sha256('disk', frozen.snapshot.name)
    if (wanted === undefined || seen.digest(wanted.kind) !== wanted.sha256) throw new Error('the image is not the lab’s')
  }
  const folder = join(lab.ready.datastores['v6'] ?? '', 'disk')
  const changed = async (file: string, change: (bytes: Buffer) => Buffer): Promise<AsyncDisposable> => {
    const path = join(folder, file)
    const right = await readFile(path)
    await writeFile(path, change(Buffer.from(right)))
    return { [Symbol.asyncDispose]: () => writeFile(path, right) }
  }
  const kept = stack.move()
  return {
    ...base,
    vm: 'disk',
    image,
    damage: (what) =>
      what === 'link'
        ? changed('disk-000001-sesparse.vmdk', (bytes) => bytes.fill(0x5a, 0, 16))
        : changed('disk.vmdk', (bytes) => Buffer.from(bytes.toString('latin1').replace(/^CID=.*$/m, 'CID=12345678'), 'latin1')),
    [Symbol.asyncDispose]: () => kept.disposeAsync(),
  }
}
