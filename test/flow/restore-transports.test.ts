import { readdir, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { DiskDigest, FaultRule } from '../../src/lab/index.ts'
import { type CommandResult, type Json, type LabSession, openLabSession } from './lab-session.ts'

const scenario = {
  taskMs: 0,
  recordDigests: true,
  datacenters: [
    {
      name: 'DC',
      hosts: [{ name: 'esx1', ssh: true }],
      datastores: [
        { name: 'v6', type: 'VMFS6' },
        { name: 'target', type: 'VMFS6' },
      ],
      vms: [
        {
          name: 'web',
          datastore: 'v6',
          disks: [{ size: '48MiB', content: 'random' }, { size: '8MiB' }, { size: '12MiB', content: 'random', thin: false }],
        },
        { name: 'one', datastore: 'v6', disks: [{ size: '40MiB', content: 'random' }] },
        { name: 'off', datastore: 'v6', power: 'poweredOff', disks: [{ size: '24MiB', content: 'random' }] },
      ],
    },
  ],
}

let session: LabSession
const points = new Map<string, string>()
/** What each VM's guest had on its disks when the point's snapshot was made. */
const wanted = new Map<string, readonly string[]>()
const digestsOf = (disks: readonly DiskDigest[]): readonly string[] => disks.map(({ label, sha256 }) => `${label} ${sha256}`)
let made = 0

beforeAll(async () => {
  session = await openLabSession({ scenario })
  const config = join(session.directory, 'vcb.yaml')
  const [shell] = session.lab.endpoints.ssh
  const host = { address: shell?.address, port: shell?.port, keyFile: session.lab.sshKeyFile, hostKey: shell?.hostKey }
  const resume = { attempts: 2, lastAttempts: 6, delay: '20ms', maxDelay: '200ms' }
  await writeFile(config, JSON.stringify({ resume, ssh: { hosts: { esx1: host } } }))
  session.environment['VCB_CONFIG'] = config
  const run = await session.json(['backup', 'web', 'one', 'off', '--init'])
  for (const { vm, point } of run.vms) {
    points.set(vm.name, point)
    wanted.set(vm.name, digestsOf((await session.lab.control.digestsAtSnapshot(vm.name)).at(-1)?.disks ?? []))
  }
})
afterAll(() => session[Symbol.asyncDispose]())

const argv = (of: string, ...more: readonly string[]): readonly string[] => [
  'restore',
  points.get(of) ?? '',
  '--to-vcenter',
  '--to-datastore',
  'target',
  '--name',
  `copy-${++made}`,
  ...more,
]
const restore = (of: string, ...more: readonly string[]): Promise<Json> => session.json(argv(of, ...more))
const restoreFails = (of: string, ...more: readonly string[]): Promise<CommandResult> => session.vcb(...argv(of, ...more), '--json')

const faulty = <T>(rule: FaultRule, work: () => Promise<T>): Promise<T> => session.faulty(rule, work)

/** Every disk of the restored VM is right. */
async function expectRight(of: string, restored: Json): Promise<void> {
  expect(wanted.get(of)?.length).toBeGreaterThan(0)
  expect(digestsOf(await session.lab.control.sha256(restored.vm.moref))).toEqual(wanted.get(of))
  await expectNothingHeld()
}

async function expectNothingHeld(): Promise<void> {
  await session.expectClean()
  const { nfc, locks } = await session.lab.control.state()
  expect([nfc.sessions, nfc.memoryBytes, locks.filter((lock) => lock.holder.startsWith('NFC'))]).toEqual([[], 0, []])
}

/** No VM of this name, and nothing new on the datastore. */
async function expectNothingMade(before: readonly string[]): Promise<void> {
  const { vms } = await session.lab.control.state()
  expect(vms.filter((vm) => vm.name.startsWith(`copy-${made}`))).toEqual([])
  expect(await targetFiles()).toEqual(before)
  await expectNothingHeld()
}

async function targetFiles(): Promise<readonly string[]> {
  return (await readdir(session.lab.datastores['target'] ?? '', { recursive: true })).toSorted()
}

/** Bytes that each disk of a VM takes up on its datastore, by label. */
async function allocated(moref: string): Promise<ReadonlyMap<string, number>> {
  const vm = (await session.lab.control.state()).vms.find((each) => each.moref === moref)
  const sizes = (vm?.disks ?? []).map(async ({ label, fileName }): Promise<[string, number]> => {
    const [, store = '', path = ''] = /^\[([^\]]+)\] (.*)$/.exec(fileName) ?? []
    return [label, (await stat(join(session.lab.datastores[store] ?? '', path.replace(/\.vmdk$/, '-flat.vmdk')))).blocks * 512]
  })
  return new Map(await Promise.all(sizes))
}

