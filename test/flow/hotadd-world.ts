import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect } from 'vitest'
import { Agent } from '../../src/agent/agent.ts'
import { loadConfig } from '../../src/agent/index.ts'
import { silentLog, systemClock } from '../../src/core/index.ts'
import type { FaultRule, LabState } from '../../src/lab/index.ts'
import { type Json, type LabSession, openLabSession } from './lab-session.ts'

export type WorldOptions = {
  /** `file`: what the guest sees are plain files, also where loop devices could be made. */
  readonly proxy?: true | 'file'
  /** How long a disk may take to appear. */
  readonly appear?: string
  readonly proxyDisks?: readonly object[]
  readonly enableUuid?: boolean
  /** VMs beside those of every world. */
  readonly vms?: readonly object[]
}

/** Disks of every kind that a snapshot can freeze: flat thin and thick, with COWD and SE-sparse links above them, and one that is no whole number of 4 KiB. */
export const hotaddScenario = ({
  proxy = true,
  proxyDisks = [{ size: '4MiB', content: 'random' }],
  enableUuid = true,
  vms = [],
}: WorldOptions) => ({
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
          name: 'proxy',
          datastore: 'v5',
          proxy,
          ...(enableUuid ? { extraConfig: { 'disk.EnableUUID': 'TRUE' } } : {}),
          disks: proxyDisks,
        },
        {
          name: 'web',
          datastore: 'v6',
          changeTracking: true,
          disks: [
            { size: '16MiB', content: 'random' },
            { size: '8MiB', thin: false, content: 'random' },
            { size: 5 * 1024 * 1024 + 512, datastore: 'v5', content: 'random' },
          ],
        },
        {
          name: 'cowd',
          datastore: 'v5',
          changeTracking: true,
          disks: [{ size: '12MiB', content: 'random' }],
          snapshots: [{ name: 'a' }, { name: 'b' }],
        },
        {
          name: 'se',
          datastore: 'v6',
          changeTracking: true,
          disks: [{ size: '12MiB', content: 'random' }],
          snapshots: [{ name: 'a' }, { name: 'b' }],
        },
        { name: 'one', datastore: 'v6', changeTracking: true, disks: [{ size: '6MiB', content: 'random' }] },
        { name: 'big', datastore: 'v6', changeTracking: true, disks: [{ size: '80MiB' }] },
        { name: 'off', datastore: 'v6', power: 'poweredOff', disks: [{ size: '6MiB' }] },
        ...vms,
      ],
    },
  ],
})

/** A lab with a proxy VM, and this process as the inside of it. */
export type HotaddWorld = AsyncDisposable & {
  readonly session: LabSession
  /** `vcb backup … --json` over hotadd alone unless `--transport` says otherwise; ends with `exit`. */
  backup(argv: readonly string[], exit?: number): Promise<Json>
  vm(name: string): Promise<LabState['vms'][number]>
  faulty<T>(rule: FaultRule, work: () => Promise<T>): Promise<T>
  /** Restores the point and compares every disk with what the guest had when the snapshot was made. */
  expectRight(name: string, vm: Json): Promise<void>
  /** No snapshot, no attached disk, no node in the guest, no redo log of one, no image, no open job. */
  expectNothingLeft(): Promise<void>
}

export async function openHotaddWorld(options: WorldOptions = {}): Promise<HotaddWorld> {
  const { appear = '2s', proxyDisks = [{}] } = options
  const session = await openLabSession({ scenario: hotaddScenario(options) })
  const { control } = session.lab
  const vm = async (name: string): Promise<LabState['vms'][number]> => {
    const found = (await control.state()).vms.find((each) => each.name === name)
    if (found === undefined) throw new Error(`no VM ${name}`)
    return found
  }
  const { guest } = await vm('proxy')
  const config = join(session.directory, 'vcb.yaml')
  await writeFile(config, JSON.stringify({ hotadd: { proxy: 'proxy', sysfs: guest?.sysfs, devices: guest?.devices, appear } }))
  session.environment['VCB_CONFIG'] = config
  let restored = 0
  return {
    session,
    vm,
    async backup(argv, exit = 0) {
      const result = await session.vcb('backup', '--transport', 'hotadd', ...argv, '--init', '--json')
      expect({ exit: result.exit, out: result.exit === exit ? '' : `${result.out}${result.err}` }).toEqual({ exit, out: '' })
      return result.json()
    },
    async faulty(rule, work) {
      const id = await control.fault(rule)
      try {
        return await work()
      } finally {
        await control.clearFaults(id)
      }
    },
    async expectRight(name, point) {
      const target = join(session.directory, 'out', `${name}-${++restored}`)
      const done = await session.json(['restore', point.point, '--to-dir', target])
      const wanted = new Map(((await control.digestsAtSnapshot(name)).at(-1)?.disks ?? []).map((disk) => [disk.label, disk.sha256]))
      expect(done.disks).toHaveLength(wanted.size)
      for (const disk of done.disks)
        expect([disk.label, await digestOfFile(join(target, disk.file.replace(/\.vmdk$/, '-flat.vmdk')))]).toEqual([
          disk.label,
          wanted.get(disk.label),
        ])
    },
    async expectNothingLeft() {
      await session.expectClean()
      const state = await vm('proxy')
      expect(state.disks.filter((disk) => disk.attached)).toEqual([])
      expect(state.guest?.disks).toHaveLength(proxyDisks.length)
      const shown = ['bus/scsi/devices', 'block'].map((path) => readdir(join(state.guest?.sysfs ?? '', path)))
      expect((await Promise.all(shown)).flat()).toHaveLength(proxyDisks.length)
      expect(await readdir(state.guest?.devices ?? '')).toEqual(['disk'])
      expect(await loopsBelow(session.directory)).toEqual([])
      for (const directory of Object.values(session.lab.datastores))
        expect((await readdir(directory, { recursive: true })).filter((name) => name.includes('.REDO_'))).toEqual([])
      expect(await readdir(join(session.lab.directory, 'proxy', state.moref, 'images'))).toEqual([])
    },
    [Symbol.asyncDispose]: () => session[Symbol.asyncDispose](),
  }
}

/** What a command of this world would use, for tests of what a flow calls. */
export async function openAgent({ session }: HotaddWorld, more: Readonly<Record<string, string>> = {}): Promise<Agent> {
  const config = await loadConfig({}, { ...session.environment, ...more })
  return Agent.open(config, { clock: systemClock, log: silentLog, signal: new AbortController().signal })
}

/** Loop devices of this machine that stand on a file below a directory. */
async function loopsBelow(directory: string): Promise<readonly string[]> {
  const found: string[] = []
  for (const name of (await readdir('/sys/block')).filter((each) => each.startsWith('loop'))) {
    const backing = await readFile(`/sys/block/${name}/loop/backing_file`, 'utf8').catch(() => '')
    if (backing.startsWith(directory)) found.push(name)
  }
  return found
}

export async function digestOfFile(path: string): Promise<string> {
  const hash = createHash('sha256')
  for await (const piece of createReadStream(path, { highWaterMark: 1024 * 1024 })) hash.update(piece as Buffer)
  return hash.digest('hex')
}
