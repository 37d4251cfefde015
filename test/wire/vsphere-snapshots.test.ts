import { describe, expect, it } from 'vitest'
import type { ClaimId, DiskRef, VmConfig, VmRef } from '../../src/core/index.ts'
import { createSnapshots, ensureChangeTracking } from '../../src/snapshot/index.ts'
import { fetchThumbprint, passesByItself, patiently, type Vsphere } from '../../src/vsphere/index.ts'
import { hurriedClock, type Reaction, type SoapCall, SoapStub } from './soap-stub.ts'

const VM = { moref: 'vm-1', name: 'web', instanceUuid: '', biosUuid: '', vcenterUuid: '', path: '/DC/vm/web' } satisfies VmRef
const CLAIM = 'abc123' as ClaimId

/** One VM with snapshots, as far as the calls of a snapshot's life look at it. */
class Machine {
  snapshots: string[] = []
  /** When the server made them. */
  createTime = '2026-11-22T18:00:00Z'
  consolidationNeeded = false
  connection = 'connected'
  /** The user may not read the list of snapshots. */
  unseen = false
  /** Tasks report success and do nothing. */
  lies = false
  /** What reading the devices gives. */
  devices = ''
  /** Outcomes of successive tasks; `ok` when none is left. */
  readonly outcomes: string[] = []
  readonly calls: string[] = []
  #task = ''

