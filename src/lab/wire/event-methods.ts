import { eventEntities } from './events.ts'
import { invalidArgument, notFound } from './fault.ts'
import type { ManagedObject } from './managed-object.ts'
import { HistoryCollector, inTime } from './history-collector.ts'
import { ownManagerRef } from './service-content.ts'
import { entityArgument, nameOf } from './task-events.ts'
import type { TypeTable } from './type-table.ts'
import { isList, isObject, isRef, type LabObject, type LabRef, type LabValue, textOf } from './value.ts'
import { sessionOf, type WireCall, type WireContext, type WireMethods } from './wire-context.ts'

/** How many levels an entity's parents are followed at most. */
const MAX_LEVELS = 64

export const eventManager = (context: WireContext): ManagedObject => ({
  ref: ownManagerRef(context.options.kind, 'eventManager'),
  property: (name) => {
    switch (name) {
      case 'description':
        return eventDescription(context.types)
      case 'latestEvent':
        return context.options.events.list().at(-1)
      case 'maxCollector':
        return 1000
      default:
        return undefined
    }
  },
})

/** Does `entity` lie at `of`, below it (children: one level), or both? */
export function entityMatches(context: WireContext, entity: LabRef, of: LabRef, recursion: LabValue): boolean {
  if (entity.value === of.value) return recursion !== 'children'
  if (recursion === 'self') return false
  let current: LabRef | undefined = entity
  for (let level = 0; current !== undefined && level < MAX_LEVELS; level++) {
    const parent: LabValue = context.lookup(current, undefined)?.property('parent')
    current = isRef(parent) ? parent : undefined
    if (current?.value === of.value) return recursion === 'all' || level === 0
  }
  return false
}

function matches(context: WireContext, filter: LabObject, event: LabObject): boolean {
  const { entity, time, userName, eventChainId, eventTypeId, type, category } = filter
  if (isObject(entity)) {
    const wanted = entity.entity
    if (!isRef(wanted)) throw invalidArgument('filter.entity')
    const root = wanted.value === context.options.rootFolder.value && entity.recursion === 'all'
    if (!root && !eventEntities(event).some((ref) => entityMatches(context, ref, wanted, entity.recursion))) return false
  }
  if (!inTime(time, event.createdTime)) return false
  if (isObject(userName)) {
    const users = isList(userName.userList) ? userName.userList : []
    const system = userName.systemUser === true && event.userName === ''
    if (!system && (users.length > 0 || userName.systemUser !== true) && !users.includes(event.userName)) return false
  }
  if (typeof eventChainId === 'number' && event.chainId !== eventChainId) return false
  const ids = [...(isList(eventTypeId) ? eventTypeId : []), ...(isList(type) ? type : [])].map(textOf)
  if (ids.length > 0 && !ids.some((id) => isOfType(context.types, event, id))) return false
  if (isList(category) && category.length > 0 && !category.includes(categoryOf(event.$type, event.severity))) return false
  return true
}

const isOfType = (types: TypeTable, event: LabObject, id: string): boolean => {
  const name = id.replace(/^vim\.event\./, '')
  return event.eventTypeId === id || types.extendsData(event.$type, name)
}

const categoryOf = (type: string, severity: LabValue): string => {
  if (typeof severity === 'string') return severity
  return /Fail|Error|Cannot|Orphaned/.test(type)
    ? 'error'
    : /Disconnected|NoNetwork|Timedout/.test(type)
      ? 'warning'
      : /User|Session/.test(type)
        ? 'user'
        : 'info'
}

const matching = (context: WireContext, filter: LabObject): LabObject[] => {
  const found = context.options.events.list().filter((event) => matches(context, filter, event))
  return typeof filter.maxCount === 'number' && filter.maxCount > 0 ? found.slice(-filter.maxCount) : found
}

function filterOf(call: WireCall): LabObject {
  const { filter } = call.args
  if (!isObject(filter)) throw invalidArgument('filter')
  const entity = isObject(filter.entity) ? filter.entity.entity : undefined
  if (isRef(entity) && call.context.lookup(entity, call.session) === undefined) throw notFound(entity)
  return filter
}

