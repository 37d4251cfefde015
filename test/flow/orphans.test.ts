import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { copyFile, readdir, readFile, rm, utimes, writeFile } from 'node:fs/promises'
import { hostname } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { type AgentId, type ClaimId, createIds, formatMark, type MoRef, Secret, silentLog, systemClock } from '../../src/core/index.ts'
import { openState } from '../../src/state/index.ts'
import { connectVsphere, createSnapshot, data, findVms, reconfigureVm, removeSnapshot, type Vsphere } from '../../src/vsphere/index.ts'
import { type Json, type LabSession, openLabSession } from './lab-session.ts'

/* What carries our mark but belongs to no job: found whatever became of the journal, and removed only when it is proven ours. */
const COMMAND = join(import.meta.dirname, '..', '..', 'scripts', 'vcb.cjs')
const ids = createIds()
let session: LabSession
let vsphere: Vsphere

beforeEach(async () => {
  session = await openLabSession({
    scenario: {
      name: 'orphans',
      seed: 11,
      restrictedUserMay: ['Datastore.Browse'],
      datacenters: [
        {
          name: 'DC1',
          clusters: [{ name: 'C1', hosts: [{ name: 'esx1.lab' }] }],
          networks: ['VM Network'],
          datastores: [
            { name: 'vmfs1', type: 'VMFS6', capacity: '1TiB' },
            { name: 'nfs1', type: 'NFS', capacity: '1TiB' },
          ],
          vms: [
            { name: 'web', datastore: 'vmfs1', changeTracking: true, workload: 20, disks: [{ size: '64MiB', content: 'random' }] },
            { name: 'off', datastore: 'vmfs1', power: 'poweredOff', disks: [{ size: '32MiB', content: 'random' }] },
          ],
        },
      ],
    },
  })
  const { lab } = session
  vsphere = await connectVsphere({
    url: lab.endpoints.vcenter.url,
    user: lab.user,
    password: new Secret((await readFile(lab.passwordFile, 'utf8')).trim()),
    trust: { thumbprint: lab.endpoints.vcenter.thumbprint },
    clock: systemClock,
    log: silentLog,
  })
})
afterEach(async () => {
  await vsphere[Symbol.asyncDispose]()
  await session[Symbol.asyncDispose]()
})

/** Starts `vcb` as a process of its own. */
function start(argv: readonly string[], environment: Readonly<Record<string, string>> = {}): ChildProcess {
  return spawn(process.execPath, [COMMAND, ...argv], { env: { ...process.env, ...session.environment, ...environment }, stdio: 'ignore' })
}

/** Kills `vcb` as soon as the world has come to look like `moment`. */
async function killAt(child: ChildProcess, moment: () => Promise<boolean>): Promise<void> {
  const exited = once(child, 'exit')
  for (let waited = 0; !(await moment()); waited += 50) {
    if (waited > 60_000 || child.exitCode !== null) throw new Error(`the moment to kill vcb did not come (exit ${child.exitCode})`)
    await systemClock.sleep(50)
  }
  child.kill('SIGKILL')
  await exited
}

const vmState = async (name: string) => (await session.lab.control.state()).vms.find((vm) => vm.name === name)
const ours = async (): Promise<string[]> =>
  (await session.lab.control.state()).vms
    .flatMap((vm) => vm.snapshots)
    .map(({ name }) => name)
    .filter((name) => name.startsWith('vcb-proxy'))
const stateDirectory = (): string => session.environment['VCB_STATE_DIR'] ?? ''
const deleteJournal = async (state = stateDirectory()): Promise<void> => {
  for (const name of await readdir(state)) if (name.startsWith('state.sqlite')) await rm(join(state, name))
}
/** As after "vcb recover --journal-lost" whose search did not come about: a new journal that knows nothing. */
async function loseJournal(state = stateDirectory()): Promise<void> {
  await deleteJournal(state)
  await using _made = await openState(join(state, 'state.sqlite'))
}
const vmRef = async (name: string): Promise<MoRef> => (await findVms(vsphere, { by: 'path', path: `/DC1/vm/${name}` }))[0] as MoRef

/** A backup killed while it reads, its snapshot left behind. */
async function killBackup(environment: Readonly<Record<string, string>> = {}): Promise<void> {
  await session.lab.control.fault({ on: 'folder:GET', object: '*-flat.vmdk', delayMs: 500 })
  const before = (await ours()).length
  const child = start(['backup', 'web', '--init', '--mode', 'full', '--transport', 'https'], environment)
  await killAt(child, async () => (await ours()).length > before)
  await session.lab.control.clearFaults()
}

