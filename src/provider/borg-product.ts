import { dirname, resolve } from 'node:path'
import { z } from 'zod'
import {
  type Abortable,
  AgentError,
  type Log,
  type PointId,
  type PointSummary,
  type RunId,
  type Secret,
  toAgentError,
} from '../core/index.ts'
import { SKELETON_FILE } from './archive-skeleton.ts'
import { commandOutput, type ProgramPatience } from './command-output.ts'
import { explainBy, ProductProgram, type ProgramDeps } from './product-program.ts'
import type { PointRequest } from './provider.ts'
import { encodeSummary, fromJson, parseSummary } from './stored-summary.ts'
import type { OpenedStream } from './stream-pool.ts'
import type { ProductOutput, StoredFacts, StreamProduct } from './stream-product.ts'

const ARCHIVE_FILE = 'point.tar'
/** Ends the name of an archive until it is proven; no list of ours shows it, and nobody takes it for a point. */
const INCOMPLETE = '.incomplete'
/** How long borg waits for another one that writes to the repository, s. */
const LOCK_WAIT = '60'
/** borg first brings its local index of a large repository up to date, and reads nothing meanwhile. */
const PATIENCE: ProgramPatience = Object.freeze({ stallMs: 3_600_000, endMs: 3_600_000 })

const archives = z.object({ archives: z.array(z.object({ name: z.string(), comment: z.string().optional() })) })
const item = z.object({ path: z.string(), size: z.number() })

export type BorgDeps = ProgramDeps & { readonly password?: Secret | undefined; readonly patience?: ProgramPatience | undefined }

/**
 * A Borg repository (1.2 to 1.4), through the borg program: each point one archive with the files `point.tar` and `point.skeleton`, written as
 * `NAME.incomplete` and renamed when borg says it holds as many bytes as were sent. The point's facts are its comment. The passphrase is
 * borg's own matter (`BORG_PASSCOMMAND`, `BORG_PASSPHRASE`), or `password`; never an argument.
 * Errors: CONFIG (no borg, or another version), NOT_FOUND, AUTH, CONFLICT, UNAVAILABLE.
 */
export async function openBorg(place: string, deps: BorgDeps, options?: Abortable): Promise<BorgProduct> {
  const borg = borgProgram(place, deps)
  const about = (await borg.ask(['--version'], { reads: true, ...options })).trim()
  const [, major, minor] = /^borg (\d+)\.(\d+)\./u.exec(about) ?? []
  if (major !== '1' || Number(minor) < 2) {
    throw new AgentError('CONFIG', `The program borg is ${JSON.stringify(about.slice(0, 40))}; vcb works with borg 1.2 to 1.4.`, {
      subject: 'borg',
      next: 'Install one of these, or use command: with a script of your own.',
    })
  }
  await borg.ask(['list', '--last', '1', '--short'], { reads: true, ...options })
  return new BorgProduct(place, about, borg, deps)
}

/** A repository as borg names it, from anywhere: `ssh://…`, `user@host:path`, or a local path, made absolute. */
export const borgPlace = (place: string): string => (/^(?:[a-z]+:\/\/|[^/]+:)/u.test(place) ? place : resolve(place))

function borgProgram(place: string, deps: BorgDeps): ProductProgram {
  const { BORG_PASSPHRASE_FD: _inherited, ...environment } = deps.environment
  // Without any word about it borg would ask, and take the answer from the stream it is to store.
  const silent = environment['BORG_PASSCOMMAND'] === undefined ? { BORG_PASSPHRASE: environment['BORG_PASSPHRASE'] ?? '' } : undefined
  const own = {
    ...(deps.password === undefined ? silent : { BORG_PASSPHRASE: deps.password.reveal() }),
    BORG_RSH: environment['BORG_RSH'] ?? 'ssh -o BatchMode=yes',
    BORG_REPO: borgPlace(place),
  }
  return new ProductProgram('borg', { ...deps, environment }, own, explainBy(COMPLAINTS, `borg:${borgPlace(place)}`))
}

const COMPLAINTS = [
  [
    /Repository .* does not exist|is not a valid repository/u,
    'NOT_FOUND',
    'There is no Borg repository there.',
    'Make it with "borg init", or name another.',
  ],
  [/Archive .* (?:does not exist|not found)/u, 'NOT_FOUND', 'The Borg repository has no such archive.'],
  [/passphrase|[Pp]asscommand/u, 'AUTH', 'The Borg repository does not open with its passphrase.'],
  [/Failed to (?:create\/)?acquire the lock|LockTimeout|timeout.*lock/iu, 'CONFLICT', 'The Borg repository is in use.'],
  [/No space left|[Ii]nsufficient free space|quota/u, 'CAPACITY', 'The Borg repository has no room.'],
  [/previously unknown unencrypted|previously located at|[Pp]ermission denied/u, 'CONFIG', 'borg refuses the repository.'],
] as const

/** What goes through borg's placeholders comes out as it was. */
const literal = (text: string): string => text.replaceAll('{', '{{').replaceAll('}', '}}')
const named = (name: string): string => `::${literal(name)}`

export class BorgProduct implements StreamProduct {
  readonly name = 'borg'
  readonly url: string
  readonly about: string
  readonly oneAtATime = 'borg locks its repository for one that writes'
  readonly #borg: ProductProgram
  readonly #deps: BorgDeps
  readonly #log: Log

  constructor(place: string, about: string, borg: ProductProgram, deps: BorgDeps) {
    this.url = `borg:${borgPlace(place)}`
    this.about = about
    this.#borg = borg
    this.#deps = deps
    this.#log = deps.log
  }

