import { describe, expect, it } from 'vitest'
import { systemClock } from '../../src/core/index.ts'
import { fetchThumbprint, faultOf, runTask, waitTask, waitTasksOf } from '../../src/vsphere/index.ts'
import { CUT, hurriedClock, type Reaction, type SoapCall, SoapStub } from './soap-stub.ts'

const VM = { type: 'VirtualMachine', value: 'vm-1' }
const TASK = { type: 'Task', value: 'task-7' }
const started = '<returnval type="Task">task-7</returnval>'

type Change = readonly [name: string, value: string | undefined]
const state = (text: string): Change => ['info.state', `<val xsi:type="TaskInfoState">${text}</val>`]
const update = (changes: readonly Change[], more = ''): string =>
  `<returnval><version>v</version><filterSet><filter type="PropertyFilter">f</filter><objectSet><kind>modify</kind><obj type="Task">task-7</obj>${changes
    .map(([name, value]) => `<changeSet><name>${name}</name><op>assign</op>${value ?? ''}</changeSet>`)
    .join('')}</objectSet></filterSet>${more}</returnval>`

async function withStub<T>(
  react: (call: SoapCall) => Reaction | undefined,
  run: (stub: SoapStub, vsphere: Awaited<ReturnType<SoapStub['connect']>>) => Promise<T>,
): Promise<T> {
  await using stub = await SoapStub.start(react)
  await using vsphere = await stub.connect((await fetchThumbprint(stub.host)).sha256, hurriedClock)
  return await run(stub, vsphere)
}

/** Answers successive WaitForUpdatesEx calls with successive reactions. */
const waits =
  (...answers: Reaction[]) =>
  ({ method, count }: SoapCall): Reaction | undefined =>
    method === 'WaitForUpdatesEx' ? answers[count - 1] : method.endsWith('_Task') ? started : undefined

