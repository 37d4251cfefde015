import { describe, expect, it } from 'vitest'
import { FakeClock } from '../../test/lab/fake-clock.ts'
import { type DatastoreRef, type DiskRef, GIB, MIB, silentLog, type VmConfig, type VmRef } from '../core/index.ts'
import { type MoRef, throwIfAborted } from '../core/index.ts'
import { VimNode, type Vsphere } from '../vsphere/index.ts'
import { createSpaceGuard, type SpaceGuard } from './space-guard.ts'
import type { ExpectedRun } from './redo-forecast.ts'

/* One datastore, VMs whose redo logs a test sets, and a clock that it moves; what happens on a real lab is in test/flow/space-guard.test.ts. */
const node = (name: string, value: string | readonly VimNode[], type?: string): VimNode =>
  typeof value === 'string' ? new VimNode(name, { text: value, type }) : new VimNode(name, { children: value, type })

class Stage {
  free = 100 * GIB
  capacity = 1000 * GIB
  fails = false
  readonly redoLogs = new Map<string, number>()
  readonly asked: string[] = []
  readonly clock = new FakeClock()
  readonly ticks: (() => void | Promise<void>)[] = []
  readonly guard: SpaceGuard

  constructor() {
    const { clock, ticks } = this
    const ticking = {
      now: () => clock.now(),
      monotonicMs: () => clock.monotonicMs(),
      sleep: (ms: number) => clock.sleep(ms),
      every: (_ms: number, run: () => void | Promise<void>) => {
        ticks.push(run)
        return { [Symbol.dispose]: () => void ticks.splice(ticks.indexOf(run), 1) }
      },
    }
    const call = async (method: string, self: MoRef, args: object = {}, options: object = {}): Promise<readonly VimNode[]> => {
      throwIfAborted(options)
      this.asked.push(`${method} ${self.value}`)
      if (this.fails) throw new Error('no answer')
      return method.startsWith('Refresh') ? [] : [this.#retrieved(args)]
    }
    const vsphere = { host: 'vc', clock: ticking, log: silentLog, call, service: () => ({ type: 'PropertyCollector', value: 'pc' }) }
    this.guard = createSpaceGuard({
      vsphere: vsphere as unknown as Vsphere,
      clock: ticking,
      log: silentLog,
      reserve: { bytes: 10 * GIB },
      intervalMs: 20_000,
    })
  }

  /** The answer to any RetrievePropertiesEx: the datastore, or the files of the VM that is asked about. */
  #retrieved(args: object): VimNode {
    const asked = JSON.stringify(args)
    const vm = [...this.redoLogs.keys()].find((moref) => asked.includes(`"${moref}"`))
    const object = (ref: string, type: string, props: readonly VimNode[]): VimNode =>
      node('objects', [new VimNode('obj', { text: ref, refType: type }), ...props])
    const property = (name: string, value: VimNode): VimNode => node('propSet', [node('name', name), value])
    if (vm === undefined) {
      const summary = [
        node('name', 'ds1'),
        node('capacity', String(this.capacity)),
        node('freeSpace', String(this.free)),
        node('accessible', 'true'),
      ]
      return node('returnval', [
        object('datastore-1', 'Datastore', [property('name', node('val', 'ds1', 'xsd:string')), property('summary', node('val', summary))]),
      ])
    }
    const file = (name: string, size: number): VimNode =>
      node('VirtualMachineFileLayoutExFileInfo', [node('name', name), node('type', 'diskExtent'), node('size', String(size))])
    const files = [file(`[ds1] ${vm}/a-flat.vmdk`, 50 * GIB)]
    const grown = this.redoLogs.get(vm) ?? 0
    if (grown > 0) files.push(file(`[ds1] ${vm}/a-000001-delta.vmdk`, grown))
    return node('returnval', [object(vm, 'VirtualMachine', [property('layoutEx.file', node('val', files))])])
  }

  config(moref: string, gib = 50, thin = false): VmConfig {
    this.redoLogs.set(moref, 0)
    const vm: VmRef = { moref, name: moref, instanceUuid: 'i', biosUuid: 'b', vcenterUuid: 'v', path: `/DC/vm/${moref}` }
    const disk = {
      label: 'scsi0:0',
      diskMode: 'persistent',
      fileName: `[ds1] ${moref}/a.vmdk`,
      capacityBytes: gib * GIB,
      backing: 'flat',
      thin,
    }
    return {
      vm,
      extraConfig: {},
      disks: [disk as unknown as DiskRef],
      datastores: [{ moref: 'datastore-1', name: 'ds1' } as DatastoreRef],
    } as unknown as VmConfig
  }

  async look(afterMs = 20_000): Promise<void> {
    this.clock.advance(afterMs)
    for (const tick of this.ticks) await tick()
  }
}

/** An hour's reading: 350 GiB at 100 MiB/s. */
const HOUR: ExpectedRun = { bytes: 350 * GIB, changedPerHour: 5 * GIB, readPerSecond: 100 * MIB }

