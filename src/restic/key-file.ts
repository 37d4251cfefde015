import { hash, scrypt } from 'node:crypto'
import { type Abortable, AgentError, isAgentError, type Secret } from '../core/index.ts'
import type { Backend } from './backend.ts'
import { goString, goTime } from './go-json.ts'
import type { KdfParameters, RepositoryDeps } from './repository.ts'
import { IV_BYTES, seal, type SealKey, sealKeyFrom, tryUnseal } from './sealing.ts'
import { isRecord } from './snapshot.ts'

/** What restic's calibration (500 ms, 60 MB) ends with on a present-day machine. */
export const DEFAULT_KDF: KdfParameters = Object.freeze({ N: 32_768, r: 8, p: 6 })
/** More keys than this are not tried: each try costs half a second. */
const MAX_KEYS = 20
const MAX_KEY_FILE_BYTES = 64 * 1024
/** The most a foreign key file may make us spend: 1 GiB of memory. */
const MAX_KDF_BYTES = 1024 * 1024 * 1024

/** Makes a master key, seals it with the password and stores the key file, whose name `recordKey` is told first. Returns the master key. */
export async function createKeyFile(
  backend: Backend,
  password: Secret,
  deps: RepositoryDeps,
  kdf: KdfParameters,
  options?: Abortable & { readonly recordKey?: ((name: string) => Promise<void>) | undefined },
): Promise<SealKey> {
  const master = sealKeyFrom(deps.random(64))
  // Poly1305 ignores these bits of r; restic stores them cleared.
  for (const index of [3, 7, 11, 15]) master.r[index] = (master.r[index] ?? 0) & 0x0f
  for (const index of [4, 8, 12]) master.r[index] = (master.r[index] ?? 0) & 0xfc
  const salt = deps.random(64)
  const user = await deriveKey(password, salt, kdf)
  const base64 = (bytes: Uint8Array): string => Buffer.from(bytes).toString('base64')
  const plain = Buffer.from(`{"mac":{"k":"${base64(master.k)}","r":"${base64(master.r)}"},"encrypt":"${base64(master.encrypt)}"}`)
  const data = seal(user, deps.random(IV_BYTES), plain)
  const file = Buffer.from(
    `{"created":"${goTime(deps.clock.now().toISOString())}","username":${goString(deps.username)},"hostname":${goString(deps.hostname)},` +
      `"kdf":"scrypt","N":${kdf.N},"r":${kdf.r},"p":${kdf.p},"salt":"${base64(salt)}","data":"${base64(data)}"}`,
    'utf8',
  )
  const name = hash('sha256', file)
  await options?.recordKey?.(name)
  await backend.save({ kind: 'key', name }, file, options)
  return master
}

/**
 * Tries the password on the repository's keys, at most 20. AUTH when it opens none; NOT_FOUND when there is no key file; INTEGRITY when
 * there are only broken ones.
 */
export async function openKeyFile(backend: Backend, password: Secret, deps: RepositoryDeps, options?: Abortable): Promise<SealKey> {
  let tried = 0
  let broken: AgentError | undefined
  for await (const { name } of backend.list('key', options)) {
    if (tried === MAX_KEYS) {
      throw new AgentError('AUTH', `The password opens none of the first ${MAX_KEYS} keys of the repository ${backend.url}.`, {
        next: 'Remove keys that are no longer used with "restic key remove", or check the password.',
      })
    }
    tried++
    try {
      const bytes = await backend.load({ kind: 'key', name }, options)
      const master = await tryKey(bytes, password, name)
      if (master !== undefined) return master
    } catch (error) {
      if (!isAgentError(error, 'INTEGRITY')) throw error
      deps.log.warn('A key file of the repository is not usable.', { repository: backend.url, key: name, reason: error.message })
      broken = error
    }
  }
  if (tried === 0) {
    throw new AgentError('NOT_FOUND', `The repository ${backend.url} has no key file.`, {
      next: 'Check that this is the directory of a restic repository.',
    })
  }
  if (broken !== undefined) throw broken
  throw new AgentError('AUTH', `The password does not open the repository ${backend.url}.`, {
    next: 'Check the password file named for this repository, or add the password with "restic key add".',
  })
}

async function tryKey(bytes: Buffer, password: Secret, name: string): Promise<SealKey | undefined> {
  const refuse = (problem: string): never => {
    throw new AgentError('INTEGRITY', `The key file ${name} cannot be used: ${problem}.`, { subject: name })
  }
  if (bytes.length > MAX_KEY_FILE_BYTES) return refuse('it is too large')
  const file = parseObject(bytes) ?? refuse('it is not a JSON object')
  if (file['kdf'] !== 'scrypt') return refuse(`its key derivation ${JSON.stringify(file['kdf'])} is not known`)
  const { N, r, p, salt, data } = file
  if (typeof N !== 'number' || typeof r !== 'number' || typeof p !== 'number') return refuse('its scrypt parameters are not numbers')
  const sane = [N, r, p].every((value) => Number.isInteger(value) && value >= 1) && N >= 2 && Number.isInteger(Math.log2(N)) && p <= 64
  if (!sane || 128 * r * (N + p) > MAX_KDF_BYTES) return refuse(`its scrypt parameters N=${N}, r=${r}, p=${p} are out of bounds`)
  if (typeof salt !== 'string' || typeof data !== 'string') return refuse('it has no salt or no data')
  const user = await deriveKey(password, Buffer.from(salt, 'base64'), { N, r, p })
  const plain = tryUnseal(user, Buffer.from(data, 'base64'))
  if (plain === undefined) return undefined
  const master = parseObject(plain) ?? refuse('the master key in it is not a JSON object')
  const mac = isRecord(master['mac']) ? master['mac'] : refuse('the master key in it has no mac')
  const part = (value: unknown, size: number): Uint8Array => {
    const decoded = typeof value === 'string' ? Buffer.from(value, 'base64') : Buffer.alloc(0)
    return decoded.length === size && decoded.some((byte) => byte !== 0) ? decoded : refuse('the master key in it is not valid')
  }
  return { encrypt: part(master['encrypt'], 32), k: part(mac['k'], 16), r: part(mac['r'], 16) }
}

function parseObject(bytes: Buffer): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(bytes.toString('utf8'))
    return isRecord(value) ? value : undefined
  } catch (error) {
    if (error instanceof SyntaxError) return undefined
    throw error
  }
}

/** scrypt in the thread pool; 64 bytes: encryption key, k, r. */
function deriveKey(password: Secret, salt: Uint8Array, { N, r, p }: KdfParameters): Promise<SealKey> {
  return new Promise((resolve, reject) => {
    scrypt(password.reveal(), salt, 64, { N, r, p, maxmem: 128 * r * (N + p) + 1024 * 1024 }, (error, bytes) => {
      if (error === null) resolve(sealKeyFrom(bytes))
      else reject(error)
    })
  })
}
