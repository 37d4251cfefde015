import { resolve } from 'node:path'
import { z } from 'zod'
import {
  type Abortable,
  AgentError,
  type Log,
  type PointId,
  type PointSummary,
  type RunId,
  safeFileName,
  toAgentError,
} from '../core/index.ts'
import { openLocalFile } from '../disk/index.ts'
import type { BorgDeps } from './borg-product.ts'
import { commandOutput } from './command-output.ts'
import { explainBy, ProductProgram } from './product-program.ts'
import type { PointRequest } from './provider.ts'
import { encodeSummary, fromJson, parseSummary } from './stored-summary.ts'
import type { OpenedStream } from './stream-pool.ts'
import type { ProductOutput, StoredFacts, StreamProduct } from './stream-product.ts'
import { wholeOf } from './whole-of.ts'

const ARCHIVE = 'vcb-archive'
const POINT = 'vcb-point'
const WEEK_MS = 7 * 24 * 3_600_000

const snapshots = z
  .array(z.object({ id: z.string(), paths: z.array(z.string()), tags: z.array(z.string()).nullish() }))
  .nullable()
  .transform((all) => all ?? [])
const node = z.object({ path: z.string(), type: z.string(), size: z.number().optional() })

/** A snapshot of ours. */
type Kept = {
  readonly id: string
  readonly path: string
  readonly kind: typeof ARCHIVE | typeof POINT
  readonly facts: ReadonlyMap<string, string>
}

/**
 * A restic repository through the stock restic (0.12 or later), on any of its backends: each point two snapshots of one stream each, first the
 * archive, and, when restic says it holds as many bytes as were sent, the skeleton, whose tags are the point's facts. Without the second there is
 * no point. The password is restic's own matter (`RESTIC_PASSWORD_FILE`, `_COMMAND`), or `password`; never an argument.
 * Errors: CONFIG (no restic, or too old), NOT_FOUND, AUTH, CONFLICT, UNAVAILABLE.
 */
export async function openResticBinary(place: string, deps: BorgDeps, options?: Abortable): Promise<ResticBinaryProduct> {
  const restic = resticProgram(place, deps)
  const said = await restic.ask(['version'], { reads: true, ...options })
  const [about, major, minor] = /^restic (\d+)\.(\d+)\.\d+/u.exec(said) ?? []
  if (about === undefined || (major === '0' && Number(minor) < 12)) {
    throw new AgentError('CONFIG', `The program restic is ${JSON.stringify(said.slice(0, 40))}; vcb works with restic 0.12 and later.`, {
      subject: 'restic',
      next: 'Install a newer one, or use restic:PATH, which needs none.',
    })
  }
  const product = new ResticBinaryProduct(place, about, restic, deps)
  await product.open(options)
  return product
}

/** A repository as restic names it, from anywhere: `sftp:…`, `rest:…`, `s3:…`, or a local path, made absolute. */
const resticPlace = (place: string): string => (/^[a-z0-9]+:/u.test(place) ? place : resolve(place))

function resticProgram(place: string, deps: BorgDeps): ProductProgram {
  const { RESTIC_REPOSITORY_FILE: _other, ...environment } = deps.environment
  const password = deps.password === undefined ? undefined : { RESTIC_PASSWORD: deps.password.reveal() }
  const own = { ...password, RESTIC_REPOSITORY: resticPlace(place) }
  return new ProductProgram('restic', { ...deps, environment }, own, explainBy(COMPLAINTS, `restic-binary:${resticPlace(place)}`))
}

const COMPLAINTS = [
  [
    /Is there a repository at the following location|unable to open config file/u,
    'NOT_FOUND',
    'There is no restic repository there.',
    'Make it with "restic init", or name another.',
  ],
  [
    /wrong password|no key found|empty password|Resolving password failed/u,
    'AUTH',
    'The restic repository does not open with its password.',
  ],
  [/already locked|unable to create lock|`unlock` command/u, 'CONFLICT', 'The restic repository is locked.'],
  [/no space left|quota exceeded/iu, 'CAPACITY', 'The restic repository has no room.'],
  [/permission denied/u, 'CONFIG', 'restic has no access to the repository.'],
] as const

