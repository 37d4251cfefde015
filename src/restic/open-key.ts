import { type Abortable, AgentError, isAgentError, type Secret, throwIfAborted } from '../core/index.ts'
import type { Backend } from './backend.ts'
import { type KeyFile, MAX_KEY_FILE_BYTES, type OpenedKey, parseKeyFile, unsealKeyFile } from './key-file.ts'
import type { RepositoryDeps } from './repository.ts'

/** More keys than this are not tried: each try may cost half a second. */
const MAX_KEYS = 20
const LOADS_AT_ONCE = 5
/** From this N·r·p on a derivation takes longer than whoever waits has other things to do. A key of 256 random bits costs 2, restic's least is 262144. */
const DEAR = 16_384

export type LoadedKeys = {
  /** In the order listed. */
  readonly keys: readonly KeyFile[]
  /** Those that could not be loaded, or are none. */
  readonly broken: readonly { readonly id: string; readonly error: AgentError }[]
  /** There are more, which were not looked at. */
  readonly more: boolean
}

/** The first 20 key files of a repository, a few at a time. */
export async function loadKeyFiles(backend: Backend, options?: Abortable): Promise<LoadedKeys> {
  const listed: { readonly name: string; readonly size: number }[] = []
  let more = false
  for await (const file of backend.list('key', options)) {
    more = listed.length === MAX_KEYS
    if (more) break
    listed.push(file)
  }
  const found: (KeyFile | AgentError | undefined)[] = []
  let next = 0
  const lane = async (): Promise<void> => {
    for (let at = next++; at < listed.length; at = next++) {
      const { name, size } = listed[at] as (typeof listed)[number]
      try {
        // Not worth a load, however large it is; its size is what is refused.
        found[at] = parseKeyFile(
          name,
          size > MAX_KEY_FILE_BYTES ? Buffer.alloc(MAX_KEY_FILE_BYTES + 1) : await backend.load({ kind: 'key', name }, options),
        )
      } catch (error) {
        if (!isAgentError(error)) throw error
        // Of one that somebody removed meanwhile nothing is to be said.
        found[at] = error.code === 'NOT_FOUND' ? undefined : error
      }
    }
  }
  await Promise.all(Array.from({ length: Math.min(LOADS_AT_ONCE, listed.length) }, lane))
  throwIfAborted(options)
  return {
    keys: found.filter((each): each is KeyFile => each !== undefined && !(each instanceof AgentError)),
    broken: found.flatMap((error, at) => (error instanceof AgentError ? [{ id: listed[at]?.name ?? '', error }] : [])),
    more,
  }
}

/**
 * Tries the password on the repository's keys, at most 20, from those that are cheap to try to the dear ones, ours first among equals. AUTH when it opens none;
 * NOT_FOUND when there is no key file; INTEGRITY when some are broken and no other opens; UNAVAILABLE, CONFIG when one of them could not be read and no other opens.
 */
export async function openKeyFile(
  backend: Backend,
  password: Secret,
  deps: RepositoryDeps,
  options: Abortable & {
    /** Called before each derivation that takes a noticeable time, in other threads than this. */
    readonly onDear?: (() => void) | undefined
  } = {},
): Promise<OpenedKey> {
  const { keys, broken, more } = await loadKeyFiles(backend, options)
  let damaged: AgentError | undefined
  let unread: AgentError | undefined
  const complain = (key: string, error: AgentError): void => {
    if (error.code === 'INTEGRITY') damaged = error
    else unread ??= error
    const said =
      error.code === 'INTEGRITY' ? 'A key file of the repository is not usable.' : 'A key file of the repository could not be read.'
    deps.log.warn(said, { repository: backend.url, key, reason: error.message })
  }
  for (const { id, error } of broken) complain(id, error)
  for (const key of inOrder(keys, deps)) {
    throwIfAborted(options)
    if (cost(key) >= DEAR) options.onDear?.()
    try {
      const master = await unsealKeyFile(key, password)
      if (master !== undefined) return { id: key.id, master }
    } catch (error) {
      if (!isAgentError(error, 'INTEGRITY')) throw error
      complain(key.id, error)
    }
  }
  if (unread !== undefined) throw unread
  if (more) {
    throw new AgentError('AUTH', `The password opens none of the first ${MAX_KEYS} keys of the repository ${backend.url}.`, {
      next: 'Remove keys that are no longer used with "vcb key remove", or check the password.',
    })
  }
  if (keys.length + broken.length === 0) {
    throw new AgentError('NOT_FOUND', `The repository ${backend.url} has no key file.`, {
      next: 'Check that this is the directory of a restic repository.',
    })
  }
  if (damaged !== undefined) throw damaged
  throw new AgentError('AUTH', `The password does not open the repository ${backend.url}.`, {
    next: 'Check the password file named for this repository, or add the password with "vcb key add".',
  })
}

/** What is cheap costs next to nothing in front of what is dear; the other way round it waits for all of that. */
function inOrder(keys: readonly KeyFile[], { hostname, username }: RepositoryDeps): readonly KeyFile[] {
  const foreign = (key: KeyFile): number => (key.hostname === hostname ? 0 : 2) + (key.username === username ? 0 : 1)
  return keys.toSorted((a, b) => cost(a) - cost(b) || foreign(a) - foreign(b))
}

const cost = ({ kdf: { N, r, p } }: KeyFile): number => N * r * p
