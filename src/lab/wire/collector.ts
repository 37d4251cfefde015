import { VimFault } from './fault.ts'
import { FilterPlan, type Lookup, objects } from './filter-plan.ts'
import type { ManagedObject } from './managed-object.ts'
import { objectContent, readProperties } from './object-reader.ts'
import { PropertyFilter } from './property-filter.ts'
import type { LabSession } from './session.ts'
import type { LabObject, LabRef, LabValue } from './value.ts'
import type { WireContext } from './wire-context.ts'

type Pending = { readonly filter: LabRef; readonly update?: LabObject; readonly missing?: LabObject }
type Page = { readonly encoderVersion: number; readonly entries: { object: LabRef; plan: FilterPlan }[]; readonly size: number }
export type WaitOptions = {
  readonly version: string
  /** Undefined waits for ever; 0 only looks. */
  readonly maxWaitMs: number | undefined
  readonly maxObjects: number | undefined
  readonly signal: AbortSignal
}

/** Retrievals a session may leave unfinished; the oldest is given up. */
const MAX_PAGES = 100

/** A PropertyCollector of one session: retrieval with pages, filters, and the wait for their updates. */
export class Collector implements ManagedObject, Disposable {
  readonly ref: LabRef
  readonly #context: WireContext
  readonly #session: LabSession
  readonly #lookup: Lookup
  readonly #filters = new Map<string, PropertyFilter>()
  readonly #pages = new Map<string, Page>()
  readonly #subscription: Disposable
  #nextToken = 1
  #version = 0
  #last: LabObject | undefined
  #pending: Pending[] = []
  #waiting: AbortController | undefined
  #wake: () => void = () => undefined