  async begin(id: PointId, _request: PointRequest, skeleton: string, { signal }: Abortable = {}): Promise<ProductOutput> {
    const name = `${id}${INCOMPLETE}`
    // The skeleton is the second path: borg comes to it when the archive has ended.
    const create = ['create', '--lock-wait', LOCK_WAIT, '--files-cache', 'disabled', '--stdin-name', ARCHIVE_FILE]
    const stream = await commandOutput(
      ['borg', ...create, '--', named(name), '-', SKELETON_FILE],
      this.#borg.environment,
      { ...this.#deps, patience: this.#deps.patience ?? PATIENCE },
      { signal, directory: dirname(skeleton), asked: true, deaf: true },
    )
    return {
      write: (bytes) => stream.write(bytes),
      finish: async (facts) => {
        await stream.finish()
        await this.#prove(name, facts)
        const comment = literal(JSON.stringify(encodeSummary(facts.summary)))
        await this.#borg.ask(['recreate', '--lock-wait', LOCK_WAIT, '--comment', comment, '--', named(name)])
        await this.#borg.ask(['rename', '--lock-wait', LOCK_WAIT, '--', named(name), literal(id)])
      },
      abort: async () => {
        await stream.abort()
        await this.#discard(name)
      },
    }
  }

  async *list(options?: Abortable): AsyncGenerator<PointSummary> {
    for (const { name, comment } of await this.#archives('{name}{comment}', options)) {
      if (isIncomplete(name)) continue
      const summary = parseSummary(fromJson(comment ?? ''), name as PointId, this.url)
      if (summary !== undefined) yield summary
    }
  }

  stream(id: PointId, what: 'archive' | 'skeleton'): Promise<OpenedStream> {
    const file = what === 'archive' ? ARCHIVE_FILE : SKELETON_FILE
    return this.#borg.send(['extract', '--lock-wait', LOCK_WAIT, '--stdout', '--', named(id), file])
  }

  async delete(id: PointId, options?: Abortable): Promise<void> {
    await this.#delete(id, options)
  }

  async *check(readData: boolean, options?: Abortable): AsyncGenerator<string> {
    const argv = ['check', '--lock-wait', LOCK_WAIT, ...(readData ? [] : ['--archives-only'])]
    const ended = await this.#borg.end(argv, { ...options, reads: true, patienceMs: 7 * 24 * 3_600_000 })
    if (ended.exit === 0) return
    const failure = this.#borg.failure(ended)
    if (failure.code !== 'UNAVAILABLE') throw failure
    yield failure.message
  }

  /** Archives that a run left unproven, checkpoints of them included; what was removed. Called when no writer of the run lives. Idempotent. */
  async removeIncomplete(run: RunId): Promise<readonly string[]> {
    return this.#remove((name) => name.includes(`.${run}${INCOMPLETE}`))
  }

  /** INTEGRITY unless borg holds what was sent. */
  async #prove(name: string, { archiveBytes, skeletonBytes }: StoredFacts): Promise<void> {
    const lines = (await this.#borg.ask(['list', '--lock-wait', LOCK_WAIT, '--json-lines', '--', named(name)], { reads: true }))
      .trim()
      .split('\n')
    const sizes = new Map(lines.map((line) => item.parse(fromJson(line))).map(({ path, size }) => [path, size]))
    if (sizes.size === 2 && sizes.get(ARCHIVE_FILE) === archiveBytes && sizes.get(SKELETON_FILE) === skeletonBytes) return
    throw new AgentError('INTEGRITY', `borg stored ${sizes.get(ARCHIVE_FILE) ?? 0} of the ${archiveBytes} bytes that were sent.`, {
      subject: this.url,
      next: 'Run "borg check", and the backup again.',
    })
  }

  /** After a failure; what cannot be removed now is left to the claim of its run. */
  async #discard(incomplete: string): Promise<void> {
    try {
      await this.#remove((name) => name.startsWith(incomplete))
    } catch (error) {
      this.#log.warn('what borg kept of a failed point could not be removed yet', { error: toAgentError(error).message })
    }
  }

  async #remove(isOurs: (name: string) => boolean): Promise<readonly string[]> {
    const removed: string[] = []
    for (const { name } of await this.#archives('{name}', undefined, ['--consider-checkpoints'])) {
      if (!isIncomplete(name) || !isOurs(name)) continue
      await this.#delete(name)
      removed.push(`${this.url}::${name}`)
    }
    return removed
  }

  async #delete(name: string, options?: Abortable): Promise<void> {
    const ended = await this.#borg.end(['delete', '--lock-wait', LOCK_WAIT, '--', named(name)], options)
    if (ended.exit !== 0) throw this.#borg.failure(ended)
  }

  async #archives(format: string, options?: Abortable, more: readonly string[] = []): Promise<z.infer<typeof archives>['archives']> {
    const said = await this.#borg.ask(['list', '--lock-wait', LOCK_WAIT, '--json', '--format', format, ...more], {
      ...options,
      reads: true,
    })
    const parsed = archives.safeParse(fromJson(said))
    if (!parsed.success) throw new AgentError('UNAVAILABLE', 'borg gave no list of its archives.', { subject: this.url })
    return parsed.data.archives
  }
}

/** Also of a checkpoint of one, `NAME.incomplete.checkpoint.1`. */
const isIncomplete = (name: string): boolean => /\.incomplete(?:\.checkpoint(?:\.\d+)?)?$/u.test(name)
