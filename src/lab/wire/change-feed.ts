import type { LabRef } from './value.ts'

export type ChangeListener = (ref: LabRef, properties: readonly string[]) => void

/**
 * Says which objects changed, so that WaitForUpdatesEx wakes. The model calls `changed` after each change with the names of the top-level
 * properties touched (`'runtime', 'summary'`); objects that appear or vanish are told through their parent's list property.
 */
export class ChangeFeed {
  readonly #listeners = new Set<ChangeListener>()

  changed(ref: LabRef, ...topLevelPropertyNames: readonly string[]): void {
    for (const listener of this.#listeners) listener(ref, topLevelPropertyNames)
  }

  subscribe(listener: ChangeListener): Disposable {
    this.#listeners.add(listener)
    return { [Symbol.dispose]: () => void this.#listeners.delete(listener) }
  }
}