describe('a restore whose disks are written one by one', () => {
  for (const transport of ['nbdssl', 'nbd', 'ssh'] as const) {
    test(`${transport}: three disks are what the guest had, thin stays thin, and only what is allocated is sent`, async () => {
      const restored = await restore('web', '--transport', transport)
      expect(restored.disks.map((disk: Json) => [disk.label, disk.transport, disk.thin, disk.refused])).toEqual([
        ['scsi0:0', transport, true, []],
        ['scsi0:1', transport, true, []],
        ['scsi0:2', transport, false, []],
      ])
      expect(restored.warnings).toEqual([])
      const sizes = await allocated(restored.vm.moref)
      for (const disk of restored.disks) {
        expect(disk.writtenBytes).toBeLessThan(disk.capacityBytes / 2)
        // A file in many pieces takes a block or two of the file system beside its own.
        if (disk.thin) expect(sizes.get(disk.label)).toBeLessThanOrEqual(disk.writtenBytes + 64 * 1024)
      }
      await expectRight('web', restored)
    })
  }

  test('takes no more room than an import lease does', async () => {
    const [byLease, byDisks] = [await restore('one', '--transport', 'lease'), await restore('one', '--transport', 'nbdssl')]
    expect(await allocated(byDisks.vm.moref)).toEqual(await allocated(byLease.vm.moref))
  })

  test('says in its first line how the VM came back, and what was refused', async () => {
    const result = await faulty({ on: 'nfc:greeting', nfc: 'noNfcssl' }, () => session.vcb(...argv('one', '--transport', 'nbdssl:nbd')))
    expect(result.out).toMatch(/, by nbd\n {4}refused: nbdssl, .*offers no encrypted NFC/)
  })

  test('a VM that is to be replaced stays until the disks of the new one are written', async () => {
    const before = (await session.lab.control.state()).vms.find((vm) => vm.name === 'off')
    const point = points.get('off') ?? ''
    const over = ['restore', point, '--to-vcenter', '--overwrite', '--keep-identity', '--to-datastore', 'target', '--transport', 'nbdssl']
    const failed = await faulty({ on: 'nfc:write', nfc: 'error', message: 'not this time' }, () => session.vcb(...over, '--json'))
    expect(failed.json().error).toMatchObject({ code: 'UNAVAILABLE', message: expect.stringContaining('not this time') })
    const kept = (await session.lab.control.state()).vms.find((vm) => vm.name === 'off')
    expect(kept).toEqual(before)
    await expectNothingHeld()
    const restored = await session.json(over)
    expect(restored).toMatchObject({ replaced: true, disks: [{ transport: 'nbdssl' }] })
    expect((await session.lab.control.state()).vms.filter((vm) => vm.name === 'off').map((vm) => vm.moref)).toEqual([restored.vm.moref])
    await expectRight('off', restored)
  })

  test('a directly addressed ESXi is written to as well', async () => {
    const { esxi } = session.lab.endpoints
    const result = await session.vcbWith(
      { VCB_VCENTER: esxi.url, VCB_THUMBPRINT: esxi.sha1 },
      ...argv('one', '--transport', 'nbdssl'),
      '--json',
    )
    expect(result.exit, result.out + result.err).toBe(0)
    await session.expectClean()
  })
})

