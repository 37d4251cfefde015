import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { DEFAULT_TRANSPORTS, type Effect, EFFECT_BEFORE, MIB, TRANSPORT_NAMES } from '../../src/core/index.ts'
import type { FaultRule } from '../../src/lab/index.ts'
import { type Json, type LabSession, openLabSession } from './lab-session.ts'

/* The order of transports, and what a backup says it would do before it does anything. */

const scenario = {
  taskMs: 0,
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
          disks: [{ size: '16MiB', content: 'random' }, { size: '8MiB' }, { size: '12MiB', datastore: 'v5', content: 'random' }],
        },
        { name: 'off', datastore: 'v6', power: 'poweredOff', changeTracking: true, disks: [{ size: '16MiB', content: 'random' }] },
        { name: 'odd', datastore: 'v6', disks: [{ size: '8MiB' }, { size: '8MiB', mode: 'independent_persistent' }] },
      ],
    },
  ],
}

let session: LabSession
beforeAll(async () => {
  session = await openLabSession({ scenario })
  await session.json(['init'])
})
afterAll(() => session[Symbol.asyncDispose]())

/** What a command changes outside itself, without its login and the opening and closing of its own state database. */
async function effectsOf<T>(work: () => Promise<T>): Promise<{ readonly result: T; readonly effects: readonly string[] }> {
  const seen: string[] = []
  const note = (message: unknown): void => {
    const { kind, what, on } = message as Effect
    const own = (kind === 'call' && (what === 'Login' || what === 'Logout')) || on.startsWith(join(session.directory, 'state'))
    if (!own) seen.push(`${kind} ${what} ${on}`)
  }
  subscribe(EFFECT_BEFORE, note)
  try {
    return { result: await work(), effects: seen }
  } finally {
    unsubscribe(EFFECT_BEFORE, note)
  }
}

const plan = async (exit: number, ...argv: readonly string[]): Promise<Json> => session.json(['backup', ...argv, '--dry-run'], exit)

async function faulty<T>(rule: FaultRule, work: () => Promise<T>): Promise<T> {
  const id = await session.lab.control.fault(rule)
  try {
    return await work()
  } finally {
    await session.lab.control.clearFaults(id)
  }
}

describe('the order of transports', () => {
  test('is what nobody has to write, and stands in --help', async () => {
    expect(DEFAULT_TRANSPORTS.join(':')).toBe('san:hotadd:nbdssl:https:lease:ssh')
    const help = (await session.vcb('backup', '--help')).out
    for (const text of [DEFAULT_TRANSPORTS.join(':'), '--dry-run']) expect(help.replaceAll(/\s+/g, ' ')).toContain(text)
    const { vms } = await plan(0, 'web')
    for (const disk of vms[0].disks) expect(disk.verdicts.map((each: Json) => each.transport)).toEqual(DEFAULT_TRANSPORTS)
  })

  test('an unknown name is refused with the known ones, one given twice is tried once', async () => {
    const wrong = await session.vcb('backup', 'web', '--dry-run', '--transport', 'san:nbdsll', '--json')
    expect([wrong.exit, wrong.json().error.message]).toEqual([2, expect.stringContaining('"nbdsll" is not a transport')])
    for (const name of TRANSPORT_NAMES) expect(wrong.json().error.message).toContain(name)
    const { vms } = await plan(0, 'web', '--transport', 'https, san https')
    expect(vms[0].disks[0].verdicts.map((each: Json) => each.transport)).toEqual(['https', 'san'])
  })
})