export class ResticBinaryProduct implements StreamProduct {
  readonly name = 'restic-binary'
  readonly url: string
  readonly about: string
  readonly oneAtATime = undefined
  readonly #restic: ProductProgram
  readonly #deps: BorgDeps
  readonly #log: Log

  constructor(place: string, about: string, restic: ProductProgram, deps: BorgDeps) {
    this.url = `restic-binary:${resticPlace(place)}`
    this.about = about
    this.#restic = restic
    this.#deps = deps
    this.#log = deps.log
  }

  /** Proves that the repository opens. */
  async open(options?: Abortable): Promise<void> {
    await this.#kept(options)
  }

  async begin(id: PointId, { config }: PointRequest, skeleton: string, { signal }: Abortable = {}): Promise<ProductOutput> {
    const vm = safeFileName(config.vm.name)
    const stream = await this.#store(`/vcb/${vm}.tar`, vm, [ARCHIVE, tag('point', id)], { signal })
    return {
      write: (bytes) => stream.write(bytes),
      finish: async ({ summary, archiveBytes, skeletonBytes }) => {
        await stream.finish()
        await this.#prove(id, ARCHIVE, archiveBytes)
        const facts = Object.entries(encodeSummary(summary)).map(([name, value]) =>
          tag(name, typeof value === 'string' ? value : JSON.stringify(value)),
        )
        const proof = await this.#store(`/vcb/${vm}.skeleton`, vm, [POINT, tag('point', id), ...facts], {})
        try {
          await using file = await openLocalFile(skeleton)
          for await (const chunk of wholeOf(file)) await proof.write(chunk)
          await proof.finish()
        } catch (error) {
          await proof.abort()
          throw error
        }
        await this.#prove(id, POINT, skeletonBytes)
      },
      abort: async () => {
        await stream.abort()
        await this.#discard(id)
      },
    }
  }

  async *list(options?: Abortable): AsyncGenerator<PointSummary> {
    const kept = await this.#kept(options)
    const archives = new Set(kept.filter(({ kind }) => kind === ARCHIVE).map(({ facts }) => facts.get('point')))
    const listed = new Set<string>()
    for (const { kind, facts } of kept) {
      const id = facts.get('point')
      if (kind !== POINT || id === undefined || !archives.has(id) || listed.has(id)) continue
      listed.add(id)
      const stored = Object.fromEntries([...facts].map(([name, value]) => [name, TEXTS.has(name) ? value : fromJson(value)]))
      const summary = parseSummary(stored, id as PointId, this.url)
      if (summary !== undefined) yield summary
    }
  }

