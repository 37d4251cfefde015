import type { Clock } from '../core/index.ts'
import type { CliIo } from './io.ts'

/** Shows how far long work is: a bar a disk on a terminal, nothing in a pipe. */
export interface Progress extends Disposable {
  /** `done` of `total` bytes of the thing called `name`; called often. */
  update(name: string, done: number, total: number): void
  finish(name: string): void
  /** Above the bars: what the thing called `name` waits for, or with undefined that it goes on. */
  wait(name: string, wait: string | undefined): void
}

/** What draws is loaded where something is drawn: thirty modules, a third of the start of every other command. */
export async function createProgress(io: CliIo, clock: Clock, enabled: boolean): Promise<Progress> {
  if (!enabled || !io.interactive)
    return { update: () => undefined, finish: () => undefined, wait: () => undefined, [Symbol.dispose]: () => undefined }
  const { ProgressBars } = await import('./progress-bars.ts')
  return new ProgressBars(clock)
}