describe('vcb backup --dry-run', () => {
  test('says what the backup then does: mode, reason, transport and refusals of each disk', async () => {
    for (const [environment, transports] of [
      [{}, 'san:nbdssl:https'],
      [{ VCB_DATASTORES: undefined }, 'san:nbdssl:https'],
      [{ VCB_DATASTORES: undefined }, 'https:lease'],
      [{ VCB_DATASTORES: undefined }, 'lease'],
    ] as const) {
      for (const mode of ['full', 'auto']) {
        const command = ['backup', 'web', '--mode', mode, '--transport', transports, '--json']
        const foreseen = (await session.vcbWith(environment, ...command, '--dry-run')).json().vms[0]
        const done = (await session.vcbWith(environment, ...command)).json().vms[0]
        const shape = (vm: Json): Json => vm.disks.map((disk: Json) => [disk.label, disk.mode, disk.modeReason, disk.transport])
        expect([transports, mode, shape(foreseen)]).toEqual([transports, mode, shape(done)])
        for (const [index, disk] of done.disks.entries()) {
          const refused = foreseen.disks[index].verdicts.filter((each: Json) => !each.ok).map((each: Json) => each.transport)
          expect(refused).toEqual(expect.arrayContaining(disk.refused.map((each: Json) => each.transport)))
          expect(disk.changedBytes).toBeLessThanOrEqual(disk.capacityBytes)
        }
      }
    }
    await session.expectClean()
  }, 120_000)

  test('changes nothing: not one effect passes the seam, and the server’s state is as before', async () => {
    await session.json(['backup', 'web'])
    const before = await session.lab.control.state()
    const points = (await session.json(['points'])).points
    for (const argv of [['web'], ['web', '--mode', 'full'], ['off', 'web', '--transport', 'san:nbdssl:nbd:https:lease']]) {
      const { effects } = await effectsOf(() => plan(0, ...argv))
      expect(effects).toEqual([])
    }
    const after = await session.lab.control.state()
    expect([after.vms, after.tasks, after.leases, after.locks, after.nfc]).toEqual([
      before.vms,
      before.tasks,
      before.leases,
      before.locks,
      before.nfc,
    ])
    expect((await session.json(['points'])).points).toEqual(points)
    // The counter counts: the same without --dry-run passes the seam many times.
    expect((await effectsOf(() => session.json(['backup', 'off']))).effects.length).toBeGreaterThan(10)
    await session.expectClean()
  })

  test('asks for changed areas where that needs no snapshot, and says what is allocated otherwise', async () => {
    await session.json(['backup', 'off', '--mode', 'full'])
    await session.lab.control.write('off', { percent: 10, unit: 65_536 })
    const [vm] = (await plan(0, 'off')).vms
    expect(vm.disks[0]).toMatchObject({ mode: 'incremental', estimate: { by: 'in changed areas' } })
    const text = await session.vcb('backup', 'off', '--dry-run')
    expect(text.out).toMatch(/^off {2}would be backed up: incremental, \S+ MiB at most of 16\.0 MiB/)
    const done = (await session.json(['backup', 'off'])).vms[0].disks[0]
    expect(done.changedBytes).toBe(vm.disks[0].estimate.bytes)
    expect(done.changedBytes).toBeGreaterThan(MIB)
    const [full] = (await plan(0, 'web', '--mode', 'full')).vms
    expect(full.disks.map((disk: Json) => disk.estimate.by)).toEqual(['allocated', 'allocated', 'allocated'])
    // An eighth of a disk with random content is written.
    for (const [index, capacity] of [16, 8, 12].entries())
      expect([index, full.disks[index].estimate.bytes <= (capacity * MIB) / 4]).toEqual([index, true])
    expect(full.disks[0].estimate.bytes).toBeGreaterThan(MIB)
  })

  test('a transport that is away is refused with its reason, and the next one named', async () => {
    await faulty({ on: 'nfc:greeting', nfc: 'maintenance' }, async () => {
      const result = await session.vcbWith({ VCB_DATASTORES: undefined }, 'backup', 'web', '--dry-run', '--json')
      const [vm] = result.json().vms
      expect(vm.disks[0]).toMatchObject({ transport: 'https' })
      for (const name of ['san', 'hotadd', 'nbdssl']) {
        const verdict = vm.disks[0].verdicts.find((each: Json) => each.transport === name)
        expect([name, verdict.ok, verdict.reason.length > 10]).toEqual([name, false, true])
      }
    })
    await session.expectClean()
  })

  test('guards that would refuse are told with the exit status the backup would have', async () => {
    const space = (await plan(10, 'web', '--space-reserve', '1TiB')).vms[0]
    expect(space).toMatchObject({ ok: false, error: { code: 'CAPACITY', message: expect.stringContaining('must stay free') } })
    expect(space.disks).toHaveLength(3)
    const none = (await session.vcbWith({ VCB_DATASTORES: undefined }, 'backup', 'web', '--dry-run', '--transport', 'san', '--json')).json()
    expect(none.vms[0].refusals[0]).toMatchObject({ code: 'UNAVAILABLE', message: expect.stringContaining('No transport can read') })
    const left = (await plan(12, 'odd')).vms[0]
    expect(left).toMatchObject({ ok: true, notProtected: [{ disk: 'scsi0:1' }] })
    const text = await session.vcb('backup', 'odd', '--dry-run')
    expect(text.out).toContain('NOT PROTECTED')
    expect(text.out).toContain('Change tracking would be switched on first')
  })

  test('a repository that --init would make is not made', async () => {
    const environment = { VCB_REPO: join(session.directory, 'no-repository-yet') }
    const { result, effects } = await effectsOf(() => session.vcbWith(environment, 'backup', 'web', '--init', '--dry-run', '--json'))
    expect([result.exit, effects]).toEqual([0, []])
    expect(result.json().vms[0].disks[0].modeReason).toContain('does not exist yet')
    expect((await session.vcbWith(environment, 'backup', 'web', '--dry-run', '--json')).exit).toBe(5)
  })
})

