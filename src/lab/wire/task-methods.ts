import { entityMatches } from './event-methods.ts'
import { invalidArgument, notFound } from './fault.ts'
import { HistoryCollector, inTime } from './history-collector.ts'
import type { ManagedObject } from './managed-object.ts'
import { ownManagerRef } from './service-content.ts'
import { isList, isObject, isRef, type LabObject, textOf } from './value.ts'
import { sessionOf, type WireCall, type WireContext, type WireMethods } from './wire-context.ts'

export const taskManager = (context: WireContext): ManagedObject => ({
  ref: ownManagerRef(context.options.kind, 'taskManager'),
  property: (name) => {
    switch (name) {
      case 'recentTask':
        return context.options.tasks.recent()
      case 'maxCollector':
        return 1000
      case 'description':
        return {
          $type: 'TaskDescription',
          methodInfo: [],
          state: ['queued', 'running', 'success', 'error'].map((key) => ({ $type: 'ElementDescription', label: key, summary: key, key })),
          reason: [{ $type: 'TypeDescription', label: 'user', summary: 'user', key: 'TaskReasonUser' }],
        }
      default:
        return undefined
    }
  },
})

function createTask(call: WireCall): LabObject {
  const { obj, taskTypeId, initiatedBy, cancelable } = call.args
  if (!isRef(obj)) throw invalidArgument('obj')
  const object = call.context.lookup(obj, call.session)
  if (object === undefined) throw notFound(obj)
  if (!call.context.types.extendsManaged(object.ref.$ref, 'ManagedEntity')) throw invalidArgument('obj')
  const user = typeof initiatedBy === 'string' && initiatedBy !== '' ? initiatedBy : sessionOf(call).userName
  return call.context.options.tasks.createForClient(textOf(taskTypeId), object.ref, user, cancelable === true)
}

function taskInfos(context: WireContext, filter: LabObject): LabObject[] {
  return context.options.tasks.recent().flatMap((ref) => {
    const info = context.options.tasks.get(ref)?.property('info')
    if (!isObject(info)) return []
    const { entity, state, time, eventChainId } = filter
    if (isObject(entity)) {
      const wanted = entity.entity
      if (!isRef(wanted) || !isRef(info.entity) || !entityMatches(context, info.entity, wanted, entity.recursion)) return []
    }
    if (isList(state) && state.length > 0 && !state.includes(info.state)) return []
    if (isList(eventChainId) && eventChainId.length > 0 && !eventChainId.includes(info.eventChainId)) return []
    if (isObject(time)) {
      const at = time.timeType === 'queuedTime' ? info.queueTime : time.timeType === 'startedTime' ? info.startTime : info.completeTime
      if (!inTime(time, at)) return []
    }
    return [info]
  })
}

export const taskMethods: WireMethods = {
  TaskManager: {
    CreateTask: createTask,
    CreateCollectorForTasks: (call) => {
      const { filter } = call.args
      if (!isObject(filter)) throw invalidArgument('filter')
      const own = call.context.objects(sessionOf(call))
      return own.add(new HistoryCollector(own.newRef('TaskHistoryCollector'), filter, () => taskInfos(call.context, filter))).ref
    },
  },
  Task: {
    CancelTask: (call) => call.context.options.tasks.cancel(call.self.ref),
    SetTaskState: (call) => {
      const { state, result, fault } = call.args
      call.context.options.tasks.setState(call.self.ref, textOf(state), result, isObject(fault) ? fault : undefined)
    },
    UpdateProgress: (call) => {
      const percent = call.args.percentDone
      if (typeof percent !== 'number' || percent < 0 || percent > 100) throw invalidArgument('percentDone')
      call.context.options.tasks.updateProgress(call.self.ref, percent)
    },
    SetTaskDescription: (call) => {
      if (!isObject(call.args.description)) throw invalidArgument('description')
      call.context.options.tasks.setDescription(call.self.ref, call.args.description)
    },
  },
}