/** A restore killed while it sends the disk, its VM or its directory half made. */
async function killRestore(via: 'folder' | 'lease'): Promise<void> {
  const run = await session.json(['backup', 'off', '--init', '--mode', 'full'])
  await session.lab.control.fault(via === 'folder' ? { on: 'RegisterVM_Task', taskMs: 5000 } : { on: 'nfc:POST', delayMs: 20_000 })
  const child = start(['restore', run.vms[0].point, '--to-vcenter', '--name', 'again', '--via', via, '--to-datastore', 'nfs1'])
  await killAt(child, async () => {
    if (via === 'lease') return (await vmState('again')) !== undefined
    return (await session.lab.control.state()).tasks.some((task) => task.name === 'RegisterVM_Task' && task.state === 'running')
  })
  await session.lab.control.clearFaults()
}

/** Nothing of ours in vSphere, no open job. (What a killed run left in its repository is another matter, and lost with the journal.) */
async function expectVsphereClean(): Promise<void> {
  const state = await session.lab.control.state()
  expect(await ours()).toEqual([])
  expect(state.vms.filter((vm) => vm.consolidationNeeded || vm.frozen || vm.disabledMethods.length > 0).map(({ name }) => name)).toEqual([])
  expect(state.leases.filter(({ state: lease }) => lease === 'ready' || lease === 'initializing')).toEqual([])
  expect(await restoreDirectories()).toEqual([])
  expect(await session.json(['status'])).toMatchObject({ running: [], leases: [], leftOver: [] })
}

/** A registration that was under way when its client was killed goes on without it. */
async function registered(): Promise<void> {
  const running = async (): Promise<boolean> =>
    (await session.lab.control.state()).tasks.some((task) => task.name === 'RegisterVM_Task' && task.state === 'running')
  while (await running()) await systemClock.sleep(100)
}

const restoreDirectories = async (): Promise<string[]> =>
  (await readdir(session.lab.datastores['nfs1'] ?? '')).filter((name) => name.startsWith('again'))

describe('nothing left behind', () => {
  test('is said so, with status 0', async () => {
    const found = await session.json(['orphans', '--files'])
    expect(found).toMatchObject({ clean: true, orphans: [], otherProducts: [], consolidation: [], files: [], unseen: [] })
    expect(found.agent).toBe((await readFile(join(session.environment['VCB_STATE_DIR'] ?? '', 'agent-id'), 'utf8')).trim())
    expect((await session.vcb('orphans')).out).toBe('Nothing is left behind.\n')
  })

  test("a restore by datastore files takes its marker away when the VM is the user's", async () => {
    const run = await session.json(['backup', 'off', '--init', '--mode', 'full'])
    await session.json(['restore', run.vms[0].point, '--to-vcenter', '--name', 'again', '--via', 'folder', '--to-datastore', 'nfs1'])
    const [directory] = await restoreDirectories()
    expect(await readdir(join(session.lab.datastores['nfs1'] ?? '', directory ?? ''))).not.toContain('vcb-proxy-restore.json')
    expect((await session.json(['orphans'])).orphans).toEqual([])
    await session.json(['orphans', '--remove'])
    expect((await vmState('again'))?.name).toBe('again')
  })
})

