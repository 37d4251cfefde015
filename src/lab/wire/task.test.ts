import { describe, expect, it } from 'vitest'
import { FakeClock } from '../../../test/lab/fake-clock.ts'
import { ChangeFeed, isObject, labRef, type LabObject, type LabRef, Tasks, VimFault } from './index.ts'

const VM = labRef('VirtualMachine', 'vm-1')
const USER = { userName: 'LAB\\user' }
const make = (kind: 'vcenter' | 'esxi' = 'vcenter') => {
  const clock = new FakeClock()
  const feed = new ChangeFeed()
  const seen: string[] = []
  feed.subscribe((ref, properties) => seen.push(`${ref.value}:${properties.join(',')}`))
  const tasks = new Tasks({ clock, feed, kind, entityName: () => 'web', taskManager: labRef('TaskManager', 'TaskManager') })
  const info = (ref: LabRef): LabObject => {
    const found = tasks.get(ref)?.property('info')
    if (!isObject(found)) throw new Error('no info')
    return found
  }
  return { clock, tasks, seen, info }
}

describe('tasks', () => {
  it('go from running over progress to success, with complete information', async () => {
    const { tasks, seen, info } = make()
    let go: () => void = () => undefined
    const gate = new Promise<void>((resolve) => {
      go = resolve
    })
    const ref = tasks.run('CreateSnapshot_Task', VM, USER, async (task) => {
      task.progress(40)
      await gate
      return labRef('VirtualMachineSnapshot', 'snapshot-1')
    })
    expect(info(ref)).toMatchObject({
      state: 'running',
      progress: 40,
      name: 'CreateSnapshot_Task',
      descriptionId: 'VirtualMachine.createSnapshot',
      entity: VM,
      entityName: 'web',
      cancelable: false,
    })
    expect(tasks.recent(VM)).toEqual([ref])
    expect(tasks.recent(labRef('VirtualMachine', 'vm-2'))).toEqual([])
    go()
    await tasks.settled()
    expect(info(ref)).toMatchObject({ state: 'success', progress: undefined, result: { $ref: 'VirtualMachineSnapshot' } })
    expect(info(ref).completeTime).toBeInstanceOf(Date)
    expect(seen).toContain(`${ref.value}:info`)
    expect(seen).toContain('vm-1:recentTask')
    expect(seen).toContain('TaskManager:recentTask')
  })

  it('carry the fault of their work, also an unforeseen error', async () => {
    const { tasks, info } = make()
    const failed = tasks.run('PowerOnVM_Task', VM, USER, () => {
      throw new VimFault('FileLocked', { file: '[ds] a' }, 'locked')
    })
    const broken = tasks.run('PowerOnVM_Task', VM, USER, () => Promise.reject(new Error('boom')))
    await tasks.settled()
    expect(info(failed).error).toMatchObject({ fault: { $type: 'FileLocked', file: '[ds] a' }, localizedMessage: 'locked' })
    expect(info(broken).error).toMatchObject({ fault: { $type: 'SystemError', reason: 'boom' } })
  })

  it('can be canceled only when they say so', async () => {
    const { tasks, info } = make()
    const work = (task: { signal: AbortSignal }) =>
      new Promise<undefined>((_, reject) => task.signal.addEventListener('abort', () => reject(new Error('stopped')), { once: true }))
    const ref = tasks.run('RelocateVM_Task', VM, USER, work, { cancelable: true })
    tasks.cancel(ref)
    await tasks.settled()
    expect(info(ref)).toMatchObject({ state: 'error', cancelled: true, error: { fault: { $type: 'RequestCanceled' } } })
    expect(() => tasks.cancel(ref)).toThrow(expect.objectContaining({ faultType: 'InvalidState' }))
    const fixed = tasks.run('CreateSnapshot_Task', VM, USER, () => undefined)
    expect(() => tasks.cancel(fixed)).toThrow(expect.objectContaining({ faultType: 'NotSupported' }))
    expect(() => tasks.cancel(labRef('Task', 'task-99'))).toThrow(expect.objectContaining({ faultType: 'ManagedObjectNotFound' }))
  })

  it('vanish ten minutes after their end, not before', async () => {
    const { clock, tasks } = make()
    const ref = tasks.run('PowerOnVM_Task', VM, USER, () => undefined)
    const waiting = tasks.run('PowerOnVM_Task', VM, USER, () => new Promise<undefined>(() => undefined))
    await Promise.resolve()
    await new Promise((resolve) => setImmediate(resolve))
    clock.advance(599_000)
    expect(tasks.get(ref)).toBeDefined()
    clock.advance(2000)
    expect(tasks.get(ref)).toBeUndefined()
    expect(tasks.get(waiting)).toBeDefined()
    expect(tasks.running().length).toBe(1)
  })

  it('made by a client are driven by it', () => {
    const { tasks, info } = make()
    const made = tasks.createForClient('com.example.backup', VM, 'agent', true)
    const ref = made.task as LabRef
    expect(made).toMatchObject({ state: 'queued', descriptionId: 'com.example.backup', name: undefined })
    expect(() => tasks.updateProgress(ref, 5)).toThrow(expect.objectContaining({ faultType: 'InvalidState' }))
    tasks.setState(ref, 'running', undefined, undefined)
    tasks.updateProgress(ref, 5)
    expect(info(ref).progress).toBe(5)
    tasks.setState(ref, 'error', undefined, new VimFault('GenericVmConfigFault', { reason: 'x' }, 'no').localized)
    expect(info(ref).error).toMatchObject({ fault: { $type: 'GenericVmConfigFault' }, localizedMessage: 'no' })
    expect(() => tasks.setState(ref, 'success', undefined, undefined)).toThrow(VimFault)
  })

  it('never name a manager or a snapshot as entity, and have the host’s kind of key on ESXi', async () => {
    const { tasks, info } = make('esxi')
    const ref = tasks.run('DeleteDatastoreFile_Task', labRef('FileManager', 'ha-nfc-file-manager'), USER, () => undefined)
    await tasks.settled()
    expect(info(ref).entity).toBeUndefined()
    expect(ref.value).toMatch(/^haTask-ha-nfc-file-manager-vim\.FileManager\.deleteDatastoreFile-\d+$/)
  })
})