describe('tasks', () => {
  it('reports name and progress, lives through empty waits and unset properties, and gives the result', async () => {
    const progress = (n: number): Change => ['info.progress', `<val xsi:type="xsd:int">${n}</val>`]
    const result: Change = ['info.result', '<val xsi:type="ManagedObjectReference" type="VirtualMachineSnapshot">snapshot-9</val>']
    await withStub(
      waits(
        update([state('queued')]),
        '',
        update([state('running'), progress(10)]),
        update([progress(55)]),
        update([['info.progress', undefined]]),
        update([state('success'), result]),
      ),
      async (stub, vsphere) => {
        const seen: (string | number)[] = []
        const found = await runTask(
          vsphere,
          'CreateSnapshot_Task',
          VM,
          {},
          {
            onStarted: ({ value }) => void seen.push(value),
            onProgress: (percent) => void seen.push(percent),
          },
        )
        expect(found?.asRef()).toEqual({ type: 'VirtualMachineSnapshot', value: 'snapshot-9' })
        expect(seen).toEqual(['task-7', 10, 55])
        expect(stub.count('DestroyPropertyCollector')).toBe(1)
        expect(stub.calls.findLast(({ method }) => method === 'WaitForUpdatesEx')?.body).toContain(
          '<version>v</version><options><maxWaitSeconds>30</maxWaitSeconds>',
        )
      },
    )
  })

  it("gives the task's fault, its file and its keys", async () => {
    const error: Change = [
      'info.error',
      '<val xsi:type="LocalizedMethodFault"><fault xsi:type="FileLocked"><faultMessage><key>msg.disk.locked</key></faultMessage><file>[ds] web/web.vmdk</file></fault><localizedMessage>locked</localizedMessage></val>',
    ]
    await withStub(waits(update([state('error'), error])), async (_stub, vsphere) => {
      const failed: unknown = await runTask(vsphere, 'ConsolidateVMDisks_Task', VM, {}, { subject: 'web' }).catch(
        (reason: unknown) => reason,
      )
      expect(failed).toMatchObject({
        code: 'CONFLICT',
        retry: 'later',
        subject: 'web',
        message: expect.stringContaining('[ds] web/web.vmdk is locked'),
      })
      expect(faultOf(failed)).toMatchObject({ faultName: 'FileLocked', messageKeys: ['msg.disk.locked'] })
    })
  })

  it('waits for the rest of a truncated update before it names the error', async () => {
    const error: Change = [
      'info.error',
      '<val xsi:type="LocalizedMethodFault"><fault xsi:type="NoDiskSpace"><datastore>ds1</datastore></fault><localizedMessage/></val>',
    ]
    await withStub(waits(update([state('error')], '<truncated>true</truncated>'), update([error])), async (_stub, vsphere) => {
      await expect(waitTask(vsphere, TASK)).rejects.toMatchObject({ code: 'CAPACITY', message: expect.stringContaining('ds1 is full') })
    })
  })

  it('outlasts cut connections, and builds its collector again after a lost session and a collector that is gone', async () => {
    let lost = false
    const answers = waits(CUT, CUT, CUT, CUT, { fault: 'ManagedObjectNotFound' }, { fault: 'RequestCanceled' }, update([state('success')]))
    await withStub(
      (call) => {
        if (call.method === 'RetrievePropertiesEx') return '<returnval><objects><obj type="Task">task-7</obj></objects></returnval>'
        if (call.method === 'WaitForUpdatesEx' && call.count === 5 && !lost) {
          lost = true
          return { fault: 'NotAuthenticated' }
        }
        return call.method === 'WaitForUpdatesEx'
          ? answers({ ...call, count: lost && call.count > 5 ? call.count - 1 : call.count })
          : answers(call)
      },
      async (stub, vsphere) => {
        await waitTask(vsphere, TASK)
        expect(stub.count('CreatePropertyCollector')).toBe(3)
        expect(vsphere.login).toBe(2)
      },
    )
  })

  it('does not know what became of a task the server has forgotten', async () => {
    await withStub(
      ({ method }) => (method === 'CreateFilter' ? { fault: 'ManagedObjectNotFound' } : method === 'RetrievePropertiesEx' ? '' : undefined),
      async (_stub, vsphere) => {
        await expect(waitTask(vsphere, TASK)).rejects.toMatchObject({
          code: 'UNAVAILABLE',
          message: expect.stringContaining('no longer knows the task'),
        })
      },
    )
  })

  it('cancels the task when its caller gives up', async () => {
    const controller = new AbortController()
    await withStub(
      ({ method }) => {
        if (method === 'WaitForUpdatesEx') {
          controller.abort()
          return new Promise<string>(() => undefined)
        }
        return method === 'CreateSnapshot_Task' ? started : method === 'CancelTask' ? { fault: 'NotSupported' } : undefined
      },
      async (stub, vsphere) => {
        await expect(runTask(vsphere, 'CreateSnapshot_Task', VM, {}, { signal: controller.signal })).rejects.toMatchObject({
          code: 'CANCELED',
        })
        expect(stub.count('CancelTask')).toBe(1)
      },
    )
  })

  it('waits until nothing runs on a VM, whatever became of it', async () => {
    let running = true
    await withStub(
      ({ method, body }) => {
        if (method === 'RetrievePropertiesEx' && body.includes('recentTask')) {
          return '<returnval><objects><obj type="VirtualMachine">vm-1</obj><propSet><name>recentTask</name><val xsi:type="ArrayOfManagedObjectReference"><ManagedObjectReference type="Task">task-7</ManagedObjectReference></val></propSet></objects></returnval>'
        }
        if (method === 'RetrievePropertiesEx') {
          return `<returnval><objects><obj type="Task">task-7</obj><propSet><name>info.state</name><val>${running ? 'running' : 'error'}</val></propSet></objects></returnval>`
        }
        if (method !== 'WaitForUpdatesEx') return undefined
        running = false
        return update([state('error')])
      },
      async (stub, vsphere) => {
        await waitTasksOf(vsphere, VM)
        expect(stub.count('WaitForUpdatesEx')).toBe(1)
      },
    )
  })

  it('awaits the answer that names the task when its caller gives up before, and cancels that task', async () => {
    const controller = new AbortController()
    let release: (answer: string) => void = () => undefined
    await withStub(
      ({ method }) => {
        if (method !== 'CreateSnapshot_Task') return method === 'WaitForUpdatesEx' ? update([state('running')]) : undefined
        controller.abort()
        return new Promise<string>((resolve) => {
          release = resolve
        })
      },
      async (stub) => {
        // A clock with real pauses: the answer comes long before the patience with it ends.
        await using vsphere = await stub.connect((await fetchThumbprint(stub.host)).sha256)
        const failed = runTask(vsphere, 'CreateSnapshot_Task', VM, {}, { signal: controller.signal })
        await systemClock.sleep(300)
        release(started)
        await expect(failed).rejects.toMatchObject({ code: 'CANCELED' })
        expect(stub.count('CancelTask')).toBe(1)
      },
    )
  })

  it('leaves a task that undoes something to run when its caller gives up', async () => {
    const controller = new AbortController()
    await withStub(
      ({ method }) => {
        if (method === 'WaitForUpdatesEx') {
          controller.abort()
          return new Promise<string>(() => undefined)
        }
        return method === 'RemoveSnapshot_Task' ? started : undefined
      },
      async (stub, vsphere) => {
        const options = { signal: controller.signal, leave: true }
        await expect(runTask(vsphere, 'RemoveSnapshot_Task', VM, {}, options)).rejects.toMatchObject({ code: 'CANCELED' })
        expect(stub.count('CancelTask')).toBe(0)
      },
    )
  })

  describe("waiting for other people's tasks", () => {
    const busy = ({ method, body }: SoapCall): Reaction | undefined => {
      if (method === 'RetrievePropertiesEx' && body.includes('recentTask')) {
        return '<returnval><objects><obj type="VirtualMachine">vm-1</obj><propSet><name>recentTask</name><val xsi:type="ArrayOfManagedObjectReference"><ManagedObjectReference type="Task">task-7</ManagedObjectReference></val></propSet></objects></returnval>'
      }
      if (method === 'RetrievePropertiesEx') {
        return '<returnval><objects><obj type="Task">task-7</obj><propSet><name>info.state</name><val>running</val></propSet><propSet><name>info.descriptionId</name><val>VirtualMachine.clone</val></propSet></objects></returnval>'
      }
      return undefined
    }

    it('ends after a time, and says which task it was', async () => {
      await withStub(
        (call) => busy(call) ?? (call.method === 'WaitForUpdatesEx' ? update([state('running')]) : undefined),
        async (_stub, vsphere) => {
          const began = systemClock.monotonicMs()
          await expect(waitTasksOf(vsphere, VM, { forMs: 400, subject: 'web' })).rejects.toMatchObject({
            code: 'CONFLICT',
            retry: 'later',
            message: expect.stringContaining('A task (VirtualMachine.clone) on web is still running'),
          })
          expect(systemClock.monotonicMs() - began).toBeLessThan(20_000)
        },
      )
    })

    it('ends with the signal, and cancels none of them', async () => {
      const controller = new AbortController()
      await withStub(
        (call) => {
          if (call.method === 'WaitForUpdatesEx') {
            controller.abort()
            return new Promise<string>(() => undefined)
          }
          return busy(call)
        },
        async (stub, vsphere) => {
          await expect(waitTasksOf(vsphere, VM, { signal: controller.signal })).rejects.toMatchObject({ code: 'CANCELED' })
          expect(stub.count('CancelTask')).toBe(0)
        },
      )
    })
  })
})