describe('a snapshot of a killed backup', () => {
  test('says in its description who made it, and is left to "vcb recover" while the journal knows it', async () => {
    await killBackup()
    const found = await session.json(['orphans'], 12)
    expect(found.orphans).toHaveLength(1)
    const [orphan] = found.orphans
    expect(orphan).toMatchObject({ kind: 'snapshot', path: '/DC1/vm/web', standing: 'recoverable', removable: false })
    expect(orphan.name).toBe(`vcb-proxy ${orphan.claim}`)
    expect(orphan.mark).toMatchObject({ agent: found.agent, claim: orphan.claim })
    expect(orphan.bytes).toBeGreaterThan(0)
    expect(orphan.ageSeconds).toBeLessThan(120)
    await session.json(['orphans', '--remove'], 12)
    expect(await ours()).toHaveLength(1)
    await session.json(['recover'])
    await session.json(['orphans'])
    await expectVsphereClean()
  })

  test('is removed by "vcb orphans --remove" when the journal is lost', async () => {
    await killBackup()
    await loseJournal()
    const before = await session.lab.control.sha256('off')
    expect((await session.json(['orphans'], 12)).orphans).toMatchObject([{ standing: 'orphan', removable: true }])
    expect(await ours()).toHaveLength(1)
    const removed = await session.json(['orphans', '--remove'])
    expect(removed.orphans).toMatchObject([{ kind: 'snapshot', result: 'removed' }])
    expect(await ours()).toEqual([])
    expect((await vmState('web'))?.disks.every((disk) => disk.chain.length === 1)).toBe(true)
    expect((await session.lab.control.fsck('web')).ok).toBe(true)
    expect(await session.lab.control.sha256('off')).toEqual(before)
    await expectVsphereClean()
  })

  test('is not touched while its job lives, and listed as in use only with --all', async () => {
    await session.lab.control.fault({ on: 'folder:GET', object: '*-flat.vmdk', delayMs: 500 })
    const child = start(['backup', 'web', '--init', '--mode', 'full', '--transport', 'https'])
    const exited = once(child, 'exit')
    for (let waited = 0; (await ours()).length === 0 && waited < 30_000; waited += 50) await systemClock.sleep(50)
    expect((await session.json(['orphans', '--remove'])).orphans).toEqual([])
    expect((await session.json(['orphans', '--all'])).orphans).toMatchObject([{ standing: 'inUse', removable: false }])
    expect(await ours()).toHaveLength(1)
    await session.lab.control.clearFaults()
    await exited
    expect(child.exitCode).toBe(0)
    await expectVsphereClean()
  })

  test('is not touched when the journal is lost but the process that may use it lives', async () => {
    await session.lab.control.fault({ on: 'folder:GET', object: '*-flat.vmdk', delayMs: 500 })
    const child = start(['backup', 'web', '--init', '--mode', 'full', '--transport', 'https'])
    for (let waited = 0; (await ours()).length === 0 && waited < 30_000; waited += 50) await systemClock.sleep(50)
    await loseJournal()
    const found = await session.json(['orphans', '--remove'], 12)
    expect(found.orphans).toMatchObject([{ standing: 'unproven', removable: false }])
    expect(found.orphans[0].reason).toContain(`process ${child.pid}`)
    expect(await ours()).toHaveLength(1)
    await killAt(child, async () => true)
    await session.lab.control.clearFaults()
    await session.json(['orphans', '--remove'])
    await expectVsphereClean()
  })

  test('is released by recovery when "vcb orphans --remove" is itself killed half-way', async () => {
    await killBackup()
    await loseJournal()
    await session.lab.control.fault({ on: 'RemoveSnapshot_Task', taskMs: 5000 })
    const child = start(['orphans', '--remove'])
    await killAt(child, async () => (await session.lab.control.state()).tasks.some((task) => task.name === 'RemoveSnapshot_Task'))
    await session.lab.control.clearFaults()
    const report = await session.json(['recover'])
    expect(report.recovered.map((job: Json) => job.kind)).toEqual(['orphans'])
    expect(await ours()).toEqual([])
    await session.json(['orphans'])
    await expectVsphereClean()
  })

  test('is kept, with the reason, while another job works on its VM', async () => {
    await killBackup()
    await loseJournal()
    const other = join(session.directory, 'lock.mjs')
    // Holds the VM's lock as a backup would.
    await writeFile(
      other,
      `import { openState } from '${join(import.meta.dirname, '../../src/state/index.ts')}'
       import { openSqliteJournal, SqliteVmLocks, systemProcesses } from '${join(import.meta.dirname, '../../src/journal/index.ts')}'
       import { createIds, systemClock } from '${join(import.meta.dirname, '../../src/core/index.ts')}'
       const state = await openState(process.argv[2])
       const journal = await openSqliteJournal({ state, clock: systemClock, ids: createIds(), processes: systemProcesses })
       const locks = new SqliteVmLocks({ state, clock: systemClock, processes: systemProcesses })
       const vm = JSON.parse(process.argv[3])
       await locks.acquire(vm, await journal.intend(await journal.begin('backup', { vm }), 'vmLock', { vm }, []))
       process.stdout.write('held')
       process.stdin.resume()`,
    )
    const web = (await session.json(['vms', 'web'])).vms[0].vm
    const holder = spawn(process.execPath, [other, join(session.environment['VCB_STATE_DIR'] ?? '', 'state.sqlite'), JSON.stringify(web)], {
      stdio: ['pipe', 'pipe', 'inherit'],
    })
    await once(holder.stdout, 'data')
    const { agent } = await session.json(['orphans', '--all'], 12)
    const found = await session.json(['orphans', '--remove', '--agent', agent], 12)
    expect(found.orphans).toMatchObject([{ result: 'kept' }])
    expect(found.orphans[0].reason).toContain('locked')
    expect(await ours()).toHaveLength(1)
    const ended = once(holder, 'exit')
    holder.kill('SIGKILL')
    await ended
    await session.json(['recover'])
    await session.json(['orphans', '--remove'])
    await expectVsphereClean()
  })
})

