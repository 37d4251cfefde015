import { Collector } from './collector.ts'
import { notAuthenticated } from './fault.ts'
import { FilterPlan, objects } from './filter-plan.ts'
import { objectContent, readProperties } from './object-reader.ts'
import { ownManagerRef, SERVICE_INSTANCE } from './service-content.ts'
import type { LabSession } from './session.ts'
import { isObject, type LabObject, type LabValue, textOf } from './value.ts'
import { sessionOf, type WireCall, type WireContext, type WireMethods } from './wire-context.ts'

/** The session's default collector, behind the one well-known id, made at its first use. */
export function defaultCollector(context: WireContext, session: LabSession): Collector {
  const own = context.objects(session)
  const ref = ownManagerRef(context.options.kind, 'propertyCollector')
  const known = own.get(ref)
  if (known instanceof Collector) return known
  const collector = new Collector(ref, context, session)
  return own.add(collector, () => collector[Symbol.dispose]())
}

const collectorOf = (call: WireCall): Collector => {
  if (call.self instanceof Collector) return call.self
  return defaultCollector(call.context, sessionOf(call))
}

const result = (page: { objects: LabObject[]; token?: string }): LabValue =>
  page.objects.length === 0 && page.token === undefined ? undefined : { $type: 'RetrieveResult', token: page.token, objects: page.objects }

const pageSize = (call: WireCall): number => {
  const limit = call.context.options.pageLimit ?? 500
  const asked = isObject(call.args.options) ? call.args.options.maxObjects : undefined
  return typeof asked === 'number' && asked > 0 ? Math.min(asked, limit) : limit
}

const wait = (call: WireCall, seconds: number | undefined, maxObjects?: number): Promise<LabObject | undefined> =>
  collectorOf(call).wait({
    version: typeof call.args.version === 'string' ? call.args.version : '',
    maxWaitMs: seconds === undefined ? undefined : seconds * 1000,
    maxObjects,
    signal: call.signal,
  })

const positive = (value: LabValue): number | undefined => (typeof value === 'number' && value > 0 ? value : undefined)

export const propertyCollectorMethods: WireMethods = {
  PropertyCollector: {
    RetrieveProperties: (call) =>
      call.session === undefined ? retrieveOpen(call) : collectorOf(call).retrieve(call.args.specSet, call.version, undefined).objects,
    RetrievePropertiesEx: (call) =>
      result(
        call.session === undefined
          ? { objects: retrieveOpen(call) }
          : collectorOf(call).retrieve(call.args.specSet, call.version, pageSize(call)),
      ),
    ContinueRetrievePropertiesEx: (call) => result(collectorOf(call).continueRetrieve(textOf(call.args.token))),
    CancelRetrievePropertiesEx: (call) => collectorOf(call).cancelRetrieve(textOf(call.args.token)),
    CreateFilter: (call) =>
      collectorOf(call).createFilter(call.args.spec as LabObject, call.args.partialUpdates === true, call.version).ref,
    WaitForUpdatesEx: (call) => {
      const options = isObject(call.args.options) ? call.args.options : undefined
      const seconds = typeof options?.maxWaitSeconds === 'number' ? options.maxWaitSeconds : undefined
      return wait(call, seconds, positive(options?.maxObjectUpdates))
    },
    WaitForUpdates: (call) => wait(call, undefined),
    CheckForUpdates: (call) => wait(call, 0),
    CancelWaitForUpdates: (call) => collectorOf(call).cancelWait(),
    CreatePropertyCollector: (call) => {
      const session = sessionOf(call)
      const own = call.context.objects(session)
      const collector = new Collector(own.newRef('PropertyCollector'), call.context, session)
      return own.add(collector, () => collector[Symbol.dispose]()).ref
    },
    DestroyPropertyCollector: (call) => call.context.objects(sessionOf(call)).remove(collectorOf(call).ref),
  },
  PropertyFilter: {
    DestroyPropertyFilter: (call) => call.context.objects(sessionOf(call)).remove(call.self.ref),
  },
}

/**
 * Before login only the session manager and the service instance can be read, so that a client can see that it has no session; everything else
 * is NotAuthenticated.
 */
function retrieveOpen(call: WireCall): LabObject[] {
  const { context, version } = call
  const plans = objects(call.args.specSet).map((spec) => new FilterPlan(context.types, version, spec))
  const open = [SERVICE_INSTANCE.value, ownManagerRef(context.options.kind, 'sessionManager').value]
  if (plans.some((plan) => plan.structural.size > 0 || plan.roots.some((ref) => !open.includes(ref.value))))
    throw notAuthenticated(call.self.ref)
  return plans.flatMap((plan) =>
    [...plan.walk((ref) => context.lookup(ref, undefined)).values()].map((object) =>
      objectContent(object, readProperties(object, plan.pathsOf(object.ref.$ref) ?? [], context.encoder(version))),
    ),
  )
}
