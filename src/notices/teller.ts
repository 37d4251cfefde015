import { type ProcessIdentity, type Processes, sameProcess } from '../journal/index.ts'
import type { ToldMarks } from './told-marks.ts'

/**
 * Which of several agents tells what is to be told once: the first that asks, for as long as it lives. Alive is who beats in the shared database, so that another one
 * takes over half a minute after it died, and at once when it ended in order; who was declared dead is fenced, and tells nothing more.
 */
export class Teller {
  readonly #marks: ToldMarks
  readonly #processes: Processes

  constructor(marks: ToldMarks, processes: Processes) {
    this.#marks = marks
    this.#processes = processes
  }

  /** Whether this process tells what is named so. Asked before each telling. */
  async isMine(name: string): Promise<boolean> {
    const mark = `teller ${name}`
    const [self, before] = [await this.#processes.self(), await this.#marks.get(mark)]
    const holder = before === undefined ? undefined : identityOf(before)
    if (sameProcess(holder, self)) return true
    if (holder !== undefined && (await this.#processes.isAlive(holder))) return false
    return this.#marks.change(mark, before, JSON.stringify(self))
  }
}

/** Undefined of what cannot be understood: then nobody holds it. */
function identityOf(text: string): ProcessIdentity | undefined {
  try {
    const read = JSON.parse(text) as Partial<ProcessIdentity>
    const { pid, bootId, startTime } = read
    return typeof pid === 'number' && typeof bootId === 'string' && typeof startTime === 'number' ? { pid, bootId, startTime } : undefined
  } catch (error) {
    if (error instanceof SyntaxError) return undefined
    throw error
  }
}