describe('a restore killed while the journal is lost too', () => {
  test('by datastore files: VM and directory are found by their marks and removed', async () => {
    await killRestore('folder')
    await loseJournal()
    expect(await restoreDirectories()).toHaveLength(1)
    const found = await session.json(['orphans'], 12)
    expect(found.orphans.map((orphan: Json) => [orphan.kind, orphan.standing])).toContainEqual(['directory', 'orphan'])
    // The registration goes on without us, so that the VM may come to be meanwhile.
    await registered()
    const removed = await session.json(['orphans', '--remove'])
    expect(removed.orphans.map((orphan: Json) => [orphan.kind, orphan.result]).sort()).toEqual([
      ['directory', 'removed'],
      ['vm', 'removed'],
    ])
    expect(await restoreDirectories()).toEqual([])
    expect(await vmState('again')).toBeUndefined()
    await session.json(['orphans', '--files'])
    await expectVsphereClean()
  })

  test('by import lease: the VM is found by its mark and removed', async () => {
    await killRestore('lease')
    await loseJournal()
    expect((await session.json(['orphans'], 12)).orphans).toMatchObject([{ kind: 'vm', name: 'again', standing: 'orphan' }])
    await session.json(['orphans', '--remove'])
    expect(await vmState('again')).toBeUndefined()
    expect(await restoreDirectories()).toEqual([])
    await expectVsphereClean()
  })

  test('a copy that somebody made of the half-restored VM is not removed, and neither is the original then', async () => {
    await killRestore('folder')
    await loseJournal()
    await registered()
    const mark = (await session.json(['orphans'], 12)).orphans.find((orphan: Json) => orphan.kind === 'vm').mark
    await reconfigureVm(vsphere, await vmRef('off'), data({ annotation: formatMark('vm', mark) }))
    const found = await session.json(['orphans', '--remove'], 12)
    for (const orphan of found.orphans.filter((one: Json) => one.kind === 'vm')) {
      expect(orphan).toMatchObject({ removable: false, result: null })
      expect(orphan.reason).toContain('carries the same mark')
    }
    expect(await vmState('off')).toBeDefined()
    expect(await vmState('again')).toBeDefined()
  })
})

describe('"vcb recover --journal-lost" after state.sqlite was deleted', () => {
  test.each([
    ['a backup', killBackup, ['snapshot']],
    ['a restore by datastore files', () => killRestore('folder'), ['directory', 'vm']],
    ['a restore by import lease', () => killRestore('lease'), ['vm']],
  ] as const)('finds and releases what %s left that was killed in its middle', async (_what, kill, kinds) => {
    await kill()
    await deleteJournal()
    await registered()
    const report = await session.json(['recover', '--journal-lost'])
    expect(report.removed.map((one: Json) => [one.kind, one.result]).sort()).toEqual(kinds.map((kind) => [kind, 'removed']))
    expect(await vmState('again')).toBeUndefined()
    await session.json(['orphans', '--files'])
    await expectVsphereClean()
  })
})

describe('two agents at one vCenter', () => {
  test('neither touches what the other left, unless it is named', async () => {
    const second = { VCB_STATE_DIR: join(session.directory, 'state-b'), VCB_REPO: join(session.directory, 'repo-b') }
    await killBackup()
    await killBackup(second)
    expect(await ours()).toHaveLength(2)
    const a = await session.json(['orphans'], 12)
    const b = (await session.vcbWith(second, 'orphans', '--json')).json()
    expect(a.agent).not.toBe(b.agent)
    for (const found of [a, b]) {
      expect(found.orphans.map((orphan: Json) => [orphan.mark.agent === found.agent, orphan.standing]).sort()).toEqual([
        [false, 'other'],
        [true, 'recoverable'],
      ])
    }
    await loseJournal()
    await loseJournal(second.VCB_STATE_DIR)
    expect((await session.json(['orphans', '--remove'], 12)).orphans.map((orphan: Json) => orphan.result).sort()).toEqual([null, 'removed'])
    expect(await ours()).toHaveLength(1)
    expect((await session.json(['orphans', '--remove'], 12)).orphans).toMatchObject([{ standing: 'other', removable: false, result: null }])
    expect(await ours()).toHaveLength(1)
    const named = await session.json(['orphans', '--remove', '--agent', b.agent])
    expect(named.orphans).toMatchObject([{ standing: 'other', result: 'removed' }])
    expect(await ours()).toEqual([])
    await expectVsphereClean()
  })
})