describe('the space guard', () => {
  it('refuses what does not fit beside what it promised to others, and admits it when those are gone', async () => {
    const stage = new Stage()
    await using guard = stage.guard
    stage.free = 30 * GIB
    using first = guard.watch(stage.config('vm-1').vm)
    await first.admit(stage.config('vm-1'), HOUR, [])
    using second = guard.watch(stage.config('vm-2').vm)
    const refused = second.admit(stage.config('vm-2'), HOUR, [])
    await expect(refused).rejects.toMatchObject({ code: 'CAPACITY', subject: 'ds1' })
    await expect(refused).rejects.toThrow(
      /has 30\.0 GiB free: the redo logs of vm-2 may take 10\.\d GiB in 62 min, those of other VMs under way 10\.\d GiB, and 10\.0 GiB must stay free/,
    )
    first[Symbol.dispose]()
    await second.admit(stage.config('vm-2'), HOUR, [])
  })

  it('does not promise the same space to two VMs that ask at once', async () => {
    const stage = new Stage()
    await using guard = stage.guard
    stage.free = 30 * GIB
    const configs = [stage.config('vm-1'), stage.config('vm-2')]
    const results = await Promise.allSettled(configs.map((config) => guard.watch(config.vm).admit(config, HOUR, [])))
    expect(results.map(({ status }) => status).sort()).toEqual(['fulfilled', 'rejected'])
  })

  it('asks once an interval for a datastore, however many VMs, and for no redo logs while there is room', async () => {
    const stage = new Stage()
    await using guard = stage.guard
    for (const name of ['vm-1', 'vm-2', 'vm-3']) await guard.watch(stage.config(name).vm).admit(stage.config(name), HOUR, [])
    stage.asked.length = 0
    await stage.look()
    expect(stage.asked.filter((call) => call.startsWith('RefreshDatastore'))).toEqual(['RefreshDatastore datastore-1'])
    expect(stage.asked.filter((call) => call.startsWith('RefreshStorageInfo'))).toEqual([])
  })

  it('warns of a trend while the reserve is far, and ends the largest when it is near, one at a time', async () => {
    const stage = new Stage()
    await using guard = stage.guard
    const warnings: string[] = []
    const watches = []
    for (const name of ['vm-1', 'vm-2']) {
      const watch = guard.watch(stage.config(name).vm)
      await watch.admit(stage.config(name), HOUR, warnings)
      watches.push(watch)
    }
    const [small, large] = watches
    if (small === undefined || large === undefined) throw new Error('two watches')
    // 1.8 GiB a look: the reserve is some ten minutes away, the end of the run an hour.
    for (let turn = 0; turn < 30; turn++) {
      stage.free -= 1.8 * GIB
      stage.redoLogs.set('vm-1', (stage.redoLogs.get('vm-1') ?? 0) + 0.3 * GIB)
      stage.redoLogs.set('vm-2', (stage.redoLogs.get('vm-2') ?? 0) + 1.5 * GIB)
      await stage.look()
    }
    expect(warnings.length).toBe(2)
    expect(warnings[0]).toContain('The datastore ds1 is filling up')
    expect([small.signal.aborted, large.signal.aborted]).toEqual([false, false])
    while (stage.free > 12 * GIB) {
      stage.free -= 1.8 * GIB
      await stage.look()
    }
    expect([small.signal.aborted, large.signal.aborted]).toEqual([false, true])
    expect(large.signal.reason).toMatchObject({
      code: 'CAPACITY',
      message: expect.stringContaining('the backup of vm-2, whose redo logs are the largest (45.0 GiB), was ended'),
    })
    // While its snapshot is being removed the other goes on, unless even half of the reserve is gone.
    stage.free = 8 * GIB
    await stage.look()
    expect(small.signal.aborted).toBe(false)
    stage.free = 4 * GIB
    await stage.look()
    expect(small.signal.aborted).toBe(true)
  })

  it('keeps room on top for the removal of a thin disk’s redo log', async () => {
    const ended = async (thin: boolean): Promise<boolean> => {
      const stage = new Stage()
      await using guard = stage.guard
      using watch = guard.watch(stage.config('vm-1').vm)
      await watch.admit(stage.config('vm-1', 50, thin), HOUR, [])
      stage.free = 30 * GIB
      stage.redoLogs.set('vm-1', 25 * GIB)
      await stage.look()
      return watch.signal.aborted
    }
    expect([await ended(true), await ended(false)]).toEqual([true, false])
  })

  it('lets a backup that is about to end come to its end', async () => {
    const stage = new Stage()
    await using guard = stage.guard
    using watch = guard.watch(stage.config('vm-1').vm)
    await watch.admit(stage.config('vm-1'), { ...HOUR, bytes: GIB }, [])
    watch.progress(0, GIB)
    stage.clock.advance(100_000)
    watch.progress(0.95 * GIB, GIB)
    stage.free = 9 * GIB
    await stage.look(1000)
    expect(watch.signal.aborted).toBe(false)
  })

  it('ends nothing when the question fails, and says so once', async () => {
    const stage = new Stage()
    await using guard = stage.guard
    const warnings: string[] = []
    using watch = guard.watch(stage.config('vm-1').vm)
    await watch.admit(stage.config('vm-1'), HOUR, warnings)
    stage.fails = true
    stage.free = 0
    await stage.look()
    await stage.look()
    expect(watch.signal.aborted).toBe(false)
    expect(warnings).toEqual(['Free space on the datastores could not be asked for: no answer'])
  })
})
