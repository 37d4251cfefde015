import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { FaultRule } from '../../src/lab/index.ts'
import { type Json, type LabSession, openLabSession } from './lab-session.ts'

const scenario = {
  taskMs: 0,
  recordDigests: true,
  datacenters: [
    {
      name: 'DC',
      hosts: [{ name: 'esx1', ssh: true }, { name: 'esx2' }],
      datastores: [
        { name: 'v6', type: 'VMFS6' },
        { name: 'v5 old', type: 'VMFS5' },
      ],
      vms: [
        {
          name: "web's $(one)",
          host: 'esx1',
          datastore: 'v6',
          changeTracking: true,
          disks: [
            { size: '16MiB', content: 'random' },
            { size: 3 * 1024 * 1024 + 512 * 77, content: 'random' },
            { size: '12MiB', thin: false, datastore: 'v5 old', content: 'random' },
          ],
        },
        {
          name: 'chains',
          host: 'esx1',
          datastore: 'v6',
          disks: [{ size: '8MiB', content: 'random' }],
          snapshots: [{ name: 'a' }, { name: 'b' }],
        },
        {
          name: 'cowd',
          host: 'esx1',
          datastore: 'v5 old',
          disks: [{ size: '8MiB', content: 'random' }],
          snapshots: [{ name: 'a' }, { name: 'b' }],
        },
        { name: 'one', host: 'esx1', datastore: 'v5 old', changeTracking: true, disks: [{ size: '24MiB', content: 'random' }] },
        { name: 'elsewhere', host: 'esx2', datastore: 'v6', disks: [{ size: '1MiB' }] },
      ],
    },
  ],
}

let session: LabSession
let config: string
beforeAll(async () => {
  session = await openLabSession({ scenario })
  config = await writeConfig('vcb.yaml', {})
})
afterAll(() => session[Symbol.asyncDispose]())

/** A vcb.yaml that lets us into esx1. */
async function writeConfig(name: string, change: object, ssh: object = {}, resume: object = {}): Promise<string> {
  const [shell] = session.lab.endpoints.ssh
  const path = join(session.directory, name)
  const host = { address: shell?.address, port: shell?.port, keyFile: session.lab.sshKeyFile, hostKey: shell?.hostKey, ...change }
  await writeFile(path, JSON.stringify({ ssh: { hosts: { esx1: host }, ...ssh }, resume: { delay: '10ms', ...resume } }))
  return path
}

/** `vcb … --json` with no datastore mounted. */
const vcb = (file: string, ...argv: readonly string[]) => session.vcbWith({ VCB_DATASTORES: undefined, VCB_CONFIG: file }, ...argv)

async function backup(...argv: readonly string[]): Promise<Json> {
  return backupWith(config, ...argv)
}

async function backupWith(file: string, ...argv: readonly string[]): Promise<Json> {
  const result = await vcb(file, 'backup', ...argv, '--init', '--json')
  expect({ exit: result.exit, err: result.err, out: result.exit === 0 ? '' : result.out }).toEqual({ exit: 0, err: '', out: '' })
  return result.json().vms[0]
}

/** Restores the point and compares every disk with what the guest had when the snapshot was made. */
async function expectRight(name: string, vm: Json, directory: string): Promise<void> {
  const target = join(session.directory, 'out', directory)
  const restored = await session.json(['restore', vm.point, '--to-dir', target])
  const taken = (await session.lab.control.digestsAtSnapshot(name)).at(-1)
  const wanted = new Map((taken?.disks ?? []).map((disk) => [disk.label, disk.sha256]))
  expect(restored.disks).toHaveLength(wanted.size)
  for (const disk of restored.disks)
    expect([disk.label, await digestOfFile(join(target, disk.file.replace(/\.vmdk$/, '-flat.vmdk')))]).toEqual([
      disk.label,
      wanted.get(disk.label),
    ])
}

async function digestOfFile(path: string): Promise<string> {
  const hash = createHash('sha256')
  for await (const piece of createReadStream(path, { highWaterMark: 1024 * 1024 })) hash.update(piece as Buffer)
  return hash.digest('hex')
}

async function faulty<T>(rule: FaultRule, work: () => Promise<T>): Promise<T> {
  const id = await session.lab.control.fault(rule)
  try {
    return await work()
  } finally {
    await session.lab.control.clearFaults(id)
  }
}

const WITHOUT_PYTHON: FaultRule = { on: 'ssh:exec', object: 'python3', ssh: 'missing' }
const WITHOUT_DD: FaultRule = { on: 'ssh:exec', object: 'dd', ssh: 'missing' }
const SHELL_NAME = "web's $(one)"