describe('what only looks like ours', () => {
  const snapshot = async (name: string, description: string): Promise<MoRef> =>
    createSnapshot(vsphere, await vmRef('web'), { name, description })
  const mark = (claim: ClaimId, agent: AgentId): string =>
    formatMark('snapshot', { agent, claim, job: ids.job(), host: 'proxy9', pid: 4, time: new Date().toISOString() })

  test('a snapshot of an older vcb-proxy, or one named alike, is listed as not proven and never removed', async () => {
    const { agent } = await session.json(['orphans'])
    const claim = ids.claim()
    await snapshot(`vcb-proxy ${claim}`, 'Made by vcb-proxy for a backup; removed when the disks have been read.')
    await snapshot(`vcb-proxy ${ids.claim()}`, mark(ids.claim(), agent))
    await snapshot('vcb-proxy before the upgrade', mark(claim, agent))
    await snapshot(`VCB-PROXY ${ids.claim()}`, '')
    const found = await session.json(['orphans', '--remove', '--agent', agent], 12)
    expect(found.orphans.map((orphan: Json) => [orphan.standing, orphan.removable, orphan.result])).toEqual([
      ['unproven', false, null],
      ['unproven', false, null],
    ])
    expect((await vmState('web'))?.snapshots).toHaveLength(4)
  })

  test("a mark of this agent that a living journal never knew is a copy's, and stays", async () => {
    const run = await session.json(['backup', 'off', '--init', '--mode', 'full'])
    expect(run.vms[0].ok).toBe(true)
    const { agent } = await session.json(['orphans'])
    const claim = ids.claim()
    await snapshot(`vcb-proxy ${claim}`, mark(claim, agent))
    const found = await session.json(['orphans', '--remove'], 12)
    expect(found.orphans).toMatchObject([{ standing: 'unproven', removable: false }])
    expect(found.orphans[0].reason).toContain('a copy of this installation')
    expect((await vmState('web'))?.snapshots).toHaveLength(1)
  })

  test('a VM whose note is our mark is not removed when it runs, or was made long after the mark', async () => {
    const { agent } = await session.json(['orphans'])
    const time = new Date(Date.now() - 3 * 3_600_000).toISOString()
    for (const name of ['web', 'off']) {
      const note = formatMark('vm', { agent, claim: ids.claim(), job: ids.job(), host: hostname(), pid: 4, time })
      await reconfigureVm(vsphere, await vmRef(name), data({ annotation: note }))
    }
    const found = await session.json(['orphans', '--remove', '--agent', agent], 12)
    expect(found.orphans.map((orphan: Json) => [orphan.name, orphan.removable, orphan.reason]).sort()).toEqual([
      ['off', false, 'It was made long after its mark, so it is a copy.'],
      ['web', false, 'It is not powered off, so somebody uses it.'],
    ])
    expect([(await vmState('web'))?.name, (await vmState('off'))?.name]).toEqual(['web', 'off'])
  })

  test('snapshots of users are in no list', async () => {
    await snapshot('before upgrade', 'made by a person')
    await session.json(['orphans', '--remove', '--files'])
    expect((await vmState('web'))?.snapshots).toHaveLength(1)
  })
})