describe('vcb doctor --vm', () => {
  test('shows what every transport says of every disk, configured or not', async () => {
    const { result, effects } = await effectsOf(() => session.vcb('doctor', '--vm', 'web', '--transport', 'nbdssl:san', '--json'))
    expect(effects).toEqual([])
    const [vm] = result.json().vms
    expect(vm.disks.map((disk: Json) => disk.label)).toEqual(['scsi0:0', 'scsi0:1', 'scsi0:2'])
    for (const { verdicts } of vm.disks) {
      const all = [...new Set(['nbdssl', 'san', ...DEFAULT_TRANSPORTS, ...TRANSPORT_NAMES])]
      expect(verdicts.map((each: Json) => each.transport)).toEqual(all)
      expect(verdicts.filter((each: Json) => each.configured).map((each: Json) => [each.transport, each.ok])).toEqual([
        ['nbdssl', true],
        ['san', true],
      ])
      for (const verdict of verdicts) expect((verdict.ok ? verdict.note : verdict.reason).length).toBeGreaterThan(5)
    }
    const text = await session.vcb('doctor', '--vm', 'odd')
    expect(text.out).toMatch(/scsi0:1 .*NOT PROTECTED/)
    expect(text.out).toMatch(/TRANSPORT +VERDICT/)
    await session.expectClean()
  })
})

describe('the choice and every refusal', () => {
  test('are in the point, and vcb show prints them', async () => {
    const [vm] = (await session.vcbWith({ VCB_DATASTORES: undefined }, 'backup', 'web', '--mode', 'full', '--json')).json().vms
    expect(vm.disks[0]).toMatchObject({ transport: 'nbdssl', refused: [{ transport: 'san' }, { transport: 'hotadd' }] })
    const shown = (await session.vcb('show', vm.point)).out
    for (const disk of vm.disks) {
      expect(shown).toContain(`${disk.label}: read by nbdssl: ${disk.transportReason}`)
      for (const { transport, reason } of disk.refused) expect(shown).toContain(`${disk.label}: ${transport} was refused: ${reason}`)
    }
    await session.expectClean()
  })

  test('an incremental that no way but a whole one is left for keeps what the others said', async () => {
    const argv = ['backup', 'web', '--mode', 'incremental', '--transport', 'san:lease', '--json']
    const [vm] = (await session.vcbWith({ VCB_DATASTORES: undefined }, ...argv)).json().vms
    for (const disk of vm.disks)
      expect(disk).toMatchObject({ mode: 'full', modeReason: 'only lease works, which reads whole disks', refused: [{ transport: 'san' }] })
    await session.expectClean()
  })
})
