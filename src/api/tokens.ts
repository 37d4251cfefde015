import { createHash, timingSafeEqual } from 'node:crypto'
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import {
  AgentError,
  type Clock,
  ensureDirectory,
  fromErrno,
  isMissing,
  type Log,
  removeFile,
  Secret,
  toAgentError,
  writeFileAtomic,
  writeFileOnce,
} from '../core/index.ts'
import type { Role } from './agent-control.ts'
import { ROLES } from './roles.ts'
import { moment } from './view.ts'

/** Where the tokens of an installation are, in its state directory. */
const DIRECTORY = 'api-tokens'
const NAME = /^[a-z0-9][a-z0-9.-]{0,62}$/
/** `vcb_NAME_SECRET`: found by secret scanners, and tells whose it is without telling the secret. */
const TOKEN = /^vcb_([a-z0-9][a-z0-9.-]{0,62})_([A-Za-z0-9_-]{43})$/
const SECRET_BYTES = 32
const SALT_BYTES = 16
/** A token's last use is written down no more often, ms. */
const USE_EVERY_MS = 60_000

const stored = z.strictObject({
  name: z.string().regex(NAME),
  role: z.enum(ROLES),
  salt: z.string(),
  hash: z.string(),
  createdAt: moment,
  createdBy: z.string(),
  expiresAt: moment.optional(),
})

/** What is kept of a token, but what proves it. */
export type TokenFacts = {
  readonly name: string
  readonly role: Role
  readonly createdAt: string
  readonly createdBy: string
  readonly expiresAt: string | undefined
  /** To the minute. */
  readonly lastUsedAt: string | undefined
}

export type TokensDeps = {
  /** The state directory. */
  readonly directory: string
  readonly clock: Clock
  readonly log: Log
  readonly random: (size: number) => Uint8Array
}

/**
 * The tokens of one installation: a file each in its state directory, so that a command adds and revokes while the agent runs, and a revoked one is refused
 * by the next call. What is kept is SHA-256 over a salt and the secret: the secret is 256 random bits, which nobody guesses whatever a guess costs, so a slow
 * hash would only give strangers a way to keep the processor busy.
 */
export class Tokens {
  readonly #directory: string
  readonly #clock: Clock
  readonly #log: Log
  readonly #random: (size: number) => Uint8Array
  readonly #used = new Map<string, number>()

  constructor({ directory, clock, log, random }: TokensDeps) {
    this.#directory = join(directory, DIRECTORY)
    this.#clock = clock
    this.#log = log
    this.#random = random
  }