describe('what others left', () => {
  test('snapshots of other backup products are listed with age and size, and never removed', async () => {
    for (const name of ['VEEAM BACKUP TEMPORARY SNAPSHOT', '_VCB-BACKUP_', 'Consolidate Helper- 0', 'VEEAM said hello'])
      await createSnapshot(vsphere, await vmRef('web'), { name, description: 'Please do not delete this snapshot.' })
    const found = await session.json(['orphans', '--remove'])
    expect(found.otherProducts.map((one: Json) => [one.product, one.path, one.name])).toEqual([
      ['Veeam Backup & Replication', '/DC1/vm/web', 'VEEAM BACKUP TEMPORARY SNAPSHOT'],
      ['VMware Consolidated Backup', '/DC1/vm/web', '_VCB-BACKUP_'],
      ['VMware consolidation', '/DC1/vm/web', 'Consolidate Helper- 0'],
    ])
    for (const one of found.otherProducts) expect([one.bytes > 0, one.ageSeconds < 120]).toEqual([true, true])
    expect((await vmState('web'))?.snapshots).toHaveLength(4)
  })

  test('a VM that needs consolidation is listed with its redo logs, their bytes and their age', async () => {
    const vm = await vmRef('web')
    const kept = await createSnapshot(vsphere, vm, { name: 'kept', description: '' })
    const gone = await createSnapshot(vsphere, vm, { name: 'gone', description: '' })
    await session.lab.control.write('web', { percent: 5 })
    await session.lab.control.fault({ object: 'web', consolidationNeeded: true })
    await removeSnapshot(vsphere, gone)
    expect((await vmState('web'))?.consolidationNeeded).toBe(true)
    const found = await session.json(['orphans'], 12)
    expect(found.consolidation).toHaveLength(1)
    const [one] = found.consolidation
    expect(one).toMatchObject({ path: '/DC1/vm/web' })
    expect(one.redoLogs.map((file: Json) => file.name).sort()).toEqual([
      expect.stringMatching(/-000001-(delta|sesparse)\.vmdk$/),
      expect.stringMatching(/-000001\.vmdk$/),
    ])
    expect(one.bytes).toBeGreaterThan(0)
    expect(one.ageSeconds).toBeLessThan(120)
    expect((await session.vcb('orphans')).out).toContain('VMs that need consolidation')
    await session.lab.control.clearFaults()
    await removeSnapshot(vsphere, kept)
  })

  test('files no snapshot points to are listed by --files, and those in use are not', async () => {
    await createSnapshot(vsphere, await vmRef('web'), { name: 'in use', description: '' })
    const home = join(session.lab.datastores['vmfs1'] ?? '', 'off')
    const old = new Date(Date.now() - 7 * 24 * 3_600_000)
    for (const [from, to] of [
      ['off.vmdk', 'off-000007.vmdk'],
      ['off.vmdk', 'off-000007-ctk.vmdk'],
      ['off.vmx', 'off-Snapshot9.vmsn'],
    ] as const) {
      await copyFile(join(home, from), join(home, to))
      await utimes(join(home, to), old, old)
    }
    await copyFile(join(home, 'off.vmdk'), join(home, 'off-000008.vmdk'))
    const found = await session.json(['orphans', '--files', '--remove'], 12)
    expect(found.files.map((file: Json) => [file.path, file.vm, file.recent])).toEqual([
      ['[vmfs1] off/off-000007-ctk.vmdk', '/DC1/vm/off', false],
      ['[vmfs1] off/off-000007.vmdk', '/DC1/vm/off', false],
      ['[vmfs1] off/off-000008.vmdk', '/DC1/vm/off', true],
      ['[vmfs1] off/off-Snapshot9.vmsn', '/DC1/vm/off', false],
    ])
    expect(await readdir(home)).toContain('off-000007.vmdk')
    expect((await session.json(['orphans'])).files).toBeNull()
  })
})

describe('a user with few privileges', () => {
  const restricted = (): Record<string, string> => ({
    VCB_USER: session.lab.restricted.user,
    VCB_PASSWORD_FILE: session.lab.restricted.passwordFile,
    VCB_RELEASE_FOR: '0s',
  })

  test('Datastore.Browse is enough to list; what cannot be removed is kept with the reason', async () => {
    await killBackup()
    await loseJournal()
    const found = (await session.vcbWith(restricted(), 'orphans', '--files', '--json')).json()
    expect(found.unseen).toEqual([])
    expect(found.orphans).toMatchObject([{ standing: 'orphan', removable: true }])
    const refused = await session.vcbWith(restricted(), 'orphans', '--remove', '--json')
    expect(refused.exit).toBe(12)
    expect(refused.json().orphans).toMatchObject([{ result: 'kept' }])
    expect(refused.json().orphans[0].reason).toContain('RemoveSnapshot')
    expect(await ours()).toHaveLength(1)
    await session.json(['recover'])
    await expectVsphereClean()
  })
})
