import { execFile } from 'node:child_process'
import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { readdir, rm, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { KIB, MIB } from '../../src/core/index.ts'
import type { FaultRule } from '../../src/lab/index.ts'
import { requirePeer } from '../peer.ts'
import { type CutProxy, openCutProxy } from './cut-proxy.ts'
import { type Json, type LabSession, openLabSession } from './lab-session.ts'

/*
 * Incrementals of disks that change tracking says nothing about: the host hashes, what differs travels. What travels is counted between agent and host;
 * whether the image is right is judged by the lab's own digests of the frozen disks, and the repository by stock restic.
 */
const scenario = {
  taskMs: 0,
  recordDigests: true,
  datacenters: [
    {
      name: 'DC',
      hosts: [{ name: 'esx1', ssh: true }],
      datastores: [
        { name: 'v6', type: 'VMFS6' },
        { name: 'v5', type: 'VMFS5' },
      ],
      vms: [
        {
          name: 'free',
          datastore: 'v6',
          disks: [
            { size: '40MiB', content: 'random' },
            { size: 3 * MIB + 512 * 77, thin: false, datastore: 'v5', content: 'random' },
            { size: '32MiB' },
          ],
        },
        { name: 'one', datastore: 'v5', disks: [{ size: '40MiB', content: 'random' }] },
        { name: 'tracked', datastore: 'v6', changeTracking: true, disks: [{ size: '24MiB', content: 'random' }] },
        { name: 'chain', datastore: 'v6', disks: [{ size: '16MiB', content: 'random' }], snapshots: [{ name: 'a' }, { name: 'b' }] },
        { name: 'cowd', datastore: 'v5', disks: [{ size: '16MiB', content: 'random' }], snapshots: [{ name: 'a' }, { name: 'b' }] },
      ],
    },
  ],
}

/** Bytes of the first disk of `free` and `one` that neither are zero nor compress. */
const FILLED = 32 * MIB
/** What disks of this size are cut into. */
const BLOCK = 256 * KIB

let session: LabSession
let proxy: CutProxy
let config: string
beforeAll(async () => {
  session = await openLabSession({ scenario })
  const [shell] = session.lab.endpoints.ssh
  if (shell === undefined) throw new Error('the lab has no shell')
  proxy = await openCutProxy(`ssh://${shell.address}:${shell.port}`)
  const host = { address: '127.0.0.1', port: Number(new URL(proxy.url).port), keyFile: session.lab.sshKeyFile, hostKey: shell.hostKey }
  for (const name of ['free', 'one']) await session.lab.control.write(name, { areas: [{ offset: 4 * MIB, length: FILLED }], seed: 7 })
  config = join(session.directory, 'vcb.yaml')
  await writeFile(config, JSON.stringify({ ssh: { hosts: { esx1: host } }, resume: { delay: '10ms', attempts: 2, lastAttempts: 2 } }))
}, 120_000)
afterAll(async () => {
  await proxy[Symbol.asyncDispose]()
  await session[Symbol.asyncDispose]()
})

/** One point over `ssh` alone, and how many bytes came from the host for it. */
async function backup(name: string, ...argv: readonly string[]): Promise<{ vm: Json; wireBytes: number }> {
  const before = proxy.received
  const asked = ['backup', name, '--transport', 'ssh', '--no-change-tracking', ...argv, '--init', '--json']
  const result = await session.vcbWith({ VCB_DATASTORES: undefined, VCB_CONFIG: config }, ...asked)
  expect({ exit: result.exit, err: result.err, out: result.exit === 0 ? '' : result.out }).toEqual({ exit: 0, err: '', out: '' })
  return { vm: result.json().vms[0], wireBytes: proxy.received - before }
}

/** Restores the point and compares every disk with what the guest had when the snapshot was made. */
async function expectRight(name: string, vm: Json): Promise<void> {
  const target = join(session.directory, 'out', vm.point)
  const restored = await session.json(['restore', vm.point, '--to-dir', target])
  const taken = (await session.lab.control.digestsAtSnapshot(name)).at(-1)
  const wanted = new Map((taken?.disks ?? []).map((disk) => [disk.label, disk.sha256]))
  expect(restored.disks).toHaveLength(wanted.size)
  for (const disk of restored.disks) {
    const hash = createHash('sha256')
    for await (const piece of createReadStream(join(target, disk.file.replace(/\.vmdk$/, '-flat.vmdk')), { highWaterMark: 1024 * 1024 }))
      hash.update(piece as Buffer)
    expect([disk.label, hash.digest('hex')]).toEqual([disk.label, wanted.get(disk.label)])
  }
  await rm(target, { recursive: true })
}

/** Stock restic on the repository. */
async function restic(...words: readonly string[]): Promise<string> {
  const env = { ...process.env, RESTIC_PASSWORD: session.repositoryPassword, RESTIC_CACHE_DIR: join(session.directory, 'restic-cache') }
  return (await promisify(execFile)(requirePeer('restic'), ['-r', session.repository, ...words], { env })).stdout
}

async function faulty<T>(rules: readonly FaultRule[], work: () => Promise<T>): Promise<T> {
  for (const rule of rules) await session.lab.control.fault(rule)
  try {
    return await work()
  } finally {
    await session.lab.control.clearFaults()
  }
}

const COMPARED = { mode: 'incremental', selectedBy: 'digests', transport: 'ssh', refused: [] }
const bytesOf = (vm: Json, of: 'capacityBytes' | 'readBytes' | 'changedBytes' | 'digestedBytes'): number =>
  vm.disks.reduce((sum: number, disk: Json) => sum + (disk[of] ?? 0), 0)

describe('a disk without change tracking, over the shell of its host', () => {
  test('only blocks whose digests differ travel, and every point is the whole disk', async () => {
    const full = await backup('free', '--mode', 'full')
    expect(full.vm.disks.map((disk: Json) => [disk.mode, disk.selectedBy])).toEqual(full.vm.disks.map(() => ['full', 'allocated']))
    expect(full.wireBytes).toBeGreaterThan(FILLED)
    await expectRight('free', full.vm)

    const nothing = await backup('free')
    expect(nothing.vm.disks).toMatchObject([COMPARED, COMPARED, COMPARED])
    expect(bytesOf(nothing.vm, 'changedBytes')).toBe(0)
    // What is read all the same are the samples: a block of each disk that holds any.
    expect(bytesOf(nothing.vm, 'readBytes')).toBeLessThanOrEqual(3 * BLOCK)
    expect(nothing.wireBytes).toBeLessThan(1.5 * MIB)
    await expectRight('free', nothing.vm)

    const [first, second, third] = full.vm.disks
    await session.lab.control.write('free', {
      disk: first.key,
      areas: [
        { offset: 5 * MIB + 4096, length: 8192 },
        { offset: 21 * MIB - 512, length: 1024 },
      ],
    })
    await session.lab.control.write('free', { disk: second.key, areas: [{ offset: 3 * MIB + 512 * 70, length: 512 * 7 }] })
    await session.lab.control.write('free', { disk: third.key, areas: [{ offset: 17 * MIB, length: 512 }] })
    const next = await backup('free')
    expect(next.vm.disks).toMatchObject([
      { ...COMPARED, changedBytes: 3 * BLOCK },
      { ...COMPARED, changedBytes: 512 * 77 },
      { ...COMPARED, changedBytes: BLOCK },
    ])
    expect(next.vm.disks[0].digestedBytes).toBeGreaterThanOrEqual(FILLED)
    for (const disk of next.vm.disks) {
      expect(disk.modeReason).toContain('; digests of its blocks were compared with the last point')
      expect(disk.modeReason).toMatch(/change id/)
    }
    expect(bytesOf(next.vm, 'capacityBytes')).toBeGreaterThan(75 * MIB)
    expect(next.wireBytes).toBeLessThan(3 * MIB)
    await expectRight('free', next.vm)
    await restic('check', '--read-data')
    await session.expectClean()
  }, 120_000)

  test('the point says how it was made', async () => {
    await backup('one', '--mode', 'full')
    await session.lab.control.write('one', { bytes: 100 })
    const { vm } = await backup('one')
    const shown = await session.vcb('show', vm.point)
    expect(shown.out).toContain('digests compared')
    expect(shown.out).toMatch(/\d\d\.\d MiB were hashed at the source, [\d.]+ [KM]iB transferred/)
    expect((await session.json(['show', vm.point])).disks[0]).toMatchObject(COMPARED)
  }, 120_000)

  for (const name of ['chain', 'cowd']) {
    test(`through redo logs of ${name === 'chain' ? 'SE-sparse' : 'COWD'}, whose grains lie anywhere`, async () => {
      await session.lab.control.write(name, { percent: 10, unit: 4096, seed: 1 })
      await backup(name, '--mode', 'full')
      await session.lab.control.write(name, { areas: [{ offset: 9 * MIB, length: 4096 }] })
      const { vm, wireBytes } = await backup(name)
      expect(vm.disks).toMatchObject([{ ...COMPARED, changedBytes: BLOCK }])
      expect(wireBytes).toBeLessThan(2 * MIB)
      await expectRight(name, vm)
      await session.expectClean()
    }, 120_000)
  }

  test('a disk whose tracking has no answer is compared, and both reasons are told', async () => {
    const tracked = async (): Promise<Json> => {
      const asked = ['backup', 'tracked', '--transport', 'ssh', '--init', '--json']
      const result = await session.vcbWith({ VCB_DATASTORES: undefined, VCB_CONFIG: config }, ...asked)
      expect({ exit: result.exit, err: result.err }).toEqual({ exit: 0, err: '' })
      return result.json().vms[0]
    }
    await tracked()
    await session.lab.control.write('tracked', { bytes: 3 * MIB, seed: 3 })
    expect((await tracked()).disks).toMatchObject([{ mode: 'incremental', selectedBy: 'changedAreas' }])
    await session.lab.control.write('tracked', { bytes: MIB, seed: 4 })
    const vm = await faulty([{ changedAreas: 'cannotGetChanges' }], tracked)
    expect(vm.disks).toMatchObject([COMPARED])
    expect(vm.disks[0].modeReason).toMatch(/^change tracking gave no usable answer: .*damaged.*; digests of its blocks/)
    await expectRight('tracked', vm)
    // The next one builds on it by change tracking again.
    await session.lab.control.write('tracked', { bytes: MIB, seed: 5 })
    const after = await tracked()
    expect(after.disks).toMatchObject([{ mode: 'incremental', selectedBy: 'changedAreas' }])
    await expectRight('tracked', after)
    await session.expectClean()
  }, 120_000)
})

describe('what cannot be compared is read whole, with the reason', () => {
  const expectWhole = async ({ vm, wireBytes }: { vm: Json; wireBytes: number }, reason: RegExp): Promise<void> => {
    expect(vm.disks).toMatchObject([{ mode: 'full', selectedBy: 'allocated', transport: 'ssh' }])
    expect(vm.disks[0].modeReason).toMatch(reason)
    expect(wireBytes).toBeGreaterThan(FILLED)
    await expectRight('one', vm)
    await session.expectClean()
  }

  test('a host without python3', async () => {
    await backup('one', '--mode', 'full')
    await expectWhole(
      await faulty([{ on: 'ssh:exec', object: 'python3', ssh: 'missing' }], () => backup('one')),
      /; not compared by digests: ssh computes none$/,
    )
  }, 120_000)

  test('a destination without digests of blocks', async () => {
    const archives = join(session.directory, 'archives')
    for (const mode of ['full', 'auto']) {
      const { vm } = await backup('one', '--mode', mode, '--repo', `tar:${archives}`)
      if (mode === 'auto')
        expect(vm.disks[0]).toMatchObject({ mode: 'full', modeReason: expect.stringMatching(/an archive keeps digests of its data/) })
    }
    await session.expectClean()
  }, 120_000)

  test('a program that is killed while it tells digests, each time: read over the next transport', async () => {
    const killed: FaultRule = { on: 'ssh:exec', object: 'python3', ssh: 'status', shortAfterBytes: 1500, value: 137 }
    const { vm } = await faulty([killed], () => backup('one', '--transport', 'ssh:https'))
    expect(vm.disks).toMatchObject([{ mode: 'full', selectedBy: 'allocated', transport: 'https', refused: [{ transport: 'ssh' }] }])
    expect(vm.disks[0].modeReason).toMatch(/; not compared by digests: The reading program on esx1 ended/)
    await expectRight('one', vm)
    await session.expectClean()
  }, 120_000)

  test('a parent of which a pack is missing', async () => {
    const packs = join(session.repository, 'data')
    await backup('one', '--mode', 'full')
    // Packs of blocks of the disk, the oldest; the manifest was written last. An index that knows that they are gone is what "rebuild-index" makes.
    let removed = 0
    for (const name of await readdir(packs, { recursive: true })) {
      if ((await stat(join(packs, name))).size < 8 * MIB) continue
      await rm(join(packs, name), { recursive: true })
      removed++
    }
    expect(removed).toBeGreaterThan(0)
    await restic('rebuild-index')
    const result = await backup('one')
    expect(result.vm.disks[0].modeReason).toMatch(/is missing from the repository/)
    await expectWhole(result, /; not compared by digests: /)
  }, 120_000)
})

describe('a connection cut while digests are told', () => {
  test('goes on after the last block that was told', async () => {
    await backup('one', '--mode', 'full')
    await session.lab.control.write('one', { areas: [{ offset: 20 * MIB, length: 3 * MIB }] })
    const rule: FaultRule = { on: 'ssh:exec', object: 'python3', nth: 2, cutAfterBytes: 1500 }
    const { vm, wireBytes } = await faulty([rule], () => backup('one'))
    expect(vm.disks).toMatchObject([{ ...COMPARED, resumed: 1 }])
    expect(wireBytes).toBeLessThan(8 * MIB)
    await expectRight('one', vm)
    await session.expectClean()
  }, 120_000)
})
