import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { systemClock } from '../../src/core/index.ts'
import { type FaultRule, startLab } from '../../src/lab/index.ts'
import { LabClient } from './lab-client.ts'
import { type Json, type LabSession, openLabSession } from './lab-session.ts'

/* What can be in the way when the agent gives back its snapshot, each with what it does then. Rows of "Failures and what vcb does" in docs/errors.md. */
const COMMAND = join(import.meta.dirname, '..', '..', 'scripts', 'vcb.cjs')

const SCENARIO = {
  name: 'release',
  recordDigests: true,
  datacenters: [
    {
      name: 'DC',
      clusters: [{ name: 'C', hosts: [{ name: 'esx1.lab' }, { name: 'esx2.lab' }] }],
      datastores: [{ name: 'ds1', type: 'VMFS6' }],
      vms: [
        {
          name: 'one',
          power: 'poweredOn',
          changeTracking: true,
          workload: 2,
          host: 'esx1.lab',
          disks: [{ size: '4MiB', content: 'random' }],
        },
        { name: 'two', power: 'poweredOff', changeTracking: true, host: 'esx1.lab', disks: [{ size: '4MiB', content: 'random' }] },
        { name: 'proxy', power: 'poweredOff', host: 'esx2.lab', disks: [{ size: '4MiB' }] },
      ],
    },
  ],
}

let session: LabSession
let client: LabClient

beforeAll(async () => {
  session = await openLabSession({ scenario: SCENARIO })
  client = await LabClient.login(session.lab)
  await session.json(['init'])
})
afterAll(async () => {
  await session[Symbol.asyncDispose]()
})
afterEach(async () => {
  await session.lab.control.clearFaults()
  // A failing test must not take the next ones down with what it left.
  await session.vcb('recover')
})

const fault = (rule: FaultRule): Promise<string> => session.lab.control.fault(rule)
const vmOf = async (name: string) => {
  const found = (await session.lab.control.state()).vms.find((vm) => vm.name === name)
  if (found === undefined) throw new Error(`no VM ${name}`)
  return found
}
const ours = async (name: string): Promise<number> =>
  (await vmOf(name)).snapshots.filter((snapshot) => snapshot.name.startsWith('vcb-proxy ')).length
const running = async (): Promise<string[]> => (await session.lab.control.state()).tasks.map((task) => task.name)
const claimsOf = (report: Json): Json[] => report.recovered.flatMap((job: Json) => job.claims)
const kept = (report: Json, kind = 'snapshot'): Json => claimsOf(report).find((claim) => claim.kind === kind && claim.result === 'kept')
/** The guest's disks read as one intact history: nothing was lost in a redo log. */
const intact = async (name: string): Promise<void> => expect((await session.lab.control.fsck(name)).ok).toBe(true)

async function until(what: string, test: () => Promise<boolean>): Promise<void> {
  for (let waited = 0; !(await test()); waited += 25) {
    if (waited > 20_000) throw new Error(`${what}: waited in vain`)
    await systemClock.sleep(25)
  }
}

