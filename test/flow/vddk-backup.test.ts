import { execFile } from 'node:child_process'
import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { describePeers } from '../peer.ts'
import { makeVddkStandIn } from '../vddk-stand-in.ts'
import { type Json, type LabSession, openLabSession } from './lab-session.ts'
import { digestsOver, leasesOf, newTarget } from './mount-world.ts'

/* The real nbdkit, and in place of its plugin for VMware's library a stand-in. */
const scenario = {
  taskMs: 0,
  recordDigests: true,
  datacenters: [
    {
      name: 'DC',
      hosts: [{ name: 'esx1' }],
      datastores: [
        { name: 'v6', type: 'VMFS6' },
        { name: 'v5', type: 'VMFS5' },
      ],
      vms: [
        {
          name: 'web',
          datastore: 'v6',
          changeTracking: true,
          disks: [
            { size: '12MiB', content: 'random' },
            { size: 3 * 1024 * 1024 + 512 * 77, content: 'random', datastore: 'v5' },
          ],
        },
      ],
    },
  ],
}

describePeers(['nbdkit', 'qemu-img'], 'the transport vddk', ({ nbdkit }) => {
  let session: LabSession
  let library: string
  beforeAll(async () => {
    session = await openLabSession({ scenario })
    library = join(session.directory, 'vddk')
    const { nbdkit: program } = await makeVddkStandIn(library, session.lab, nbdkit)
    await writeFile(join(session.directory, 'vcb.yaml'), `vddk:\n  libdir: ${library}\n  nbdkit: ${program}\n  modes: nbdssl\n`)
  })
  afterAll(() => session[Symbol.asyncDispose]())

  const configured = (): Record<string, string | undefined> => ({
    TMPDIR: session.directory,
    VCB_DATASTORES: undefined,
    VCB_CONFIG: join(session.directory, 'vcb.yaml'),
  })

  async function backup(transports: string, exit = 0): Promise<Json> {
    const result = await session.vcbWith(configured(), 'backup', 'web', '--transport', transports, '--init', '--json')
    expect({ exit: result.exit, err: result.err, out: result.exit === exit ? '' : result.out }).toEqual({ exit, err: '', out: '' })
    return result.json().vms[0]
  }

  async function expectRight(vm: Json, directory: string): Promise<void> {
    const target = join(session.directory, 'out', directory)
    const restored = await session.json(['restore', vm.point, '--to-dir', target])
    const taken = (await session.lab.control.digestsAtSnapshot('web')).at(-1)
    const wanted = new Map((taken?.disks ?? []).map((disk) => [disk.label, disk.sha256]))
    expect(restored.disks).toHaveLength(2)
    for (const disk of restored.disks) {
      const hash = createHash('sha256')
      for await (const piece of createReadStream(join(target, disk.file.replace(/\.vmdk$/, '-flat.vmdk')), { highWaterMark: 1024 * 1024 }))
        hash.update(piece as Buffer)
      expect([disk.label, hash.digest('hex')]).toEqual([disk.label, wanted.get(disk.label)])
    }
  }

  test('reads a full and the changed areas of an incremental, and leaves nothing', async () => {
    const full = await backup('vddk')
    expect(full.disks.map((disk: Json) => [disk.transport, disk.mode, disk.transportReason])).toEqual([
      ['vddk', 'full', 'VDDK 8.0.2 through nbdkit, first choice'],
      ['vddk', 'full', 'VDDK 8.0.2 through nbdkit, first choice'],
    ])
    await expectRight(full, 'full')
    await session.lab.control.write('web', { records: 4 })
    const next = await backup('vddk')
    expect(next.disks.map((disk: Json) => [disk.transport, disk.mode])).toEqual([
      ['vddk', 'incremental'],
      ['vddk', 'incremental'],
    ])
    await expectRight(next, 'incremental')
    await session.expectClean()
  })

  test('hands the password over a pipe, never in an argument', async () => {
    const said = await readFile(join(library, 'arguments'), 'utf8')
    expect(said).toContain('password=-3')
    expect(said).not.toContain((await readFile(session.lab.passwordFile, 'utf8')).trim())
    expect(said).toMatch(/^thumbprint=(?:[0-9A-F]{2}:){19}[0-9A-F]{2}$/m)
    expect(said).toMatch(/^vm=moref=vm-\d+$/m)
    expect(said).toMatch(/^snapshot=snapshot-\d+$/m)
  })

  test('a library that refuses to open falls to the next transport, with its own words', async () => {
    await writeFile(join(library, 'refuse'), '')
    try {
      const vm = await backup('vddk:nbdssl')
      for (const disk of vm.disks) {
        expect(disk.transport).toBe('nbdssl')
        expect(disk.refused[0]).toMatchObject({ transport: 'vddk' })
        expect(disk.refused[0].reason).toContain('Unknown error')
      }
    } finally {
      await rm(join(library, 'refuse'))
    }
    await session.expectClean()
  })

  test('a library killed in mid-read is opened again and goes on', async () => {
    await session.lab.control.write('web', { records: 4 })
    await writeFile(join(library, 'break'), '')
    const vm = await backup('vddk')
    expect(vm.disks.map((disk: Json) => disk.transport)).toEqual(['vddk', 'vddk'])
    expect(vm.disks.some((disk: Json) => disk.resumed === 1)).toBe(true)
    await expectRight(vm, 'resumed')
    await session.expectClean()
  })

  test('a directory without the library is one refusal', async () => {
    const empty = join(session.directory, 'other.yaml')
    await writeFile(empty, `vddk:\n  libdir: ${session.directory}/nothing\n  nbdkit: ${nbdkit}\n`)
    const result = await session.vcbWith({ ...configured(), VCB_CONFIG: empty }, 'backup', 'web', '--transport', 'vddk:https', '--json')
    expect(result.exit).toBe(0)
    const [vm] = result.json().vms
    expect(vm.disks[0].transport).toBe('https')
    expect(vm.disks[0].refused).toEqual([{ transport: 'vddk', reason: expect.stringMatching(/nbdkit|vddk/) }])
    await session.expectClean()
  })

  test('vddk without a configured library is one refusal', async () => {
    const result = await session.vcbWith({ VCB_DATASTORES: undefined }, 'backup', 'web', '--transport', 'vddk:https', '--json')
    expect(result.exit).toBe(0)
    const [vm] = result.json().vms
    expect(vm.disks[0].refused).toEqual([{ transport: 'vddk', reason: "no vddk.libdir is configured, the directory of VMware's library" }])
  })

  test('a mount goes on when the NBD server that it reads from is killed in mid-read', async () => {
    const { exit, json } = await session.vcbWith(configured(), 'mount', 'web', await newTarget(session), '--transport', 'vddk', '--json')
    expect([exit, json().disks.map((disk: Json) => disk.transport)]).toEqual([0, ['vddk', 'vddk']])
    const [{ holder }] = await leasesOf(session)
    const servers = async (): Promise<readonly number[]> =>
      (await promisify(execFile)('pgrep', ['-P', String(holder), '-x', 'nbdkit']).catch(() => ({ stdout: '' }))).stdout
        .split('\n')
        .filter((line) => line !== '')
        .map(Number)
    const before = await servers()
    expect(before).toHaveLength(2)
    const wanted = await session.frozenDigests('web')
    const reading = digestsOver(session, json())
    for (const pid of before) process.kill(pid, 'SIGKILL')
    expect(await reading).toEqual(wanted)
    expect(await digestsOver(session, json())).toEqual(wanted)
    expect(await session.json(['unmount', json().lease])).toMatchObject({ ended: true, held: [] })
    expect(await servers()).toEqual([])
    await session.expectClean()
  })
})
