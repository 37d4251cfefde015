import { once } from 'node:events'
import { type Abortable, AgentError, type Clock, type Ended, type Log, MIB, runProgram, startProgram } from '../core/index.ts'
import type { OpenedStream } from './stream-pool.ts'

/** How long a call may take that only asks, ms. */
const ASK_MS = 600_000
/** What a product may say at most: some ten thousand points, bytes. */
const MOST_SAID = 64 * MIB
const PATHS = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'

export type ProgramDeps = { readonly clock: Clock; readonly log: Log; readonly environment: Readonly<NodeJS.ProcessEnv> }

/** How a product's complaint is to be understood; undefined when it says nothing of the kind. */
export type Explain = (complaint: string) => AgentError | undefined

/** A product's own command line: asked, or told to send. It gets our environment without our secrets, and words in one language. */
export class ProductProgram {
  readonly name: string
  readonly environment: Readonly<Record<string, string>>
  readonly #clock: Clock
  readonly #explain: Explain

  constructor(name: string, { clock, environment }: ProgramDeps, own: Readonly<Record<string, string>>, explain: Explain) {
    const given = Object.entries(environment).filter(
      (each): each is [string, string] => each[1] !== undefined && !each[0].startsWith('VCB_'),
    )
    this.name = name
    this.environment = Object.freeze({ PATH: PATHS, ...Object.fromEntries(given), LC_ALL: 'C.UTF-8', ...own })
    this.#clock = clock
    this.#explain = explain
  }

  /** Runs it to its end, however that is. `reads`: it changes nothing. `patienceMs` default 10 minutes. CONFIG when it is not installed. */
  async end(argv: readonly string[], options: Abortable & { readonly reads?: boolean; readonly patienceMs?: number } = {}): Promise<Ended> {
    const { signal, reads, patienceMs = ASK_MS } = options
    return runProgram(this.name, argv, { clock: this.#clock, environment: this.environment, limit: MOST_SAID, patienceMs, reads, signal })
  }

  /** What it printed, when it ended with status 0; otherwise its failure. */
  async ask(argv: readonly string[], options: Parameters<ProductProgram['end']>[1] = {}): Promise<string> {
    const ended = await this.end(argv, options)
    if (ended.exit !== 0) throw this.failure(ended)
    if (ended.output.length >= MOST_SAID) throw new AgentError('UNAVAILABLE', `The program ${this.name} said more than is read.`)
    return ended.output.toString('utf8')
  }

  /** Starts it to send. */
  async send(argv: readonly string[]): Promise<OpenedStream> {
    const running = await startProgram(this.name, argv, { clock: this.#clock, environment: this.environment })
    const closed = once(running.output, 'close')
    return {
      chunks: running.output[Symbol.asyncIterator](),
      failure: async () => {
        const exit = await running.ended
        return exit === 0 ? undefined : this.failure({ exit, complaint: running.complaint(), late: false })
      },
      [Symbol.asyncDispose]: async () => {
        running.output.destroy()
        await running[Symbol.asyncDispose]()
        await closed
      },
    }
  }

  failure({ exit, complaint, late }: Pick<Ended, 'exit' | 'complaint' | 'late'>): AgentError {
    const known = this.#explain(complaint)
    if (known !== undefined) return known
    const how = late ? 'was ended because it took too long' : exit === undefined ? 'was ended' : `ended with status ${exit}`
    return new AgentError('UNAVAILABLE', `The program ${this.name} ${how}.${complaint === '' ? '' : ` It said: ${printable(complaint)}`}`, {
      subject: this.name,
      next: 'Correct what it complains about and run the command again.',
    })
  }
}

const printable = (text: string): string => text.replace(/[^\x20-\x7e\u00a0-\u{10ffff}]/gu, ' ')

/** An explanation by what the complaint says: the first that fits. */
export function explainBy(rules: readonly (readonly [RegExp, AgentError['code'], string, string?])[], subject: string): Explain {
  return (complaint) => {
    const rule = rules.find(([says]) => says.test(complaint))
    if (rule === undefined) return undefined
    const [, code, what, next] = rule
    return new AgentError(code, `${what} It said: ${printable(complaint)}`, { subject, next })
  }
}