  constructor(ref: LabRef, context: WireContext, session: LabSession) {
    this.ref = ref
    this.#context = context
    this.#session = session
    this.#lookup = (wanted) => context.lookup(wanted, session)
    this.#subscription = context.options.feed.subscribe((changed, properties) => {
      let relevant = false
      for (const filter of this.#filters.values()) relevant = filter.note(changed, properties) || relevant
      if (relevant) this.#wake()
    })
  }

  property(name: string): LabValue {
    return name === 'filter' ? [...this.#filters.values()].map((filter) => filter.ref) : undefined
  }

  /** RetrieveProperties(Ex). `maxObjects` undefined = everything at once, as the old call does. */
  retrieve(specSet: LabValue, version: number, maxObjects: number | undefined): { objects: LabObject[]; token?: string } {
    const plans = objects(specSet).map((spec) => new FilterPlan(this.#context.types, version, spec))
    const entries = plans.flatMap((plan) => [...plan.walk(this.#lookup).values()].map((object) => ({ object: object.ref, plan })))
    return this.#page({ encoderVersion: version, entries, size: maxObjects ?? entries.length })
  }

  /** The next page. Fault InvalidArgument(token) for one that is unknown or used. */
  continueRetrieve(token: string): { objects: LabObject[]; token?: string } {
    const page = this.#pages.get(token)
    if (page === undefined)
      throw new VimFault('InvalidArgument', { invalidProperty: 'token' }, 'A specified parameter was not correct: token')
    this.#pages.delete(token)
    return this.#page(page)
  }

  cancelRetrieve(token: string): void {
    if (!this.#pages.delete(token))
      throw new VimFault('InvalidArgument', { invalidProperty: 'token' }, 'A specified parameter was not correct: token')
  }

  createFilter(spec: LabObject, partialUpdates: boolean, version: number): PropertyFilter {
    const plan = new FilterPlan(this.#context.types, version, spec)
    plan.walk(this.#lookup)
    const own = this.#context.objects(this.#session)
    const filter = new PropertyFilter(
      own.newRef('PropertyFilter'),
      spec,
      plan,
      this.#context.encoder(version),
      this.#lookup,
      partialUpdates,
    )
    own.add(filter, () => void this.#filters.delete(filter.ref.value))
    this.#filters.set(filter.ref.value, filter)
    this.#wake()
    return filter
  }

  /** Ends a wait under way with RequestCanceled. */
  cancelWait(): void {
    this.#waiting?.abort()
  }

  /** WaitForUpdatesEx: the UpdateSet, or undefined when the time is over. Faults InvalidCollectorVersion, RequestCanceled, NotAuthenticated. */
  async wait(options: WaitOptions): Promise<LabObject | undefined> {
    if (options.version === '') {
      for (const filter of this.#filters.values()) filter.reset()
      this.#pending = []
      this.#last = undefined
    } else if (this.#last !== undefined && options.version === String(this.#version - 1)) return this.#last
    else if (options.version !== String(this.#version)) throw new VimFault('InvalidCollectorVersion', {})
    this.cancelWait()
    const cancel = new AbortController()
    this.#waiting = cancel
    using _busy = this.#context.options.sessions.busy(this.#session)
    const stop = AbortSignal.any([cancel.signal, options.signal, this.#session.ended])
    const clock = this.#context.options.clock
    const deadline = options.maxWaitMs === undefined ? Number.POSITIVE_INFINITY : clock.monotonicMs() + options.maxWaitMs
    try {
      for (;;) {
        const changed = new Promise<void>((resolve) => {
          this.#wake = resolve
        })
        const update = this.#collect(options.maxObjects)
        if (update !== undefined) return update
        const left = deadline - clock.monotonicMs()
        if (left <= 0) return undefined
        await this.#pause(changed, left, stop)
        if (this.#session.ended.aborted)
          throw new VimFault('NotAuthenticated', { object: this.ref, privilegeId: 'System.View' }, 'The session is not authenticated.')
        if (stop.aborted) throw new VimFault('RequestCanceled', {}, 'The request was canceled.')
      }
    } finally {
      if (this.#waiting === cancel) this.#waiting = undefined
    }
  }

  [Symbol.dispose](): void {
    this.#subscription[Symbol.dispose]()
    this.cancelWait()
    this.#pages.clear()
    this.#filters.clear()
  }

  /** Until something changed, the time is over or `stop` fires; never rejects. */
  async #pause(changed: Promise<void>, ms: number, stop: AbortSignal): Promise<void> {
    const end = new AbortController()
    const signal = AbortSignal.any([end.signal, stop])
    const stopped = new Promise<void>((resolve) => {
      if (signal.aborted) resolve()
      else signal.addEventListener('abort', () => resolve(), { once: true })
    })
    const timer = Number.isFinite(ms)
      ? this.#context.options.clock.sleep(Math.min(ms, 0x7fffffff), { signal }).catch((error: unknown) => {
          if (!signal.aborted) throw error
        })
      : stopped
    await Promise.race([changed, timer, stopped])
    end.abort()
  }

  #collect(maxObjects: number | undefined): LabObject | undefined {
    for (const filter of this.#filters.values()) {
      const { updates, missing } = filter.updates()
      for (const update of updates) this.#pending.push({ filter: filter.ref, update })
      for (const object of missing) this.#pending.push({ filter: filter.ref, missing: object })
    }
    this.#pending = this.#pending.filter((entry) => this.#filters.has(entry.filter.value))
    if (this.#pending.length === 0) return undefined
    const limit = Math.min(maxObjects ?? Number.POSITIVE_INFINITY, this.#limit())
    const now = this.#pending.splice(0, limit)
    const byFilter = Map.groupBy(now, (entry) => entry.filter.value)
    this.#version++
    this.#last = {
      $type: 'UpdateSet',
      version: String(this.#version),
      filterSet: [...byFilter.values()].map((entries) => ({
        $type: 'PropertyFilterUpdate',
        filter: entries[0]?.filter,
        objectSet: entries.flatMap((entry) => entry.update ?? []),
        missingSet: entries.flatMap((entry) => entry.missing ?? []),
      })),
      truncated: this.#pending.length > 0,
    }
    return this.#last
  }

  #page(page: Page): { objects: LabObject[]; token?: string } {
    const now = page.entries.splice(0, page.size)
    const encoder = this.#context.encoder(page.encoderVersion)
    const found = now.flatMap(({ object: ref, plan }) => {
      const object = this.#lookup(ref)
      return object === undefined ? [] : [objectContent(object, readProperties(object, plan.pathsOf(ref.$ref) ?? [], encoder))]
    })
    if (page.entries.length === 0) return { objects: found }
    const token = String(this.#nextToken++)
    this.#pages.set(token, page)
    const [oldest] = this.#pages.keys()
    if (this.#pages.size > MAX_PAGES && oldest !== undefined) this.#pages.delete(oldest)
    return { objects: found, token }
  }

  #limit(): number {
    return this.#context.options.pageLimit ?? 500
  }
}