  async stream(id: PointId, what: 'archive' | 'skeleton', options?: Abortable): Promise<OpenedStream> {
    const wanted = what === 'archive' ? ARCHIVE : POINT
    const found = (await this.#kept(options)).find(({ kind, facts }) => kind === wanted && facts.get('point') === id)
    if (found === undefined) throw new AgentError('NOT_FOUND', `The restic repository has no ${what} of ${id}.`, { subject: id })
    // Ended half-way it would leave a lock; what is removed meanwhile is found missing by its digests.
    return this.#restic.send(['dump', '--no-lock', found.id, found.path])
  }

  async delete(id: PointId, options?: Abortable): Promise<void> {
    await this.#forget(({ facts }) => facts.get('point') === id, options)
  }

  async *check(_readData: boolean, options?: Abortable): AsyncGenerator<string> {
    // What it would read of the data is compared with our own digests, point by point.
    const ended = await this.#restic.end(['check'], { ...options, reads: true, patienceMs: WEEK_MS })
    if (ended.exit === 0) return
    const failure = this.#restic.failure(ended)
    if (failure.code !== 'UNAVAILABLE') throw failure
    yield failure.message
  }

  /** Archives of a run that never became points; what was removed. Called when no writer of the run lives. Idempotent. */
  async removeIncomplete(run: RunId): Promise<readonly string[]> {
    // Locks of dead processes alone, which would keep everybody from forgetting.
    await this.#restic.ask(['unlock'])
    const kept = await this.#kept()
    const points = new Set(kept.filter(({ kind }) => kind === POINT).map(({ facts }) => facts.get('point')))
    return this.#forget(({ facts }) => !points.has(facts.get('point')) && facts.get('point')?.endsWith(`.${run}`) === true)
  }

  /** restic gives up in order on INT: no snapshot, and no lock left. */
  #store(file: string, host: string, tags: readonly string[], options: Abortable): ReturnType<typeof commandOutput> {
    const argv = [
      'restic',
      'backup',
      '--quiet',
      '--stdin',
      `--stdin-filename=${file}`,
      `--host=${host}`,
      ...tags.map((each) => `--tag=${each}`),
    ]
    return commandOutput(argv, this.#restic.environment, this.#deps, { ...options, asked: true, endsAt: 'INT' })
  }

  /** INTEGRITY unless restic holds what was sent. */
  async #prove(id: PointId, wanted: Kept['kind'], bytes: StoredFacts['archiveBytes']): Promise<void> {
    const found = (await this.#kept()).find(({ kind, facts }) => kind === wanted && facts.get('point') === id)
    const lines = found === undefined ? '' : await this.#restic.ask(['ls', '--json', '--no-lock', found.id], { reads: true })
    const files = lines.split('\n').map((line) => node.safeParse(fromJson(line)).data)
    const stored = files.find((each) => each?.type === 'file' && each.path === found?.path)?.size ?? 0
    if (stored === bytes) return
    throw new AgentError('INTEGRITY', `restic stored ${stored} of the ${bytes} bytes that were sent.`, {
      subject: this.url,
      next: 'Run "restic check", and the backup again.',
    })
  }

  /** After a failure; what cannot be removed now is left to the claim of its run. */
  async #discard(id: PointId): Promise<void> {
    try {
      await this.#forget(({ facts }) => facts.get('point') === id)
    } catch (error) {
      this.#log.warn('what restic kept of a failed point could not be removed yet', { error: toAgentError(error).message })
    }
  }

  /** The skeletons first: an archive alone is no point. */
  async #forget(isMeant: (each: Kept) => boolean, options?: Abortable): Promise<readonly string[]> {
    const doomed = (await this.#kept(options)).filter(isMeant).sort((a, b) => b.kind.localeCompare(a.kind))
    for (const { id } of doomed) await this.#restic.ask(['forget', '--quiet', id], options)
    return doomed.map(({ id }) => `${this.url} ${id.slice(0, 8)}`)
  }

  async #kept(options?: Abortable): Promise<readonly Kept[]> {
    const argv = ['snapshots', '--json', '--no-lock', '--tag', ARCHIVE, '--tag', POINT]
    const parsed = snapshots.safeParse(fromJson(await this.#restic.ask(argv, { ...options, reads: true })))
    if (!parsed.success) throw new AgentError('UNAVAILABLE', 'restic gave no list of its snapshots.', { subject: this.url })
    return parsed.data.flatMap(({ id, paths: [path], tags }): Kept[] => {
      const kind = tags?.find((each) => each === ARCHIVE || each === POINT)
      if ((kind !== ARCHIVE && kind !== POINT) || path === undefined) return []
      const facts = (tags ?? []).map((each) => /^([a-z]+)=(.*)$/iu.exec(each)).flatMap((pair) => (pair === null ? [] : [untag(pair)]))
      return [{ id, path, kind, facts: new Map(facts) }]
    })
  }
}

/** Facts that are text; the others are JSON. */
const TEXTS = new Set(['time', 'vmName', 'instanceUuid', 'vcenterUuid', 'mode', 'run', 'consistency'])

/** restic parts tags at commas and takes blanks off their ends. */
const tag = (name: string, value: string): string => `${name}=${value.toWellFormed().replace(/[%,\p{Cc}\p{Z}]/gu, encodeURIComponent)}`

function untag([, name = '', value = '']: RegExpExecArray): readonly [string, string] {
  try {
    return [name, decodeURIComponent(value)]
  } catch {
    return [name, value] // a tag of somebody else's
  }
}
