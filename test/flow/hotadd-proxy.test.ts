import { mkdir, readdir, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { runCommand } from '../storm/command.ts'
import { type HotaddWorld, openHotaddWorld } from './hotadd-world.ts'
import type { Json } from './lab-session.ts'

/* What the proxy VM is like: full, without uuids, another VM, no VM; and what "vcb doctor" and "vcb orphans" say of it. */
const disks = (count: number, bus: number): object[] => Array.from({ length: count }, () => ({ size: '64KiB', bus }))

const findings = async (world: HotaddWorld, environment: Readonly<Record<string, string | undefined>> = {}): Promise<Json[]> => {
  const result = await world.session.vcbWith(environment, 'doctor', '--json')
  return result.json().findings.filter(({ check }: Json) => /hotadd/.test(check))
}
/** A backup by hotadd or else nbdssl; its only disk. */
const fallsBack = async (world: HotaddWorld): Promise<Json> =>
  (await world.backup(['one', '--mode', 'full', '--transport', 'hotadd:nbdssl'])).vms[0].disks[0]

/** The same world with other words in `hotadd` of vcb.yaml. */
async function configured(world: HotaddWorld, hotadd: object): Promise<void> {
  const config = join(world.session.directory, 'other.yaml')
  await writeFile(config, JSON.stringify({ hotadd }))
  world.session.environment['VCB_CONFIG'] = config
}

describe('a proxy VM', () => {
  test('whose guest shows plain files serves as well as one with devices', async () => {
    await using world = await openHotaddWorld({ proxy: 'file' })
    const run = await world.backup(['web', '--mode', 'full'])
    expect(run.vms[0].disks.map((disk: Json) => disk.transport)).toEqual(['hotadd', 'hotadd', 'hotadd'])
    await world.expectRight('web', run.vms[0])
    await world.expectNothingLeft()
  })

  test('whose first controller is full gets another, which stays for the next disk', async () => {
    await using world = await openHotaddWorld({ proxyDisks: disks(15, 0) })
    for (const mode of ['full', 'incremental']) {
      const run = await world.backup(['one', '--mode', mode])
      expect(run.vms[0].disks[0]).toMatchObject({ transport: 'hotadd', refused: [] })
      await world.expectRight('one', run.vms[0])
      await world.expectNothingLeft()
    }
    expect((await findings(world)).map(({ result, detail }) => [result, detail])).toEqual([
      ['ok', 'disks are attached to proxy, this machine'],
    ])
  })

  test('whose controllers are all full is passed over, with the reason', async () => {
    await using world = await openHotaddWorld({ proxyDisks: [0, 1, 2, 3].flatMap((bus) => disks(15, bus)) })
    expect(await fallsBack(world)).toMatchObject({
      transport: 'nbdssl',
      refused: [{ transport: 'hotadd', reason: 'the proxy VM proxy has no SCSI or NVMe slot free' }],
    })
    await world.expectNothingLeft()
    expect((await findings(world)).map(({ result, detail, next }) => [result, detail, next])).toEqual([
      ['warning', expect.stringContaining('has no SCSI or NVMe slot free'), expect.stringContaining('leave units free')],
    ])
  })

  test('without disk.EnableUUID is passed over: nothing is found by its order', async () => {
    await using world = await openHotaddWorld({ enableUuid: false })
    expect(await fallsBack(world)).toMatchObject({
      transport: 'nbdssl',
      refused: [{ transport: 'hotadd', reason: expect.stringContaining('no disk.EnableUUID = TRUE') }],
    })
    await world.expectNothingLeft()
    expect((await findings(world)).map(({ result, next }) => [result, next])).toEqual([
      ['warning', expect.stringContaining('Set disk.EnableUUID = TRUE')],
    ])
  })

  test('on which the user lacks privileges is passed over, and doctor names them', async () => {
    await using world = await openHotaddWorld()
    const { user, passwordFile } = world.session.lab.restricted
    const found = await findings(world, { VCB_USER: user, VCB_PASSWORD_FILE: passwordFile })
    expect(found.map(({ check, result, detail }) => [check, result, detail])).toEqual([
      ['privileges for hotadd', 'warning', expect.stringMatching(/on the proxy VM proxy: .*AddExistingDisk.*RemoveDisk/)],
    ])
  })
})

describe('a machine', () => {
  test('that is no VM is passed over in one sentence, and doctor finds nothing to repair', async () => {
    await using world = await openHotaddWorld()
    const nowhere = join(world.session.directory, 'nowhere')
    await mkdir(nowhere)
    await configured(world, { sysfs: nowhere, devices: nowhere })
    expect((await fallsBack(world)).refused).toEqual([
      { transport: 'hotadd', reason: 'this machine is not a VM of vSphere (its vendor is nothing)' },
    ])
    expect((await findings(world)).map(({ result, detail }) => [result, detail])).toEqual([
      ['ok', 'not used: this machine is not a VM of vSphere (its vendor is nothing)'],
    ])
    await configured(world, { proxy: 'proxy', sysfs: nowhere, devices: nowhere })
    expect((await findings(world)).map(({ result, next }) => [result, next])).toEqual([
      ['warning', expect.stringContaining('Correct hotadd.proxy')],
    ])
  })

  test('is never taken for a VM that only the configuration names', async () => {
    await using world = await openHotaddWorld()
    const { guest } = await world.vm('proxy')
    await configured(world, { proxy: 'off', sysfs: guest?.sysfs, devices: guest?.devices })
    expect((await fallsBack(world)).refused).toEqual([
      { transport: 'hotadd', reason: 'this machine is the VM proxy, not the configured proxy off' },
    ])
    expect((await world.vm('off')).disks.some((disk) => disk.attached)).toBe(false)
  })
})

test('what a killed backup attached is found and detached by "vcb orphans" when its journal is lost', async () => {
  await using world = await openHotaddWorld()
  const { session } = world
  await session.json(['init'])
  await session.json(['recover'])
  const ended = await runCommand(['backup', 'one', '--mode', 'full', '--transport', 'hotadd'], session.environment, {
    strikes: [{ at: 3, phase: 'after', delayMs: 0, what: 'self', kinds: ['call'] }],
    boundMs: 60_000,
  })
  expect(ended.killed?.what).toBe('ReconfigVM_Task')
  // In use as long as the journal knows the job.
  const known = await session.json(['orphans'], 12)
  expect(known.orphans.map(({ kind, standing }: Json) => [kind, standing]).toSorted()).toEqual([
    ['disk', 'recoverable'],
    ['snapshot', 'recoverable'],
  ])
  const state = session.environment['VCB_STATE_DIR'] ?? ''
  for (const name of await readdir(state)) if (name.startsWith('state.sqlite')) await rm(join(state, name))
  // A lock of a dead process in the repository is restic's to let expire.
  for (const name of await readdir(join(session.repository, 'locks'))) await rm(join(session.repository, 'locks', name))
  const lost = await session.vcb('recover', '--journal-lost', '--json')
  expect(lost.exit, lost.out + lost.err).toBe(0)
  expect(JSON.stringify(lost.json())).toContain('[v6] one/one.vmdk')
  await world.expectNothingLeft()
  expect((await session.json(['orphans'])).orphans).toEqual([])
})
