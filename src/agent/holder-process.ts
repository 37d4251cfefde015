import { spawn } from 'node:child_process'
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Readable } from 'node:stream'
import { type Abortable, AgentError, effect, type InputFile, isMissing, isThere, openInput } from '../core/index.ts'

/** A report has a few lines for each disk. Bytes. */
const LONGEST_REPORT = 4 * 1024 * 1024

/** Above this no shell hands on descriptors. */
const MOST_INHERITED = 1023

/**
 * Room for young garbage, MiB twice. With the one that a command keeps (scripts/heap.cjs), what a request of a reader makes is still in use when it is looked through: of 11 s that a
 * reader of a whole disk took, 2 went that way. More than four gain nothing.
 */
const YOUNG = '--min-semi-space-size=4'

export type HolderStart = {
  /** The command line of a `vcb` that holds a lease and prints one line of JSON when it is there, or when it failed. */
  readonly arguments: readonly string[]
  readonly environment: Readonly<Record<string, string | undefined>>
  /** Where its standard error goes: what Node says when it breaks. */
  readonly log: InputFile
  /** What it reads a password from, when it is to read one from its standard input. */
  readonly input?: Readable | undefined
}

/**
 * Starts the process that holds a lease, and waits for its one line. It is a session of its own with nothing of ours open but its log and the pipe that the line comes through, so that whoever
 * waits for our output does not wait for it, and no signal of our terminal reaches it. Its own job in the journal answers for it, so no claim is needed. An abort
 * ends it in order, and what it says then counts. Undefined: it ended without a word.
 */
export async function startHolder(
  { arguments: argv, environment, log, input }: HolderStart,
  options: Abortable,
): Promise<string | undefined> {
  const entry = await findEntry()
  await using nothing = await openInput('/dev/null')
  const inherited = await highestInherited()
  return effect({ kind: 'process', what: 'start holder', on: entry }, async () => {
    const child = spawn(process.execPath, [YOUNG, entry, ...argv], {
      detached: true,
      stdio: [
        input === undefined ? 'ignore' : 'pipe',
        'pipe',
        log.fd,
        ...Array.from({ length: Math.max(0, inherited - 2) }, () => nothing.fd),
      ],
      env: { ...process.env, ...environment },
    })
    const { promise, resolve, reject } = Promise.withResolvers<string | undefined>()
    let said = ''
    child.on('error', reject)
    child.on('close', () => resolve(said === '' ? undefined : said))
    child.stdout?.setEncoding('utf8').on('data', (text: string) => {
      said += text
      if (said.length > LONGEST_REPORT) reject(new AgentError('INTERNAL', 'The process that holds the lease said too much.'))
      // An error is its last word, and everything is undone when it has ended; anything else is said when all is there.
      else if (said.endsWith('\n') && !said.startsWith('{"error"')) resolve(said)
    })
    if (input !== undefined && child.stdin !== null) {
      // A holder that ended shows it by its end.
      child.stdin.on('error', () => undefined)
      input.pipe(child.stdin)
    }
    const stop = (): void => void child.kill('SIGTERM')
    if (options.signal?.aborted === true) stop()
    options.signal?.addEventListener('abort', stop, { once: true })
    try {
      return await promise
    } finally {
      options.signal?.removeEventListener('abort', stop)
      child.stdout?.destroy()
      child.unref()
    }
  })
}

/**
 * The highest descriptor that a child would get although nobody gave it: a script's or a product's own, which it may read to the end that a holder would keep
 * from coming. Node opens its own to be closed in children. (proc(5), fdinfo: `flags` in octal; 02000000 is O_CLOEXEC.)
 */
async function highestInherited(): Promise<number> {
  let highest = 2
  for (const name of await readdir('/proc/self/fdinfo')) {
    try {
      const flags = /^flags:\s*([0-7]+)$/m.exec(await readFile(`/proc/self/fdinfo/${name}`, 'utf8'))?.[1] ?? '0'
      if ((Number.parseInt(flags, 8) & 0o2000000) === 0) highest = Math.max(highest, Number(name))
    } catch (error) {
      // Closed meanwhile: the one that read the list.
      if (!isMissing(error)) throw error
    }
  }
  return Math.min(highest, MOST_INHERITED)
}

/** The command's own entry, from the sources and from a built command alike. */
async function findEntry(): Promise<string> {
  for (const up of [join('..', '..'), '..']) {
    const path = join(import.meta.dirname, up, 'scripts', 'vcb.cjs')
    if (await isThere(path)) return path
  }
  throw new AgentError('INTERNAL', 'The entry of vcb is not where it belongs.')
}