/** A command as a process of its own, which may be killed. */
function start(...argv: readonly string[]): {
  readonly child: ChildProcess
  readonly text: () => string
  readonly ended: Promise<unknown>
} {
  const child = spawn(process.execPath, [COMMAND, ...argv], {
    env: { ...process.env, ...session.environment },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let text = ''
  child.stdout?.on('data', (chunk: Buffer) => (text += chunk.toString()))
  child.stderr?.on('data', (chunk: Buffer) => (text += chunk.toString()))
  return { child, text: () => text, ended: once(child, 'exit') }
}

/** A backup that could not remove its snapshot: the point is there, the snapshot is listed as held. */
async function backupThatKeeps(vm: string, ...argv: readonly string[]): Promise<Json> {
  const result = await session.vcbWith({ VCB_RELEASE_FOR: '0' }, 'backup', vm, '--json', ...argv)
  expect(result.exit, result.out + result.err).toBe(12)
  expect(result.json().vms[0].ok).toBe(true)
  return result.json()
}

async function killedBackup(vm: string, when: () => Promise<boolean>): Promise<void> {
  const { child, ended, text } = start('backup', vm, '--mode', 'full')
  await until(`the moment to kill ${vm}: ${text()}`, async () => child.exitCode !== null || (await when()))
  expect(child.exitCode, text()).toBeNull()
  child.kill('SIGKILL')
  await ended
}

describe('vCenter at release time', () => {
  test('is away for a while: the release is retried until it is back, and the backup succeeds', async () => {
    // The removal and everything after it is cut off for a while.
    const cut = await fault({ on: 'RemoveSnapshot_Task', cut: 'before' })
    const back = systemClock.sleep(2500).then(() => session.lab.control.clearFaults(cut))
    const result = await session.vcbWith({ VCB_RELEASE_FOR: '60s' }, 'backup', 'one', '--json')
    await back
    expect(result.exit, result.out).toBe(0)
    await session.expectClean()
    await intact('one')
  })

  test('stays away beyond the release deadline: kept with its reason, exit 12, released by the next command', async () => {
    const id = await fault({ on: 'RemoveSnapshot_Task', cut: 'before' })
    const run = await backupThatKeeps('one')
    expect(JSON.stringify(run.vms[0])).toMatch(/connection to .* failed/)
    expect(await ours('one')).toBe(1)
    const report = await session.json(['recover'], 12)
    expect(kept(report).reason).toMatch(/connection to .* failed/)
    await session.lab.control.clearFaults(id)
    // The point that could not give its snapshot back is complete, and the next run builds on it.
    const next = await session.json(['backup', 'one'])
    expect(next.vms[0].mode).toBe('incremental')
    await session.expectClean()
    expect((await session.json(['check'])).problems).toEqual([])
  })

  test('refuses connections altogether: "vcb recover --wait" goes on until it is back', async () => {
    await using away = await openLabSession({ scenario: SCENARIO })
    await away.json(['init'])
    await away.lab.control.fault({ on: 'RemoveSnapshot_Task', cut: 'before' })
    expect((await away.vcbWith({ VCB_RELEASE_FOR: '0' }, 'backup', 'one')).exit).toBe(12)
    const { directory, endpoints } = away.lab
    await away.lab[Symbol.asyncDispose]()
    const once = await away.vcb('recover', '--json')
    expect(once.exit).toBe(12)
    expect(kept(once.json()).reason).toContain('ECONNREFUSED')
    expect(kept(once.json()).code).toBe('UNAVAILABLE')
    const waiting = away.vcb('recover', '--wait', '60s')
    await systemClock.sleep(1500)
    await using again = await startLab({ directory })
    expect(again.endpoints.vcenter.url).toBe(endpoints.vcenter.url)
    const result = await waiting
    expect(result.exit, result.out + result.err).toBe(0)
    expect(result.err).toMatch(/snapshot \w+: .*ECONNREFUSED/)
    expect(result.err).toMatch(/tried again in \d+ s/)
    expect((await again.control.state()).vms.flatMap((vm) => vm.snapshots)).toEqual([])
  })

  test('is another one than the claim is on: kept with the reason, and the rest is released', async () => {
    await using other = await openLabSession({ scenario: { ...SCENARIO, name: 'other', seed: 7 } })
    await fault({ on: 'RemoveSnapshot_Task', cut: 'before' })
    await backupThatKeeps('one')
    await session.lab.control.clearFaults()
    const { VCB_VCENTER, VCB_THUMBPRINT, VCB_PASSWORD_FILE } = other.environment
    const result = await session.vcbWith({ VCB_VCENTER, VCB_THUMBPRINT, VCB_PASSWORD_FILE }, 'recover', '--json')
    expect(result.exit).toBe(12)
    expect(kept(result.json()).reason).toMatch(/is on the vCenter .*, not on/)
    expect(await ours('one')).toBe(1)
    expect((await session.json(['recover'])).recovered).toHaveLength(1)
    await session.expectClean()
  })

  test('is away: what needs no vCenter is released all the same, and each claim is reported by itself', async () => {
    await killedBackup('one', async () => (await ours('one')) === 1)
    const result = await session.vcbWith({ VCB_VCENTER: 'https://127.0.0.1:1' }, 'recover', '--json')
    expect(result.exit).toBe(12)
    const results = Object.fromEntries(claimsOf(result.json()).map((claim) => [claim.kind, claim.result]))
    expect(results).toMatchObject({ repositoryWrite: 'released', snapshot: 'kept', vmLock: 'kept' })
    expect((await session.json(['recover'])).recovered).toHaveLength(1)
    await session.expectClean()
  })
})

describe('vcb recover', () => {
  test('--job releases that job alone; an unknown one is NOT_FOUND', async () => {
    await fault({ on: 'RemoveSnapshot_Task', cut: 'before' })
    await backupThatKeeps('one')
    await backupThatKeeps('two')
    const report = await session.json(['recover'], 12)
    const jobOf = (vm: string): string => report.recovered.find((job: Json) => job.args.vm?.name === vm).job
    await session.lab.control.clearFaults()
    expect((await session.vcb('recover', '--job', 'nonesuch')).exit).toBe(5)
    const only = await session.json(['recover', '--job', jobOf('two').slice(0, 20)])
    expect(only.recovered.map((job: Json) => job.job)).toEqual([jobOf('two')])
    expect([await ours('one'), await ours('two')]).toEqual([1, 0])
    await session.json(['recover'])
    await session.expectClean()
  })

  test('--wait ends after its time with 12 and says what is kept; a wrong time is a usage error', async () => {
    await fault({ on: 'RemoveSnapshot_Task', cut: 'before' })
    await backupThatKeeps('two')
    const before = systemClock.monotonicMs()
    const result = await session.vcb('recover', '--wait', '3s')
    expect(result.exit).toBe(12)
    expect(systemClock.monotonicMs() - before).toBeGreaterThan(2900)
    expect(result.out).toMatch(/NOT fully released/)
    expect((await session.vcb('recover', '--wait', 'soon')).exit).toBe(2)
  })
})

describe('a task on the snapshot that outlives its agent', () => {
  test.each([
    ['CreateSnapshotEx_Task runs', { on: 'CreateSnapshotEx_Task', taskMs: 2500 }],
    ['CreateSnapshotEx_Task is queued behind another', { on: 'CreateSnapshotEx_Task', queueMs: 2000 }],
  ] as const)('%s while the agent is killed: recovery started at once waits for it and removes its snapshot', async (_name, rule) => {
    await fault(rule)
    await killedBackup('one', async () => (await running()).includes('CreateSnapshotEx_Task'))
    expect(await ours('one')).toBe(0)
    const report = await session.json(['recover'])
    expect(claimsOf(report).find((claim) => claim.kind === 'snapshot').result).toBe('released')
    expect(await running()).toEqual([])
    await session.expectClean()
    await intact('one')
  })

  test('CreateSnapshotEx_Task is forgotten by vCenter meanwhile: recovery gives it a moment to appear', async () => {
    await fault({ on: 'CreateSnapshotEx_Task', taskMs: 2000, forgetTask: true })
    const { child, ended } = start('backup', 'one', '--mode', 'full')
    await until('the task', async () => (await running()).includes('CreateSnapshotEx_Task'))
    child.kill('SIGKILL')
    await ended
    const report = await session.json(['recover'])
    expect(claimsOf(report).find((claim) => claim.kind === 'snapshot').result).toBe('released')
    await systemClock.sleep(500)
    await session.expectClean()
  })

  test('CreateSnapshotEx_Task is forgotten by vCenter under a living agent: the backup fails, and nothing is left', async () => {
    await fault({ on: 'CreateSnapshotEx_Task', taskMs: 2000, forgetTask: true })
    const result = await session.vcb('backup', 'one', '--json')
    expect(result.exit, result.out).toBe(7)
    expect(result.out).toContain('no longer knows the task')
    await systemClock.sleep(500)
    await session.expectClean()
  })

  test('the call that starts it was received but not yet carried out when the agent was killed', async () => {
    await fault({ on: 'CreateSnapshotEx_Task', delayMs: 1500 })
    let seen = 0
    await killedBackup('one', async () => {
      seen = (await session.lab.control.faults())[0]?.struck ?? 0
      return seen > 0
    })
    const report = await session.json(['recover'])
    expect(claimsOf(report).find((claim) => claim.kind === 'snapshot').result).toBe('released')
    await session.expectClean()
  })

  test('RemoveSnapshot_Task runs: recovery waits and does not start a second', async () => {
    const id = await fault({ on: 'RemoveSnapshot_Task', taskMs: 2500 })
    await killedBackup('one', async () => (await running()).includes('RemoveSnapshot_Task'))
    const report = await session.json(['recover'])
    expect(claimsOf(report).every((claim) => claim.result !== 'kept')).toBe(true)
    const rule = (await session.lab.control.faults()).find((each) => each.id === id)
    expect(rule?.seen, 'one RemoveSnapshot_Task').toBe(1)
    await session.expectClean()
    await intact('one')
  })

  test('CancelTask is refused when the backup is canceled in the middle of it: the end is awaited, the snapshot removed', async () => {
    await fault({ on: 'CreateSnapshotEx_Task', taskMs: 2500 })
    await fault({ object: 'one', notCancelable: true })
    const { child, ended, text } = start('backup', 'one', '--mode', 'full')
    await until('the task', async () => (await running()).includes('CreateSnapshotEx_Task'))
    child.kill('SIGINT')
    await ended
    expect(child.exitCode, text()).toBe(11)
    expect(await running()).toEqual([])
    await session.expectClean()
    await intact('one')
  })

  test('CancelTask is accepted: no snapshot comes to be', async () => {
    await fault({ on: 'CreateSnapshotEx_Task', taskMs: 20_000 })
    const { child, ended, text } = start('backup', 'one', '--mode', 'full')
    await until('the task', async () => (await running()).includes('CreateSnapshotEx_Task'))
    child.kill('SIGINT')
    await ended
    expect(child.exitCode, text()).toBe(11)
    await session.expectClean()
  })
})

describe('a removal that', () => {
  test('reports success and leaves files is followed by a consolidation', async () => {
    await fault({ object: 'one', consolidationNeeded: true })
    const run = await session.json(['backup', 'one'])
    expect(run.vms[0].ok).toBe(true)
    await session.expectClean()
    expect((await vmOf('one')).disks[0]?.chain).toHaveLength(1)
    await intact('one')
  })

  test('reports success, and whose consolidation keeps failing: kept with that reason after bounded tries', async () => {
    await fault({ object: 'one', consolidationNeeded: true })
    const id = await fault({ on: 'ConsolidateVMDisks_Task', taskError: 'FileLocked' })
    const result = await session.vcbWith({ VCB_RELEASE_FOR: '2500ms' }, 'backup', 'one', '--json')
    expect(result.exit, result.out).toBe(12)
    const tries = (await session.lab.control.faults()).find((each) => each.id === id)?.struck ?? 0
    expect(tries).toBeGreaterThanOrEqual(2)
    expect(tries).toBeLessThanOrEqual(6)
    expect((await vmOf('one')).consolidationNeeded).toBe(true)
    const report = await session.json(['recover'], 12)
    expect(kept(report).reason).toMatch(/ConsolidateVMDisks_Task on one failed: .* is locked/)
    await session.lab.control.clearFaults()
    await session.json(['recover'])
    await session.expectClean()
    expect((await vmOf('one')).disks[0]?.chain).toHaveLength(1)
  })

  test('finds a consolidation needed that is not ours leaves it alone and says so', async () => {
    // Another product removed its snapshot and left the redo logs.
    const foreign = await client.takeSnapshot((await vmOf('one')).moref, 'another product')
    const id = await fault({ object: 'one', consolidationNeeded: true })
    await client.removeSnapshot(foreign)
    await session.lab.control.clearFaults(id)
    expect((await vmOf('one')).consolidationNeeded).toBe(true)
    const count = await fault({ on: 'ConsolidateVMDisks_Task', delayMs: 0 })
    const before = (await vmOf('one')).disks[0]?.chain.length
    const run = await session.json(['backup', 'one', '--mode', 'full'])
    expect(run.vms[0].warnings.join(' ')).toMatch(/needed consolidation before this backup/)
    expect((await session.lab.control.faults()).find((each) => each.id === count)?.seen).toBe(0)
    expect((await vmOf('one')).disks[0]?.chain.length).toBeLessThanOrEqual(before ?? 0)
    expect(await ours('one')).toBe(0)
    await client.task('ConsolidateVMDisks_Task', client.vm((await vmOf('one')).moref))
    await session.expectClean()
    await intact('one')
  })

  test('is refused because a file is locked is tried again, and succeeds when the lock goes', async () => {
    const id = await fault({ object: 'one', lockHeld: true })
    const gone = systemClock.sleep(2000).then(() => session.lab.control.clearFaults(id))
    const result = await session.vcbWith({ VCB_RELEASE_FOR: '60s' }, 'backup', 'one', '--json', '--transport', 'san')
    await gone
    expect(result.exit, result.out).toBe(0)
    await session.expectClean()
    await intact('one')
  })

  test('is refused because another VM has the disk attached is kept, and the holder is named', async () => {
    // A hot-add proxy that died with the frozen disk attached.
    await killedBackup('one', async () => (await ours('one')) === 1)
    const one = await vmOf('one')
    const frozen = one.disks[0]?.chain[1] ?? ''
    const proxy = await vmOf('proxy')
    const disk = (operation: string, more: string): string =>
      `<spec><deviceChange><operation>${operation}</operation><device xsi:type="VirtualDisk">${more}</device></deviceChange></spec>`
    await client.task(
      'ReconfigVM_Task',
      client.vm(proxy.moref),
      disk(
        'add',
        `<key>-1</key><backing xsi:type="VirtualDiskFlatVer2BackingInfo"><fileName>${frozen}</fileName><diskMode>independent_nonpersistent</diskMode></backing><controllerKey>1000</controllerKey><unitNumber>5</unitNumber><capacityInKB>0</capacityInKB>`,
      ),
    )
    const report = await session.json(['recover'], 12)
    expect(kept(report).reason).toMatch(/is locked .* The disk is attached to proxy\./)
    expect(kept(report).next).toMatch(/Detach .* from proxy/)
    const attached = (await vmOf('proxy')).disks.find((each) => each.fileName === frozen)
    await client.task(
      'ReconfigVM_Task',
      client.vm(proxy.moref),
      disk(
        'remove',
        `<key>${attached?.key}</key><controllerKey>1000</controllerKey><unitNumber>5</unitNumber><capacityInKB>0</capacityInKB>`,
      ),
    )
    await session.json(['recover'])
    await session.expectClean()
    await intact('one')
  })

  test('finds the datastore full while the redo log is committed is kept as CAPACITY with what to do', async () => {
    await fault({ on: 'RemoveSnapshot_Task', taskError: 'NoDiskSpace' })
    const run = await session.vcb('backup', 'one', '--json')
    expect(run.exit, run.out).toBe(12)
    const report = await session.json(['recover'], 12)
    expect(kept(report)).toMatchObject({ code: 'CAPACITY', reason: expect.stringContaining('is full') })
    expect(kept(report).next).toMatch(/Free space/)
    expect(await ours('one')).toBe(1)
    await session.lab.control.clearFaults()
    await session.json(['recover'])
    await session.expectClean()
    await intact('one')
  })

  test.each(['TaskInProgress', 'HostNotConnected', 'HostCommunication', 'InvalidState', 'ConcurrentAccess'])(
    'is refused with %s is tried again until it passes',
    async (name) => {
      await fault({ on: 'RemoveSnapshot_Task', fault: name, times: 2 })
      const result = await session.vcbWith({ VCB_RELEASE_FOR: '60s' }, 'backup', 'two', '--json', '--mode', 'full')
      expect(result.exit, result.out).toBe(0)
      await session.expectClean()
    },
  )

  test.each(['TaskInProgress', 'HostNotConnected'])('is refused with %s to the end is kept with that reason', async (name) => {
    const id = await fault({ on: 'RemoveSnapshot_Task', fault: name })
    await backupThatKeeps('two', '--mode', 'full')
    const report = await session.json(['recover'], 12)
    expect(kept(report).reason).toContain(`fault ${name}`)
    await session.lab.control.clearFaults(id)
    await session.json(['recover'])
    await session.expectClean()
  })

  test('fails for a reason that waiting does not cure is kept at once', async () => {
    const id = await fault({ on: 'RemoveSnapshot_Task', fault: 'NoPermission' })
    const before = systemClock.monotonicMs()
    expect((await session.vcbWith({ VCB_RELEASE_FOR: '60s' }, 'backup', 'two', '--mode', 'full')).exit).toBe(12)
    expect(systemClock.monotonicMs() - before).toBeLessThan(45_000)
    await session.lab.control.clearFaults(id)
    await session.json(['recover'])
    await session.expectClean()
  })
})

describe('a VM that, while we held its snapshot, was', () => {
  /** A VM of its own with our snapshot kept on it. */
  async function held(): Promise<string> {
    const id = await fault({ on: 'RemoveSnapshot_Task', cut: 'before' })
    await backupThatKeeps('two', '--mode', 'full')
    await session.lab.control.clearFaults(id)
    expect(await ours('two')).toBe(1)
    return (await vmOf('two')).moref
  }
  const folder = async (): Promise<string> => {
    const parent = await client.text('VirtualMachine', (await vmOf('proxy')).moref, 'parent')
    return parent ?? ''
  }
  const pool = async (): Promise<string> => (await client.text('VirtualMachine', (await vmOf('proxy')).moref, 'resourcePool')) ?? ''
  const register = async (path: string, name: string): Promise<void> => {
    await client.task(
      'RegisterVM_Task',
      `<_this type="Folder">${await folder()}</_this>`,
      `<path>${path}</path><name>${name}</name><asTemplate>false</asTemplate><pool type="ResourcePool">${await pool()}</pool>`,
    )
  }

  test('renamed is still found', async () => {
    const moref = await held()
    await client.task('Rename_Task', client.vm(moref), '<newName>two again</newName>')
    await session.json(['recover'])
    expect(await ours('two again')).toBe(0)
    await client.task('Rename_Task', client.vm(moref), '<newName>two</newName>')
    await session.expectClean()
  })

  test('moved to another folder is still found', async () => {
    const moref = await held()
    const made = await client.call('CreateFolder', `<_this type="Folder">${await folder()}</_this>`, '<name>elsewhere</name>')
    const target = made.children[0]?.text ?? ''
    await client.task('MoveIntoFolder_Task', `<_this type="Folder">${target}</_this>`, `<list type="VirtualMachine">${moref}</list>`)
    await session.json(['recover'])
    await session.expectClean()
  })

  test('moved to another host by vMotion is still found', async () => {
    const moref = await held()
    const host = await client.text('VirtualMachine', (await vmOf('proxy')).moref, 'runtime.host')
    await client.task('RelocateVM_Task', client.vm(moref), `<spec><host type="HostSystem">${host}</host></spec>`)
    await session.json(['recover'])
    await session.expectClean()
  })

  test('powered on is still found', async () => {
    const moref = await held()
    await client.task('PowerOnVM_Task', client.vm(moref))
    await session.json(['recover'])
    await session.expectClean()
    await client.task('PowerOffVM_Task', client.vm(moref))
  })

  test('unregistered is kept, because its files are still there, and released when it is registered again under a new reference', async () => {
    const moref = await held()
    const path = (await client.text('VirtualMachine', moref, 'config.files.vmPathName')) ?? ''
    await client.call('UnregisterVM', client.vm(moref))
    const report = await session.json(['recover'], 12)
    expect(kept(report).reason).toContain(`its files are still at ${path}`)
    await register(path, 'two')
    expect((await vmOf('two')).moref).not.toBe(moref)
    expect(await ours('two')).toBe(1)
    const again = await session.json(['recover'])
    expect(claimsOf(again).find((claim) => claim.kind === 'snapshot').result).toBe('released')
    expect(await ours('two')).toBe(0)
    await session.expectClean()
  })

  test('deleted with its files is reported released', async () => {
    const moref = await held()
    await client.task('Destroy_Task', client.vm(moref))
    const report = await session.json(['recover'])
    expect(claimsOf(report).map((claim) => claim.result)).toEqual(expect.arrayContaining(['released']))
    expect(claimsOf(report).some((claim) => claim.result === 'kept')).toBe(false)
    await session.expectClean()
  })
})

describe('our snapshot, which meanwhile', () => {
  async function held(): Promise<{ readonly moref: string; readonly snapshot: string }> {
    const id = await fault({ on: 'RemoveSnapshot_Task', cut: 'before' })
    await backupThatKeeps('one', '--mode', 'full')
    await session.lab.control.clearFaults(id)
    const vm = await vmOf('one')
    return { moref: vm.moref, snapshot: vm.snapshots[0]?.moref ?? '' }
  }

  test('a user removed, is released', async () => {
    const { snapshot } = await held()
    await client.removeSnapshot(snapshot)
    const report = await session.json(['recover'])
    expect(claimsOf(report).some((claim) => claim.result === 'kept')).toBe(false)
    await session.expectClean()
  })

  test('a user removed and left redo logs of, is consolidated', async () => {
    const { snapshot } = await held()
    const id = await fault({ object: 'one', consolidationNeeded: true })
    await client.removeSnapshot(snapshot)
    await session.lab.control.clearFaults(id)
    await session.json(['recover'])
    await session.expectClean()
    expect((await vmOf('one')).disks[0]?.chain).toHaveLength(1)
  })

  test('a user renamed, is removed', async () => {
    const { snapshot } = await held()
    await client.call('RenameSnapshot', client.snapshot(snapshot), '<name>keep this one</name>')
    await session.json(['recover'])
    expect((await vmOf('one')).snapshots).toEqual([])
    await session.expectClean()
  })

  test('a user made a snapshot on top of: ours is removed, theirs stays', async () => {
    const { moref } = await held()
    const theirs = await client.takeSnapshot(moref, 'of a user')
    const digest = await session.lab.control.sha256('one', { snapshot: theirs })
    await session.json(['recover'])
    expect((await vmOf('one')).snapshots.map((snapshot) => snapshot.name)).toEqual(['of a user'])
    expect(await session.lab.control.sha256('one', { snapshot: theirs })).toEqual(digest)
    await client.removeSnapshot(theirs)
    await session.expectClean()
    await intact('one')
  })

  test('a user reverted past, is removed, and their snapshot stays', async () => {
    const vm = await vmOf('one')
    const theirs = await client.takeSnapshot(vm.moref, 'of a user')
    await held()
    await client.task('RevertToSnapshot_Task', client.snapshot(theirs))
    await session.json(['recover'])
    expect((await vmOf('one')).snapshots.map((snapshot) => snapshot.name)).toEqual(['of a user'])
    await client.removeSnapshot(theirs)
    await client.task('PowerOnVM_Task', client.vm(vm.moref))
    await session.expectClean()
    await intact('one')
  })

  test('RemoveAllSnapshots_Task is taking away at the same time, is released when that has ended', async () => {
    const { moref } = await held()
    await fault({ on: 'RemoveAllSnapshots_Task', taskMs: 1500 })
    const all = client.task('RemoveAllSnapshots_Task', client.vm(moref))
    await until('the task', async () => (await running()).includes('RemoveAllSnapshots_Task'))
    const report = await session.json(['recover'])
    await all
    expect(claimsOf(report).some((claim) => claim.result === 'kept')).toBe(false)
    await session.expectClean()
    await intact('one')
  })
})