  readonly react = ({ method, body }: SoapCall): Reaction | undefined => {
    if (method === 'RetrievePropertiesEx') return this.#read(body)
    if (method === 'WaitForUpdatesEx') return this.#update()
    if (!method.endsWith('_Task')) return undefined
    this.calls.push(method)
    this.#task = this.outcomes.shift() ?? 'ok'
    if (this.#task.startsWith('!')) return { fault: this.#task.slice(1) }
    if (method.startsWith('CreateSnapshot') && this.#task === 'ok') this.snapshots.push(`vcb-proxy ${CLAIM}`)
    if (this.lies) return '<returnval type="Task">task-1</returnval>'
    if (method.startsWith('RemoveSnapshot') && this.#task !== 'TaskInProgress') this.snapshots = []
    if (method.startsWith('Consolidate') && this.#task === 'ok') this.consolidationNeeded = false
    return '<returnval type="Task">task-1</returnval>'
  }

  #read(body: string): string {
    const value = (name: string, val: string): string => `<propSet><name>${name}</name>${val}</propSet>`
    const nodes = this.snapshots.map(
      (name, n) =>
        `<rootSnapshotList><snapshot type="VirtualMachineSnapshot">snapshot-${n}</snapshot><name>${name}</name><createTime>${this.createTime}</createTime><quiesced>false</quiesced></rootSnapshotList>`,
    )
    if (this.unseen && body.includes('<pathSet>snapshot<')) {
      return '<returnval><objects><obj type="VirtualMachine">vm-1</obj><missingSet><path>snapshot</path><fault><fault xsi:type="NoPermission"/><localizedMessage/></fault></missingSet></objects></returnval>'
    }
    const props = body.includes('runtime.connectionState')
      ? value('runtime.connectionState', `<val>${this.connection}</val>`)
      : body.includes('consolidationNeeded')
        ? value('runtime.consolidationNeeded', `<val>${this.consolidationNeeded}</val>`)
        : body.includes('config.hardware.device')
          ? this.devices
          : body.includes('<pathSet>snapshot<') && nodes.length > 0
            ? value('snapshot', `<val xsi:type="VirtualMachineSnapshotInfo">${nodes.join('')}</val>`)
            : ''
    return `<returnval><objects><obj type="VirtualMachine">vm-1</obj>${props}</objects></returnval>`
  }

  #update(): string {
    const change = (name: string, val: string): string => `<changeSet><name>${name}</name><op>assign</op>${val}</changeSet>`
    const changes =
      this.#task === 'ok'
        ? change('info.state', '<val>success</val>') +
          change('info.result', '<val xsi:type="ManagedObjectReference" type="VirtualMachineSnapshot">snapshot-0</val>')
        : change('info.state', '<val>error</val>') +
          change('info.error', `<val><fault xsi:type="${this.#task}"><file>[ds] web-000001.vmdk</file></fault><localizedMessage/></val>`)
    return `<returnval><version>1</version><filterSet><objectSet><kind>enter</kind><obj type="Task">task-1</obj>${changes}</objectSet></filterSet></returnval>`
  }
}

async function withMachine(run: (machine: Machine, vsphere: Vsphere) => Promise<void>): Promise<void> {
  const machine = new Machine()
  await using stub = await SoapStub.start(machine.react)
  await using vsphere = await stub.connect((await fetchThumbprint(stub.host)).sha256, hurriedClock)
  await run(machine, vsphere)
}

describe('snapshots on a busy VM', () => {
  it('waits for other tasks before it creates, whether the call or the task refuses', async () => {
    await withMachine(async (machine, vsphere) => {
      machine.outcomes.push('!TaskInProgress', 'TaskInProgress')
      const made = await createSnapshots(vsphere).create(VM, { claim: CLAIM })
      expect(made).toMatchObject({ moref: 'snapshot-0', name: `vcb-proxy ${CLAIM}` })
      expect(machine.calls).toEqual(['CreateSnapshotEx_Task', 'CreateSnapshotEx_Task', 'CreateSnapshotEx_Task'])
    })
  })

  it('is not created once its caller gives up while the VM is busy', async () => {
    await withMachine(async (machine, vsphere) => {
      const controller = new AbortController()
      machine.outcomes.push(...Array<string>(50).fill('!TaskInProgress'))
      const made = createSnapshots(vsphere).create(VM, { claim: CLAIM }, { signal: controller.signal })
      controller.abort()
      await expect(made).rejects.toMatchObject({ code: 'CANCELED' })
      expect(machine.calls.length).toBeLessThan(3)
      expect(machine.snapshots).toEqual([])
    })
  })

  it('takes the older call where the server lacks the newer one', async () => {
    await withMachine(async (machine, vsphere) => {
      machine.outcomes.push('!MethodNotFound')
      await createSnapshots(vsphere).create(VM, { claim: CLAIM, quiesce: {} })
      expect(machine.calls).toEqual(['CreateSnapshotEx_Task', 'CreateSnapshot_Task'])
    })
  })

  it('does not try again when the guest, the datastore or the server says no', async () => {
    for (const [fault, code] of [
      ['FilesystemQuiesceFault', 'GUEST'],
      ['NoDiskSpace', 'CAPACITY'],
      ['!NoPermission', 'AUTH'],
    ] as const) {
      await withMachine(async (machine, vsphere) => {
        machine.outcomes.push(fault)
        await expect(createSnapshots(vsphere).create(VM, { claim: CLAIM })).rejects.toMatchObject({ code })
        expect(machine.calls).toHaveLength(1)
      })
    }
  })

  it('removes after other tasks, consolidates while files are locked, and does nothing the second time', async () => {
    await withMachine(async (machine, vsphere) => {
      const snapshots = createSnapshots(vsphere)
      const made = await snapshots.create(VM, { claim: CLAIM })
      machine.outcomes.push('TaskInProgress', 'ok', 'FileLocked', '!TaskInProgress', 'ok')
      machine.consolidationNeeded = true
      // Each try is one look and one call; the tries together are the releaser's.
      const remove = () =>
        patiently({ clock: hurriedClock, log: vsphere.log, subject: VM.name, forMs: 60_000, passes: passesByItself }, () =>
          snapshots.remove(made),
        )
      expect(await remove()).toEqual({ removed: false, consolidated: true })
      expect(machine.calls.slice(1)).toEqual([
        ...Array<string>(2).fill('RemoveSnapshot_Task'),
        ...Array<string>(3).fill('ConsolidateVMDisks_Task'),
      ])
      expect(await snapshots.remove(made)).toEqual({ removed: false, consolidated: false })
      expect(machine.calls).toHaveLength(6)
    })
  })

  it('counts a removal that failed while merging as removed, and consolidates what is left', async () => {
    await withMachine(async (machine, vsphere) => {
      const snapshots = createSnapshots(vsphere)
      const made = await snapshots.create(VM, { claim: CLAIM })
      machine.outcomes.push('FileFault')
      machine.consolidationNeeded = true
      expect(await snapshots.remove(made)).toEqual({ removed: true, consolidated: true })
    })
  })

  it('never removes a snapshot of another name under the same reference', async () => {
    await withMachine(async (machine, vsphere) => {
      const snapshots = createSnapshots(vsphere)
      const made = await snapshots.create(VM, { claim: CLAIM })
      machine.snapshots = ["somebody else's"]
      machine.createTime = '2026-11-23T06:00:00Z'
      expect(await snapshots.remove(made)).toEqual({ removed: false, consolidated: false })
      expect(await snapshots.find(VM, CLAIM)).toBeUndefined()
      expect(machine.snapshots).toEqual(["somebody else's"])
    })
  })
})

describe('a snapshot of ours that', () => {
  it('a user renamed is still found by its reference and moment, and removed', async () => {
    await withMachine(async (machine, vsphere) => {
      const snapshots = createSnapshots(vsphere)
      const made = await snapshots.create(VM, { claim: CLAIM })
      machine.snapshots = ['do not touch']
      expect(await snapshots.remove(made)).toEqual({ removed: true, consolidated: false })
      expect(machine.snapshots).toEqual([])
    })
  })

  it('may not be seen, because a privilege was taken away, is not believed to be gone', async () => {
    await withMachine(async (machine, vsphere) => {
      const snapshots = createSnapshots(vsphere)
      const made = await snapshots.create(VM, { claim: CLAIM })
      machine.unseen = true
      await expect(snapshots.remove(made)).rejects.toMatchObject({ code: 'AUTH', message: expect.stringContaining('cannot be read') })
      await expect(snapshots.find(VM, CLAIM)).rejects.toMatchObject({ code: 'AUTH' })
    })
  })

  it.each(['disconnected', 'inaccessible', 'orphaned'])('is on a VM that is %s is not believed to be gone', async (connection) => {
    await withMachine(async (machine, vsphere) => {
      const snapshots = createSnapshots(vsphere)
      const made = await snapshots.create(VM, { claim: CLAIM })
      machine.connection = connection
      machine.snapshots = []
      await expect(snapshots.remove(made)).rejects.toMatchObject({
        code: 'UNAVAILABLE',
        retry: 'later',
        message: expect.stringContaining(`the VM is ${connection}`),
      })
      await expect(snapshots.find(VM, CLAIM)).rejects.toMatchObject({ code: 'UNAVAILABLE' })
    })
  })

  it('a removal reports as removed but leaves in the list is not reported as released', async () => {
    await withMachine(async (machine, vsphere) => {
      const snapshots = createSnapshots(vsphere)
      const made = await snapshots.create(VM, { claim: CLAIM })
      machine.lies = true
      await expect(snapshots.remove(made)).rejects.toMatchObject({ retry: 'later', message: expect.stringContaining('it is still there') })
    })
  })

  it('leaves redo logs that a consolidation does not take away is not reported as released', async () => {
    await withMachine(async (machine, vsphere) => {
      const snapshots = createSnapshots(vsphere)
      const made = await snapshots.create(VM, { claim: CLAIM })
      machine.consolidationNeeded = true
      machine.lies = true
      machine.snapshots = []
      await expect(snapshots.remove(made)).rejects.toMatchObject({
        code: 'CONFLICT',
        message: expect.stringContaining('still needs consolidation'),
      })
    })
  })
})

describe('ensureChangeTracking', () => {
  const disk = (changeId?: string): DiskRef => ({ label: 'scsi0:0', diskMode: 'persistent', backing: 'flat', changeId }) as DiskRef
  const config = (more: Partial<VmConfig>): VmConfig =>
    ({
      vm: VM,
      changeTrackingSupported: true,
      changeTrackingEnabled: false,
      snapshotCount: 0,
      hardwareVersion: 'vmx-19',
      disks: [disk()],
      ...more,
    }) as VmConfig
  const cycle = (): Promise<void> => Promise.resolve()

  it.each([
    [{ changeTrackingEnabled: true, disks: [disk('52/1')] }, true, { active: true, reason: 'change tracking is on' }],
    [{ changeTrackingSupported: false }, true, { active: false, reason: expect.stringContaining('does not support') }],
    [{}, false, { active: false, reason: expect.stringContaining('not allowed') }],
    [{ snapshotCount: 2 }, true, { active: false, reason: expect.stringContaining('snapshots (2)') }],
  ])('says how it stands without touching the VM: %j', async (more, allowed, expected) => {
    await withMachine(async (machine, vsphere) => {
      expect(await ensureChangeTracking(vsphere, config(more), { allowed, cycle })).toEqual(expected)
      expect(machine.calls).toEqual([])
    })
  })

  it('switches on, cycles, and gives the reason when that is refused', async () => {
    await withMachine(async (machine, vsphere) => {
      const disks = (changeId: string): string =>
        `<propSet><name>config.hardware.device</name><val><VirtualDevice xsi:type="VirtualDisk"><key>2000</key><backing><changeId>${changeId}</changeId></backing></VirtualDevice></val></propSet>`
      let cycled = 0
      const counting = (): Promise<void> => {
        cycled++
        return Promise.resolve()
      }
      expect(await ensureChangeTracking(vsphere, config({}), { allowed: true, cycle: counting })).toMatchObject({
        active: false,
        reason: expect.stringContaining('cannot be read'),
      })
      machine.devices = disks('')
      expect(await ensureChangeTracking(vsphere, config({}), { allowed: true, cycle: counting })).toMatchObject({
        active: false,
        reason: expect.stringContaining('did not take hold on disk2000'),
      })
      machine.devices = disks('52 de/1')
      expect(await ensureChangeTracking(vsphere, config({}), { allowed: true, cycle: counting })).toMatchObject({ active: true })
      expect([machine.calls, cycled]).toEqual([Array<string>(3).fill('ReconfigVM_Task'), 3])
      machine.outcomes.push('!NoPermission')
      expect(await ensureChangeTracking(vsphere, config({}), { allowed: true, cycle: counting })).toMatchObject({
        active: false,
        reason: expect.stringContaining('lacks the privilege'),
      })
      expect(cycled).toBe(3)
    })
  })
})
