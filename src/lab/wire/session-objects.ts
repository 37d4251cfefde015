import { randomUUID } from 'node:crypto'
import { notFound } from './fault.ts'
import type { ManagedObject } from './managed-object.ts'
import type { LabSession } from './session.ts'
import { labRef, type LabRef } from './value.ts'

/** Views, filters and collectors that live and die with one session. */
export class SessionObjects implements Disposable {
  readonly session: LabSession
  readonly #objects = new Map<string, { object: ManagedObject; dispose: () => void }>()

  constructor(session: LabSession) {
    this.session = session
    session.ended.addEventListener('abort', () => this[Symbol.dispose](), { once: true })
  }

  /** A fresh reference, shaped like a real server's. */
  newRef(type: string): LabRef {
    return labRef(type, `session[${this.session.key}]52${randomUUID().slice(2)}`)
  }

  add<T extends ManagedObject>(object: T, dispose: () => void = () => undefined): T {
    this.#objects.set(object.ref.value, { object, dispose })
    return object
  }

  get(ref: LabRef): ManagedObject | undefined {
    return this.#objects.get(ref.value)?.object
  }

  /** Fault ManagedObjectNotFound when there is no such object of this session. */
  remove(ref: LabRef): void {
    const entry = this.#objects.get(ref.value)
    if (entry === undefined) throw notFound(ref)
    this.#objects.delete(ref.value)
    entry.dispose()
  }

  [Symbol.dispose](): void {
    for (const entry of this.#objects.values()) entry.dispose()
    this.#objects.clear()
  }
}