function logUserEvent(call: WireCall): undefined {
  const { entity, msg } = call.args
  if (!isRef(entity)) throw invalidArgument('entity')
  const lookup = (ref: LabRef): ManagedObject | undefined => call.context.lookup(ref, undefined)
  const object = lookup(entity)
  if (object === undefined) throw notFound(entity)
  call.context.options.events.post({
    $type: 'GeneralUserEvent',
    userName: sessionOf(call).userName,
    ...entityArgument(object.ref, lookup),
    fullFormattedMessage: `User logged event: ${textOf(msg)}`,
    message: textOf(msg),
    entity: { $type: 'ManagedEntityEventArgument', name: nameOf(object.ref, lookup), entity: object.ref },
  })
}

function postEvent(call: WireCall): undefined {
  const event = call.args.eventToPost
  if (!isObject(event)) throw invalidArgument('eventToPost')
  const user = typeof event.userName === 'string' && event.userName !== '' ? event.userName : sessionOf(call).userName
  call.context.options.events.post({ fullFormattedMessage: event.message, ...event, userName: user })
}

const collectorOf = (call: WireCall): HistoryCollector => {
  if (call.self instanceof HistoryCollector) return call.self
  throw notFound(call.self.ref)
}

export const eventMethods: WireMethods = {
  EventManager: {
    QueryEvents: (call) => matching(call.context, filterOf(call)),
    LogUserEvent: logUserEvent,
    PostEvent: postEvent,
    CreateCollectorForEvents: (call) => {
      const filter = filterOf(call)
      const own = call.context.objects(sessionOf(call))
      const collector = new HistoryCollector(own.newRef('EventHistoryCollector'), filter, () => matching(call.context, filter))
      const subscription = call.context.options.events.subscribe(() => call.context.options.feed.changed(collector.ref, 'latestPage'))
      return own.add(collector, () => subscription[Symbol.dispose]()).ref
    },
  },
  HistoryCollector: {
    SetCollectorPageSize: (call) => {
      const size = call.args.maxCount
      if (typeof size !== 'number' || size <= 0) throw invalidArgument('maxCount')
      collectorOf(call).setPageSize(size)
      call.context.options.feed.changed(call.self.ref, 'latestPage')
    },
    RewindCollector: (call) => collectorOf(call).rewind(),
    ResetCollector: (call) => collectorOf(call).reset(),
    DestroyCollector: (call) => call.context.objects(sessionOf(call)).remove(call.self.ref),
  },
  EventHistoryCollector: {
    ReadNextEvents: (call) => collectorOf(call).readNext(count(call)),
    ReadPreviousEvents: (call) => collectorOf(call).readPrevious(count(call)),
  },
  TaskHistoryCollector: {
    ReadNextTasks: (call) => collectorOf(call).readNext(count(call)),
    ReadPreviousTasks: (call) => collectorOf(call).readPrevious(count(call)),
  },
}

function count(call: WireCall): number {
  const value = call.args.maxCount
  if (typeof value !== 'number' || value <= 0) throw invalidArgument('maxCount')
  return value
}

/** EventDescription: the event types the lab knows, with words made from their names. */
function eventDescription(types: TypeTable): LabObject {
  const words = (name: string): string => name.replace(/Event(Ex)?$/, '').replace(/([a-z])([A-Z])/g, '$1 $2')
  return {
    $type: 'EventDescription',
    category: ['info', 'warning', 'error', 'user'].map((key) => ({ $type: 'ElementDescription', label: key, summary: key, key })),
    eventInfo: types.subtypes('Event').map((name) => ({
      $type: 'EventDescriptionEventDetail',
      key: name,
      description: words(name),
      category: categoryOf(name, undefined),
      formatOnDatacenter: words(name),
      formatOnComputeResource: words(name),
      formatOnHost: words(name),
      formatOnVm: words(name),
      fullFormat: words(name),
    })),
  }
}
