import { type Abortable, AgentError, isAgentError, Secret, throwIfAborted, toAgentError } from '../core/index.ts'
import { DEFAULT_KDF, type OpenedKey, parseKeyFile, RANDOM_KDF, sealKeyFile, unsealKeyFile } from './key-file.ts'
import { loadKeyFiles } from './open-key.ts'
import type { KdfParameters, KeyFacts, KeyStore, ListedKey, RepositoryDeps } from './repository.ts'
import { type Locking, RepositoryLock } from './repository-lock.ts'
import { removeOrHide } from './remove-or-hide.ts'
import type { SealedFiles } from './sealed-files.ts'

/** 256 bits. */
const RANDOM_BYTES = 32
const SHORTEST_ID = 6

type NewKey = {
  readonly password: Secret
  readonly kdf: KdfParameters
  /** Before the key is stored; what its password is read back as. */
  readonly keep: (password: Secret, id: string) => Promise<Secret>
}

/** The key files of an open repository; locks as stock restic does for the same. */
export class KeyFiles implements KeyStore {
  readonly #files: SealedFiles
  readonly #opened: OpenedKey
  readonly #deps: RepositoryDeps

  constructor(files: SealedFiles, opened: OpenedKey, deps: RepositoryDeps) {
    this.#files = files
    this.#opened = opened
    this.#deps = deps
  }

  async list(options?: Abortable): Promise<readonly ListedKey[]> {
    const { keys, broken } = await loadKeyFiles(this.#files.backend, options)
    const known: ListedKey[] = keys.map((key) => ({ id: key.id, current: key.id === this.#opened.id, facts: factsOf(key) }))
    return [...known, ...broken.map(({ id, error }) => ({ id, current: id === this.#opened.id, problem: error.message }))]
  }

  addRandom(keep: NewKey['keep'], options: Locking = {}): Promise<KeyFacts> {
    const password = new Secret(Buffer.from(this.#deps.random(RANDOM_BYTES)).toString('base64url'))
    return this.#add({ password, kdf: RANDOM_KDF, keep }, options)
  }

  async add(
    password: Secret,
    options: Locking & { readonly recordKey?: ((id: string) => Promise<void>) | undefined } = {},
  ): Promise<KeyFacts> {
    if (password.reveal() === '') throw new AgentError('CONFIG', 'A key cannot be made with an empty password.')
    const keep = async (_password: Secret, id: string): Promise<Secret> => {
      await options.recordKey?.(id)
      return password
    }
    return await this.#add({ password, kdf: DEFAULT_KDF, keep }, options)
  }

  async remove(id: string, options: Locking = {}): Promise<string> {
    const { backend } = this.#files
    await using lock = await RepositoryLock.take(this.#files, this.#deps, { ...options, exclusive: true })
    const names = await Array.fromAsync(backend.list('key', options), ({ name }) => name)
    const name = pick(id, names, backend.url)
    if (name === this.#opened.id) {
      throw new AgentError('CONFLICT', `The key ${name} is the one that this command opened the repository with.`, {
        subject: name,
        retry: 'never',
        next: 'Open the repository with the password of another key to remove this one.',
      })
    }
    // With it there, the one that goes is not the last.
    if (!names.includes(this.#opened.id)) {
      throw new AgentError(
        'CONFLICT',
        `The key ${this.#opened.id}, which the repository ${backend.url} was opened with, has been removed.`,
        {
          subject: this.#opened.id,
          retry: 'never',
          next: 'Run the command again with the password of a key that is to stay.',
        },
      )
    }
    await lock.verify(options)
    try {
      await removeOrHide(backend, { kind: 'key', name }, options)
    } catch (error) {
      if (!isAgentError(error, 'CONFLICT', 'CONFIG', 'AUTH')) throw error
      throw new AgentError('CONFIG', `${backend.url} does not let the key ${name} be removed: ${error.message}`, {
        subject: name,
        next: 'Remove it on the server itself, or with a login that may remove, with "vcb key remove" or "restic key remove".',
        cause: error,
      })
    }
    return name
  }

  async #add({ password, kdf, keep }: NewKey, options: Locking): Promise<KeyFacts> {
    const { backend } = this.#files
    await using lock = await RepositoryLock.take(this.#files, this.#deps, { ...options, exclusive: false })
    const { name, bytes } = await sealKeyFile(this.#opened.master, password, this.#deps, kdf)
    throwIfAborted(options)
    const kept = await keep(password, name)
    throwIfAborted(lock)
    await backend.save({ kind: 'key', name }, bytes, options)
    try {
      return await this.#verified(name, kept, options)
    } catch (error) {
      // Whatever else went wrong, the key is stored whole and its password is kept.
      if (isAgentError(error, 'INTEGRITY')) await this.#withdraw(name, error)
      throw error
    }
  }

  /** Reads the key back and opens it. */
  async #verified(name: string, password: Secret, options: Abortable): Promise<KeyFacts> {
    const key = parseKeyFile(name, await this.#files.backend.load({ kind: 'key', name }, options))
    const master = await unsealKeyFile(key, password)
    const ours = this.#opened.master
    const same = (['encrypt', 'k', 'r'] as const).every((part) => Buffer.from(ours[part]).equals(master?.[part] ?? new Uint8Array()))
    if (!same) {
      throw new AgentError('INTEGRITY', `The new key ${name} does not open with its password.`, {
        subject: name,
        next: 'Check the disk and the memory of this machine, and where the repository lies; the key was removed again.',
      })
    }
    return factsOf(key)
  }

  async #withdraw(name: string, why: AgentError): Promise<void> {
    try {
      await removeOrHide(this.#files.backend, { kind: 'key', name })
    } catch (error) {
      throw new AgentError(why.code, `${why.message} It could not be removed again: ${toAgentError(error).message}`, {
        subject: name,
        next: `Remove the file keys/${name} where the repository lies.`,
        cause: why,
      })
    }
  }
}

/** A whole id, or an unambiguous beginning. */
function pick(id: string, names: readonly string[], url: string): string {
  if (!/^[0-9a-f]{6,64}$/u.test(id)) {
    throw new AgentError('USAGE', `${JSON.stringify(id)} is no id of a key.`, {
      next: `Give the id, or at least ${SHORTEST_ID} characters of its beginning, as "vcb key list" shows it.`,
    })
  }
  const [found, other] = names.filter((name) => name.startsWith(id))
  if (found === undefined) {
    throw new AgentError('NOT_FOUND', `The repository ${url} has no key ${id}.`, {
      subject: id,
      next: 'List its keys with "vcb key list".',
    })
  }
  if (other !== undefined) {
    throw new AgentError('USAGE', `${id} begins the ids of several keys: ${found}, ${other}.`, { next: 'Give more of the id.' })
  }
  return found
}

const factsOf = ({ id, created, username, hostname, kdf }: KeyFacts): KeyFacts => ({ id, created, username, hostname, kdf })