describe('the order of the ways', () => {
  test('is lease first when nothing is said', async () => {
    const restored = await restore('one')
    expect(restored.disks).toMatchObject([{ transport: 'lease', refused: [] }])
    await expectRight('one', restored)
  })

  test('goes on to nbdssl when the lease is refused, and to files when that is too; each refusal is told', async () => {
    const lease = { on: 'ImportVApp', fault: 'NoPermission' } as const
    const first = await faulty(lease, () => restore('one'))
    expect(first.disks).toMatchObject([
      { transport: 'nbdssl', refused: [{ transport: 'lease', reason: expect.stringContaining('privilege') }] },
    ])
    await expectRight('one', first)
    const second = await faulty(lease, () => faulty({ on: 'nfc:greeting', nfc: 'maintenance' }, () => restore('one')))
    expect(second.disks[0].transport).toBe('https')
    expect(second.disks[0].refused.map((each: Json) => each.transport)).toEqual(['lease', 'nbdssl'])
    expect(second.disks[0].thin).toBe(false)
    await expectRight('one', second)
  })

  test('when none works, all reasons are given and nothing is left', async () => {
    const before = await targetFiles()
    const result = await faulty({ on: 'ImportVApp', fault: 'NoPermission' }, () =>
      faulty({ on: 'nfc:greeting', nfc: 'maintenance' }, () => restoreFails('one', '--transport', 'lease:san:nbdssl')),
    )
    const { error } = result.json()
    expect(error).toMatchObject({ code: 'UNAVAILABLE', next: expect.stringContaining('--transport') })
    expect(error.message).toMatch(/No way of restoring copy-\d+ works \(lease: .*; san: it only reads; nbdssl: .*\)/)
    await expectNothingMade(before)
  })

  test('--via names one way, and is not given beside --transport', async () => {
    expect((await restore('one', '--via', 'folder')).disks).toMatchObject([{ transport: 'https' }])
    expect((await restore('one', '--via', 'lease')).disks).toMatchObject([{ transport: 'lease' }])
    expect((await restoreFails('one', '--via', 'lease', '--transport', 'nbdssl')).exit).toBe(2)
    expect((await restoreFails('one', '--transport', 'carrier-pigeon')).exit).toBe(2)
  })

  test('can be set in the environment', async () => {
    const result = await session.vcbWith({ VCB_RESTORE_TRANSPORT: 'nbd' }, ...argv('one'), '--json')
    expect(result.json().disks).toMatchObject([{ transport: 'nbd' }])
  })
})

describe('faults while a disk is written', () => {
  test('a cut connection is opened again, and all that was not durable is written again', async () => {
    for (const [rule, transport] of [
      [{ on: 'nfc:write', nth: 4, cut: 'before' }, 'nbdssl'],
      [{ on: 'nfc:record', object: '7', nth: 2, cut: 'after' }, 'nbd'],
      [{ on: 'nfc:close', nth: 2, cut: 'before' }, 'nbdssl'],
      [{ on: 'nfc:write', nth: 3, nfc: 'error' }, 'nbdssl'],
      [{ on: 'nfc:write', nth: 3, nfc: 'status' }, 'nbd'],
    ] as const satisfies readonly (readonly [FaultRule, string])[]) {
      const restored = await faulty(rule, () => restore('one', '--transport', transport))
      expect([rule, restored.disks[0].transport, restored.disks[0].resumed]).toEqual([rule, transport, 1])
      await expectRight('one', restored)
    }
  })

  test('a full datastore ends the restore with what to do, and nothing is left', async () => {
    const before = await targetFiles()
    const used = (await session.lab.control.state()).datastores.find(({ name }) => name === 'target')
    await session.lab.control.capacity('target', (used?.usedBytes ?? 0) + 2 * 1024 * 1024)
    try {
      const result = await restoreFails('one', '--transport', 'nbdssl:https')
      expect(result.json().error).toMatchObject({ code: 'CAPACITY', exit: 10, message: expect.stringContaining('no room left for') })
      await expectNothingMade(before)
    } finally {
      await session.lab.control.capacity('target', used?.capacityBytes ?? 0)
    }
  })

  test('files are not uploaded to a datastore that thin disks would fill by becoming thick', async () => {
    const before = await targetFiles()
    const used = (await session.lab.control.state()).datastores.find(({ name }) => name === 'target')
    await session.lab.control.capacity('target', (used?.usedBytes ?? 0) + 20 * 1024 * 1024)
    try {
      const result = await restoreFails('one', '--transport', 'https')
      expect(result.json().error).toMatchObject({ code: 'CAPACITY', message: expect.stringMatching(/ free, 40(\.0)? MiB are needed/) })
      await expectNothingMade(before)
      expect((await restore('one', '--transport', 'nbdssl')).disks).toMatchObject([{ thin: true }])
    } finally {
      await session.lab.control.capacity('target', used?.capacityBytes ?? 0)
    }
  })

  test('a session that expires in mid-write does not matter', async () => {
    const restored = await faulty({ on: 'NfcRandomAccessOpenDisk', nth: 2, expireSession: true }, () =>
      restore('one', '--transport', 'nbdssl'),
    )
    await expectRight('one', restored)
  })

  test('a half-open connection keeps its lock for a while, which is waited for', async () => {
    const restored = await faulty({ on: 'nfc:gone', nfc: 'halfOpen', value: 700, times: 1 }, () =>
      faulty({ on: 'nfc:write', nth: 3, cut: 'before' }, () => restore('one', '--transport', 'nbdssl')),
    )
    expect(restored.disks[0].resumed).toBeGreaterThanOrEqual(1)
    await expectRight('one', restored)
  })
})
