import type { Clock } from '../../core/index.ts'
import type { ChangeFeed } from './change-feed.ts'
import { isObject, isRef, type LabObject, type LabRef } from './value.ts'

export type EventsOptions = {
  readonly clock: Clock
  readonly feed: ChangeFeed
  readonly eventManager: LabRef
  /** Events kept; the oldest fall out. */
  readonly keep?: number
}

/** The server's event log. The model posts; EventManager and its collectors read. */
export class Events {
  readonly #options: EventsOptions
  readonly #events: LabObject[] = []
  readonly #listeners = new Set<(event: LabObject) => void>()
  #next = 1

  constructor(options: EventsOptions) {
    this.#options = Object.freeze({ ...options })
  }

  /**
   * Appends an event, e.g. `{ $type: 'VmPoweredOnEvent', vm: vmArgument, template: false, fullFormattedMessage: '…' }`. key, chainId, createdTime
   * and an empty userName are filled in when absent. Returns the stored event.
   */
  post(event: LabObject): LabObject {
    const key = this.#next++
    const chainId = typeof event.chainId === 'number' && event.chainId > 0 ? event.chainId : key
    const stored: LabObject = { userName: '', ...event, key, chainId, createdTime: this.#options.clock.now() }
    this.#events.push(stored)
    if (this.#events.length > (this.#options.keep ?? 10_000)) this.#events.shift()
    this.#options.feed.changed(this.#options.eventManager, 'latestEvent')
    for (const listener of this.#listeners) listener(stored)
    return stored
  }

  /** Oldest first. */
  list(): readonly LabObject[] {
    return this.#events
  }

  subscribe(listener: (event: LabObject) => void): Disposable {
    this.#listeners.add(listener)
    return { [Symbol.dispose]: () => void this.#listeners.delete(listener) }
  }
}

/** `{ $type: 'VmEventArgument', name, vm }` and its kin: the way events name an entity. */
export const eventArgument = (type: string, field: string, name: string, ref: LabRef): LabObject => ({ $type: type, name, [field]: ref })

/** Every object an event names, to match an EventFilterSpec's entity. */
export function eventEntities(event: LabObject): LabRef[] {
  const found: LabRef[] = []
  for (const value of Object.values(event)) {
    if (isRef(value)) found.push(value)
    if (isObject(value)) for (const inner of Object.values(value)) if (isRef(inner)) found.push(inner)
  }
  return found
}