describe('a backup through the shell of the host', () => {
  for (const program of ['python3', 'dd'] as const) {
    test(`by ${program}: full and incremental of flat, thick and odd disks are what the guest had`, async () => {
      const work = async (): Promise<void> => {
        const full = await backup('web*', '--mode', 'full', '--transport', 'ssh')
        expect(full.disks.map((disk: Json) => [disk.mode, disk.transport, disk.refused])).toEqual(full.disks.map(() => ['full', 'ssh', []]))
        expect(full.disks[0].transportReason).toContain(`read by ${program}`)
        await expectRight(SHELL_NAME, full, `${program}-full`)
        for (const disk of await session.lab.control.sha256(SHELL_NAME))
          await session.lab.control.write(SHELL_NAME, { percent: 3, unit: 65_536, disk: disk.key })
        const next = await backup('web*', '--mode', 'incremental', '--transport', 'ssh')
        expect(next.disks.map((disk: Json) => [disk.mode, disk.transport])).toEqual(next.disks.map(() => ['incremental', 'ssh']))
        await expectRight(SHELL_NAME, next, `${program}-incremental`)
        await session.expectClean()
      }
      await (program === 'dd' ? faulty(WITHOUT_PYTHON, work) : work())
    })

    for (const name of ['chains', 'cowd']) {
      test(`by ${program}: a chain of ${name === 'cowd' ? 'COWD' : 'SE-sparse'} links`, async () => {
        await session.lab.control.write(name, { percent: 20, unit: 4096 })
        const work = () => backup(name, '--mode', 'full', '--transport', 'ssh')
        const full = await (program === 'dd' ? faulty(WITHOUT_PYTHON, work) : work())
        expect(full.disks[0]).toMatchObject({ transport: 'ssh', refused: [] })
        await expectRight(name, full, `${program}-${name}`)
        await session.expectClean()
      })
    }
  }

  test('goes on by itself after a cut in mid-read, or over the next transport', async () => {
    const cut: FaultRule = { on: 'ssh:exec', object: 'python3', nth: 2, cutAfterBytes: 1_000_000 }
    const resumed = await faulty(cut, () => backup('one', '--mode', 'full', '--transport', 'ssh:https'))
    expect(resumed.disks[0]).toMatchObject({ transport: 'ssh', refused: [], resumed: 1 })
    await expectRight('one', resumed, 'resumed')
    // A login by key is two requests: the third is of the connection that is made after the cut.
    const work = async (): Promise<Json> => {
      const gone = await session.lab.control.fault({ on: 'ssh:exec', object: 'python3', nth: 2, cutAfterBytes: 1_000_000 })
      const away = await session.lab.control.fault({ on: 'ssh:login', ssh: 'refuse', nth: 3 })
      try {
        return await backup('one', '--mode', 'full', '--transport', 'ssh:https')
      } finally {
        await session.lab.control.clearFaults(gone)
        await session.lab.control.clearFaults(away)
      }
    }
    const other = await work()
    expect(other.disks[0]).toMatchObject({
      transport: 'https',
      refused: [{ transport: 'ssh', reason: expect.stringContaining('failed while reading') }],
    })
    await expectRight('one', other, 'gone-on')
    await session.expectClean()
  })

  test('a file that is locked in mid-read is tried again, and then left to the next transport', async () => {
    const busy: FaultRule = { on: 'ssh:exec', object: 'python3', ssh: 'busy', value: 6 }
    const once = await faulty({ ...busy, nth: 2 }, () => backup('one', '--mode', 'full', '--transport', 'ssh'))
    expect(once.disks[0]).toMatchObject({
      transport: 'ssh',
      refused: [],
      resumed: 1,
      transportReason: expect.stringContaining('has it locked'),
    })
    await expectRight('one', once, 'busy-once')
    const few = await writeConfig('few.yaml', {}, {}, { attempts: 1, lastAttempts: 1 })
    for (const rules of [
      // Each opening proves the disk and reads a block or two: a read fails again before much is done.
      [{ ...busy, value: 2 }],
      [WITHOUT_PYTHON, { on: 'ssh:exec', object: 'dd', ssh: 'status', value: 1, message: 'Device or resource busy' }],
    ] as const) {
      for (const rule of rules) await session.lab.control.fault(rule)
      const other = await backupWith(few, 'one', '--mode', 'full', '--transport', 'ssh:https')
      await session.lab.control.clearFaults()
      expect(other.disks[0]).toMatchObject({
        transport: 'https',
        refused: [{ transport: 'ssh', reason: expect.stringContaining('has it locked') }],
      })
      await expectRight('one', other, `busy-${other.point.slice(0, 8)}`)
    }
    await session.expectClean()
  })

  test('a host that allows one session is read through that one', async () => {
    for (const rules of [[], [WITHOUT_PYTHON]]) {
      for (const rule of [...rules, { on: 'ssh:session', ssh: 'sessions', value: 1 }] as const) await session.lab.control.fault(rule)
      const vm = await backup('web*', '--mode', 'full', '--transport', 'ssh')
      await session.lab.control.clearFaults()
      expect(vm.disks.map((disk: Json) => [disk.transport, disk.refused, disk.resumed])).toEqual(vm.disks.map(() => ['ssh', [], undefined]))
      await expectRight(SHELL_NAME, vm, `one-session-${vm.point.slice(0, 8)}`)
    }
    await session.expectClean()
  })

  test('never takes a short or a broken answer for the disk', async () => {
    for (const rules of [
      [{ on: 'ssh:exec', object: 'python3', ssh: 'status', shortAfterBytes: 20_000, value: 0 }],
      [{ on: 'ssh:exec', object: 'python3', ssh: 'status', value: 1 }, WITHOUT_DD],
      [WITHOUT_PYTHON, { on: 'ssh:exec', object: 'dd', shortAfterBytes: 100_000 }],
      [WITHOUT_PYTHON, { on: 'ssh:exec', object: 'dd', ssh: 'status', value: 1, message: 'Input/output error' }],
      [WITHOUT_PYTHON, { on: 'ssh:exec', object: 'stat', ssh: 'missing' }],
    ] as const satisfies readonly (readonly FaultRule[])[]) {
      for (const rule of rules) await session.lab.control.fault(rule)
      const few = await writeConfig('few.yaml', {}, {}, { attempts: 1, lastAttempts: 1 })
      const vm = await backupWith(few, 'one', '--mode', 'full', '--transport', 'ssh:https')
      await session.lab.control.clearFaults()
      expect([rules, vm.disks[0].transport]).toEqual([rules, 'https'])
      await expectRight('one', vm, `broken-${vm.point.slice(0, 8)}`)
    }
    await session.expectClean()
  }, 120_000)

  test('a slow host is waited for', async () => {
    const vm = await faulty({ on: 'ssh:exec', delayMs: 1500, times: 2 }, () => backup('one', '--mode', 'full', '--transport', 'ssh'))
    expect(vm.disks[0].transport).toBe('ssh')
    await session.expectClean()
  })

  test('logs in by password when it is asked for one', async () => {
    const file = await writeConfig('password.yaml', { keyFile: undefined, passwordFile: session.lab.passwordFile })
    expect((await backupWith(file, 'one', '--mode', 'full', '--transport', 'ssh')).disks[0].transport).toBe('ssh')
  })

  test('is refused, with what to do, where the key changed, the login is wrong or nothing is configured', async () => {
    const refusal = async (file: string, rule?: FaultRule, vm = 'one'): Promise<string> => {
      const work = () => backupWith(file, vm, '--mode', 'full', '--transport', 'ssh:https')
      const done = await (rule === undefined ? work() : faulty(rule, work))
      expect(done.disks[0].transport).toBe('https')
      return done.disks[0].refused[0].reason
    }
    expect(await refusal(config, { on: 'ssh:connect', ssh: 'otherHostKey' })).toMatch(
      /^The SSH host key of esx1 is SHA256:\S{43} \(ssh-ed25519\), pinned is SHA256:\S{43}\.$/,
    )
    expect(await refusal(config, { on: 'ssh:login', ssh: 'refuse' })).toBe('esx1 refused the SSH login.')
    expect(await refusal(config, { on: 'ssh:connect', cut: 'before' })).toContain('SSH')
    expect(await refusal(await writeConfig('unpinned.yaml', { hostKey: undefined }))).toMatch(
      /^The SSH host key of esx1 is not pinned; it shows SHA256:\S{43} \(ssh-ed25519\)\.$/,
    )
    expect(await refusal(config, undefined, 'elsewhere')).toBe('SSH to esx2 is not configured.')
    await session.expectClean()
  })

  test('doctor says who is let in, by which program, and what to pin', async () => {
    const findings = async (file: string): Promise<Json[]> =>
      (await vcb(file, 'doctor', '--json')).json().findings.filter((each: Json) => each.check.startsWith('SSH'))
    expect(await findings(config)).toEqual([{ check: 'SSH of esx1', result: 'ok', detail: expect.stringContaining('python3') }])
    expect(await faulty(WITHOUT_PYTHON, () => findings(config))).toMatchObject([
      { result: 'warning', detail: expect.stringContaining('dd reads') },
    ])
    const unpinned = await findings(await writeConfig('unpinned.yaml', { hostKey: undefined }))
    expect(unpinned).toMatchObject([
      { result: 'warning', detail: expect.stringContaining('it shows SHA256:'), next: expect.stringContaining('hostKey') },
    ])
    expect(await faulty({ on: 'ssh:login', ssh: 'refuse' }, () => findings(config))).toMatchObject([
      { result: 'warning', detail: 'esx1 refused the SSH login.' },
    ])
  })
})
