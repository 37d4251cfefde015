import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from 'vitest'
import type { FaultRule } from '../../src/lab/index.ts'
import { FROM_SOURCES, runChild } from '../crash/commands.ts'
import { LabClient } from './lab-client.ts'
import { type CommandResult, type Json, type LabSession, openLabSession } from './lab-session.ts'

/* A host with the free licence: its API shows everything and changes nothing, so snapshots are made, found and removed with vim-cmd in its shell. */
vi.setConfig({ testTimeout: 60_000 })

const scenario = {
  taskMs: 0,
  recordDigests: true,
  datacenters: [
    {
      name: 'ha',
      hosts: [{ name: 'esx1', ssh: true, licence: 'free' }],
      datastores: [{ name: 'local', type: 'VMFS6' }],
      vms: [
        {
          name: 'web',
          datastore: 'local',
          disks: [
            { size: '12MiB', content: 'random' },
            { size: '8MiB', thin: false },
          ],
        },
        {
          name: 'kept',
          datastore: 'local',
          disks: [{ size: '4MiB', content: 'random' }],
          snapshots: [{ name: 'of the user' }],
        },
      ],
    },
  ],
}

let session: LabSession
let config: string
beforeAll(async () => {
  session = await openLabSession({ scenario })
  const { esxi, ssh } = session.lab.endpoints
  const [shell] = ssh
  const host = { address: shell?.address, port: shell?.port, keyFile: session.lab.sshKeyFile, hostKey: shell?.hostKey }
  config = join(session.directory, 'vcb.yaml')
  await writeFile(config, JSON.stringify({ ssh: { hosts: { esx1: host } }, resume: { delay: '10ms', attempts: 1, lastAttempts: 2 } }))
  delete session.environment['VCB_DATASTORES']
  Object.assign(session.environment, { VCB_VCENTER: esxi.url, VCB_THUMBPRINT: esxi.thumbprint, VCB_CONFIG: config })
  await session.json(['init'])
})
afterAll(() => session[Symbol.asyncDispose]())
afterEach(async () => {
  await session.lab.control.clearFaults()
  // A failing test must not take the next ones down with what it left.
  await session.vcb('recover')
})

const backup = (vm: string, ...argv: readonly string[]): Promise<CommandResult> =>
  session.vcbWith({ VCB_RELEASE_FOR: '0' }, 'backup', vm, '--transport', 'ssh', '--json', ...argv)
const snapshotsOf = async (name: string): Promise<readonly string[]> =>
  (await session.lab.control.state()).vms.filter((vm) => vm.name === name).flatMap((vm) => vm.snapshots.map((each) => each.name))
const fault = (rule: FaultRule): Promise<string> => session.lab.control.fault(rule)

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
}