  /** A new token, which is told here and never again. CONFLICT when the name is taken, USAGE for a name that cannot be one. */
  async add(token: {
    readonly name: string
    readonly role: Role
    readonly expiresAt?: Date | undefined
    readonly by: string
  }): Promise<Secret> {
    const { name, role, expiresAt, by } = token
    checkName(name)
    const secret = Buffer.from(this.#random(SECRET_BYTES)).toString('base64url')
    const salt = Buffer.from(this.#random(SALT_BYTES)).toString('hex')
    const facts: z.output<typeof stored> = {
      name,
      role,
      salt,
      hash: hashOf(salt, secret).toString('hex'),
      createdAt: this.#clock.now().toISOString(),
      createdBy: by,
      ...(expiresAt === undefined ? {} : { expiresAt: expiresAt.toISOString() }),
    }
    await ensureDirectory(this.#directory)
    if (!(await writeFileOnce(this.#path(name), JSON.stringify(facts)))) {
      throw new AgentError('CONFLICT', `There is a token named ${name} already.`, {
        subject: name,
        next: 'Choose another name, or revoke that one first.',
      })
    }
    return new Secret(`vcb_${name}_${secret}`)
  }

  /** Whose token this is; undefined for one that is wrong, revoked or expired, after the same work. */
  async check(token: string): Promise<TokenFacts | undefined> {
    const [, name = '', secret = ''] = TOKEN.exec(token) ?? []
    const kept = name === '' ? undefined : await this.#read(name)
    const salt = kept?.salt ?? ''
    const fits = timingSafeEqual(hashOf(salt, secret), digest(kept?.hash))
    if (kept === undefined || !fits || this.#isOver(kept.expiresAt)) return undefined
    await this.#use(kept.name)
    return facts(kept, undefined)
  }

  /** By name. */
  async list(): Promise<readonly TokenFacts[]> {
    let names: readonly string[]
    try {
      names = await readdir(this.#directory)
    } catch (error) {
      if (isMissing(error)) return []
      throw fromErrno(error, this.#directory) ?? error
    }
    const found: TokenFacts[] = []
    for (const file of names.filter((each) => each.endsWith('.json')).toSorted()) {
      const kept = await this.#read(file.slice(0, -'.json'.length))
      if (kept !== undefined) found.push(facts(kept, await this.#lastUse(kept.name)))
    }
    return found
  }

  /** Refused from the next call on. NOT_FOUND. */
  async revoke(name: string): Promise<void> {
    checkName(name)
    if ((await this.#read(name)) === undefined) {
      throw new AgentError('NOT_FOUND', `There is no token named ${name}.`, {
        subject: name,
        next: 'Run "vcb token list", which lists them.',
      })
    }
    await removeFile(this.#path(name))
    await removeFile(this.#usePath(name))
  }

  async #read(name: string): Promise<z.output<typeof stored> | undefined> {
    const path = this.#path(name)
    try {
      const parsed = stored.safeParse(JSON.parse(await readFile(path, 'utf8')))
      if (parsed.success && parsed.data.name === name) return parsed.data
    } catch (error) {
      if (isMissing(error)) return undefined
      if (!(error instanceof SyntaxError)) throw fromErrno(error, path) ?? error
    }
    throw new AgentError('INTEGRITY', `The token file ${path} is damaged.`, {
      subject: path,
      next: 'Remove the file and add the token again.',
    })
  }

  /** At most once a minute, and after a restart once more. Two at once write the same. */
  async #use(name: string): Promise<void> {
    const now = this.#clock.now().getTime()
    if (now - (this.#used.get(name) ?? Number.NEGATIVE_INFINITY) < USE_EVERY_MS) return
    this.#used.set(name, now)
    try {
      await writeFileAtomic(this.#usePath(name), new Date(now).toISOString())
    } catch (error) {
      // A full disk is no reason to refuse the call that may help to empty it.
      this.#log.warn('the use of a token could not be written down', { token: name, error: toAgentError(error).message })
    }
  }

  async #lastUse(name: string): Promise<string | undefined> {
    try {
      return (await readFile(this.#usePath(name), 'utf8')).trim()
    } catch (error) {
      if (isMissing(error)) return undefined
      throw fromErrno(error, this.#usePath(name)) ?? error
    }
  }

  #isOver(expiresAt: string | undefined): boolean {
    return expiresAt !== undefined && Date.parse(expiresAt) <= this.#clock.now().getTime()
  }

  #path(name: string): string {
    return join(this.#directory, `${name}.json`)
  }

  #usePath(name: string): string {
    return join(this.#directory, `${name}.used`)
  }
}

function checkName(name: string): void {
  if (NAME.test(name)) return
  throw new AgentError('USAGE', `${JSON.stringify(name)} cannot be the name of a token.`, {
    next: 'Use lower-case letters, digits, - and ., at most 63, beginning with a letter or digit.',
  })
}

const hashOf = (salt: string, secret: string): Buffer => createHash('sha256').update(`${salt}:${secret}`).digest()

/** Always 32 bytes, as the comparison needs. */
function digest(hex: string | undefined): Buffer {
  const bytes = Buffer.alloc(32)
  if (hex !== undefined) bytes.write(hex, 'hex')
  return bytes
}

const facts = ({ name, role, createdAt, createdBy, expiresAt }: z.output<typeof stored>, lastUsedAt: string | undefined): TokenFacts => ({
  name,
  role,
  createdAt,
  createdBy,
  expiresAt,
  lastUsedAt,
})