describe('a host with the free licence', () => {
  test('is backed up over ssh, and the point says why nothing tracks its changes', async () => {
    for (const mode of ['full', 'auto']) {
      const result = await backup('web', '--mode', mode, '--quiesce', 'require')
      expect({ exit: result.exit, out: result.exit === 0 ? '' : result.out }).toEqual({ exit: 0, out: '' })
      const [vm] = result.json().vms
      expect(vm.consistency).not.toBe('crash')
      expect(vm.disks).toHaveLength(2)
      for (const disk of vm.disks)
        expect(disk).toMatchObject({
          ...(mode === 'full' ? { mode: 'full', selectedBy: 'allocated' } : { mode: 'incremental', selectedBy: 'digests' }),
          transport: 'ssh',
          modeReason: expect.stringContaining('the licence of this host allows reading only'),
        })
      expect(vm.warnings).toEqual([expect.stringContaining('Change tracking is not in use')])
      await expectRight('web', vm)
      await session.lab.control.write('web', { percent: 5, unit: 4096 })
    }
    await session.expectClean()
  })

  test('leaves the snapshots of others alone', async () => {
    const result = await backup('kept', '--quiesce', 'none')
    expect({ exit: result.exit, out: result.exit === 0 ? '' : result.out }).toEqual({ exit: 0, out: '' })
    await expectRight('kept', result.json().vms[0])
    expect(await snapshotsOf('kept')).toEqual(['of the user'])
    await session.expectClean()
  })

  test('has nothing of ours after a backup that failed', async () => {
    await fault({ on: 'ssh:exec', object: 'python3', ssh: 'missing' })
    await fault({ on: 'ssh:exec', object: 'dd', ssh: 'missing' })
    const result = await backup('web', '--quiesce', 'none')
    expect(result.json().vms[0].error).toMatchObject({ code: 'UNAVAILABLE', message: expect.stringContaining('No transport can read') })
    expect(await snapshotsOf('web')).toEqual([])
    await session.expectClean()
  })

  test.each(['before:call vim-cmd snapshot.create', 'after:call vim-cmd snapshot.create', 'before:call vim-cmd snapshot.remove'])(
    'killed %s: recover releases it',
    async (kill) => {
      const argv = ['backup', 'web', '--quiesce', 'none', '--transport', 'ssh']
      const ended = await runChild(FROM_SOURCES, argv, session.environment, { kill })
      expect([ended.killed, ended.err]).toEqual([true, ended.err])
      expect(await snapshotsOf('web')).toHaveLength(kill.startsWith('before:call vim-cmd snapshot.create') ? 0 : 1)
      const report = await session.json(['recover'])
      expect(report.recovered.flatMap((job: Json) => job.claims).some((claim: Json) => claim.kind === 'snapshot')).toBe(true)
      expect(await snapshotsOf('web')).toEqual([])
      await session.expectClean()
    },
  )

  test.each<[string, FaultRule, RegExp]>([
    ['fails in its task', { on: 'RemoveSnapshot_Task', taskError: 'FileLocked' }, /locked/],
    [
      'ends with words only',
      { on: 'ssh:exec', object: 'vmsvc/snapshot.remove', ssh: 'status', value: 255 },
      /vim-cmd vmsvc\/snapshot\.remove failed on esx1/,
    ],
    ['is cut off', { on: 'ssh:exec', object: 'vmsvc/snapshot.remove', cut: 'before' }, /connection to (?:the SSH service of )?esx1 /],
  ])('a removal that %s stays claimed until it works', async (_, rule, words) => {
    const id = await fault(rule)
    const result = await backup('web', '--quiesce', 'none')
    expect([result.exit, result.json().vms[0].ok]).toEqual([12, true])
    expect(JSON.stringify(result.json().vms[0])).toMatch(words)
    expect(await snapshotsOf('web')).toHaveLength(1)
    const kept = await session.json(['recover'], 12)
    expect(kept.recovered.flatMap((job: Json) => job.claims)).toContainEqual(
      expect.objectContaining({ kind: 'snapshot', result: 'kept', reason: expect.stringMatching(words) }),
    )
    await session.lab.control.clearFaults(id)
    await session.json(['recover'])
    expect(await snapshotsOf('web')).toEqual([])
    await session.expectClean()
  })

  test('redo logs that a removal left are the Host Client’s to merge', async () => {
    await fault({ consolidationNeeded: true })
    const result = await backup('web', '--quiesce', 'none')
    expect([result.exit, result.json().vms[0].ok]).toEqual([12, true])
    expect(JSON.stringify(result.json().vms[0])).toContain('keeps from its API and vim-cmd cannot do')
    expect(await snapshotsOf('web')).toEqual([])
    await session.json(['recover'], 12)
    // As the Host Client does it: the licence binds the API, not the host's own service.
    await session.lab.control.clearFaults()
    const client = await LabClient.login(session.lab)
    const [vm] = (await session.lab.control.state()).vms.filter((each) => each.name === 'web')
    await client.task('ConsolidateVMDisks_Task', client.vm(vm?.moref ?? ''))
    await session.json(['recover'])
    await session.expectClean()
  })

  test('a removal whose answer is lost is seen to be done', async () => {
    await fault({ on: 'ssh:exec', object: 'vmsvc/snapshot.remove', cut: 'after', times: 1 })
    const result = await backup('web', '--quiesce', 'none')
    expect({ exit: result.exit, out: result.exit === 0 ? '' : result.out }).toEqual({ exit: 0, out: '' })
    await session.expectClean()
  })

  test('a creation that fails says what the host said, and leaves nothing', async () => {
    await fault({ on: 'CreateSnapshot_Task', taskError: 'TooManySnapshotLevels' })
    const result = await backup('web', '--quiesce', 'none')
    expect(result.json().vms[0].error).toMatchObject({
      code: 'CONFLICT',
      message: expect.stringMatching(/^vim-cmd vmsvc\/snapshot\.create on web failed: the chain of snapshots is full/),
    })
    await session.expectClean()
  })

  test('whose shell is that of another host is refused before anything is made', async () => {
    await using other = await openLabSession({ scenario: { ...scenario, name: 'other', seed: 9 } })
    const [shell] = other.lab.endpoints.ssh
    const wrong = join(session.directory, 'wrong.yaml')
    const host = { address: shell?.address, port: shell?.port, keyFile: other.lab.sshKeyFile, hostKey: shell?.hostKey }
    await writeFile(wrong, JSON.stringify({ ssh: { hosts: { esx1: host } } }))
    const result = await session.vcbWith({ VCB_CONFIG: wrong }, 'backup', 'web', '--quiesce', 'none', '--json')
    expect(result.json().vms[0].error).toMatchObject({
      code: 'INTEGRITY',
      message: expect.stringContaining('has another VM under the number of web'),
    })
    expect((await other.lab.control.state()).vms.flatMap((vm) => vm.snapshots).map((each) => each.name)).toEqual(['of the user'])
    await session.expectClean()
  })

  test('without SSH is refused with what to do; doctor says so before', async () => {
    const none = join(session.directory, 'none.yaml')
    await writeFile(none, '{}')
    const without = { VCB_CONFIG: none }
    const result = await session.vcbWith(without, 'backup', 'web', '--quiesce', 'none', '--json')
    expect(result.json().vms[0].error).toMatchObject({
      code: 'CONFIG',
      message: expect.stringContaining('the licence of this host allows reading only'),
      next: expect.stringContaining('docs/ssh.md'),
    })
    const row = async (environment: Readonly<Record<string, string>>): Promise<Json> =>
      (await session.vcbWith(environment, 'doctor', '--json')).json().findings.find((each: Json) => each.check === 'snapshots')
    expect(await row(without)).toMatchObject({ result: 'failed', detail: expect.stringContaining('SSH to it is not configured') })
    expect(await row({})).toMatchObject({ result: 'ok', detail: expect.stringContaining('vim-cmd') })
    await fault({ on: 'ssh:login', ssh: 'refuse' })
    expect(await row({})).toMatchObject({ result: 'failed', detail: expect.stringContaining('esx1 refused the SSH login') })
    await session.expectClean()
  })
})
