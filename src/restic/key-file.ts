import { hash, scrypt } from 'node:crypto'
import { type Abortable, AgentError, type Secret } from '../core/index.ts'
import type { Backend } from './backend.ts'
import { goString, goTime } from './go-json.ts'
import type { KdfParameters, KeyFacts, RepositoryDeps } from './repository.ts'
import { IV_BYTES, seal, type SealKey, sealKeyFrom, tryUnseal } from './sealing.ts'
import { isRecord } from './snapshot.ts'

/** What restic's calibration (500 ms, 60 MB) ends with on a present-day machine. */
export const DEFAULT_KDF: KdfParameters = Object.freeze({ N: 32_768, r: 8, p: 6 })
/**
 * Of a password of 256 random bits, which nobody guesses whatever a guess costs; for no other one. As cheap as makes no difference, and within the bounds of
 * every scrypt that may open it.
 */
export const RANDOM_KDF: KdfParameters = Object.freeze({ N: 16, r: 8, p: 1 })
export const MAX_KEY_FILE_BYTES = 64 * 1024
/** The most a foreign key file may make us spend: 1 GiB of memory. */
const MAX_KDF_BYTES = 1024 * 1024 * 1024

/** The master key of a repository, and the name of the key file that it came from. */
export type OpenedKey = { readonly id: string; readonly master: SealKey }

/** A key file as it is stored. */
export type KeyFile = KeyFacts & { readonly salt: Buffer; readonly data: Buffer }

/** Makes a master key, seals it with the password and stores the key file, whose name `recordKey` is told first. */
export async function createKeyFile(
  backend: Backend,
  password: Secret,
  deps: RepositoryDeps,
  kdf: KdfParameters,
  options?: Abortable & { readonly recordKey?: ((name: string) => Promise<void>) | undefined },
): Promise<OpenedKey> {
  const master = sealKeyFrom(deps.random(64))
  // Poly1305 ignores these bits of r; restic stores them cleared.
  for (const index of [3, 7, 11, 15]) master.r[index] = (master.r[index] ?? 0) & 0x0f
  for (const index of [4, 8, 12]) master.r[index] = (master.r[index] ?? 0) & 0xfc
  const { name, bytes } = await sealKeyFile(master, password, deps, kdf)
  await options?.recordKey?.(name)
  await backend.save({ kind: 'key', name }, bytes, options)
  return { id: name, master }
}

/** A key file with the master key, for whoever knows the password; nothing is stored. Each call gives another name. */
export async function sealKeyFile(
  master: SealKey,
  password: Secret,
  deps: Omit<RepositoryDeps, 'log' | 'pid'>,
  kdf: KdfParameters,
): Promise<{ readonly name: string; readonly bytes: Buffer }> {
  const salt = deps.random(64)
  const user = await deriveKey(password, salt, kdf)
  const base64 = (part: Uint8Array): string => Buffer.from(part).toString('base64')
  const plain = Buffer.from(`{"mac":{"k":"${base64(master.k)}","r":"${base64(master.r)}"},"encrypt":"${base64(master.encrypt)}"}`)
  const data = seal(user, deps.random(IV_BYTES), plain)
  const bytes = Buffer.from(
    `{"created":"${goTime(deps.clock.now().toISOString())}","username":${goString(deps.username)},"hostname":${goString(deps.hostname)},` +
      `"kdf":"scrypt","N":${kdf.N},"r":${kdf.r},"p":${kdf.p},"salt":"${base64(salt)}","data":"${base64(data)}"}`,
    'utf8',
  )
  return { name: hash('sha256', bytes), bytes }
}

const refuse = (id: string, problem: string): never => {
  throw new AgentError('INTEGRITY', `The key file ${id} cannot be used: ${problem}.`, { subject: id })
}

/** INTEGRITY when it is none, or one whose derivation would cost too much. */
export function parseKeyFile(id: string, bytes: Buffer): KeyFile {
  if (bytes.length > MAX_KEY_FILE_BYTES) return refuse(id, 'it is too large')
  const file = parseObject(bytes) ?? refuse(id, 'it is not a JSON object')
  if (file['kdf'] !== 'scrypt') return refuse(id, `its key derivation ${JSON.stringify(file['kdf'])} is not known`)
  const { N, r, p, salt, data } = file
  if (typeof N !== 'number' || typeof r !== 'number' || typeof p !== 'number') return refuse(id, 'its scrypt parameters are not numbers')
  const sane = [N, r, p].every((value) => Number.isInteger(value) && value >= 1) && N >= 2 && Number.isInteger(Math.log2(N)) && p <= 64
  if (!sane || 128 * r * (N + p) > MAX_KDF_BYTES) return refuse(id, `its scrypt parameters N=${N}, r=${r}, p=${p} are out of bounds`)
  if (typeof salt !== 'string' || typeof data !== 'string') return refuse(id, 'it has no salt or no data')
  const text = (name: string): string => {
    const value = file[name]
    return typeof value === 'string' ? value : ''
  }
  return {
    id,
    created: text('created'),
    username: text('username'),
    hostname: text('hostname'),
    kdf: { N, r, p },
    salt: Buffer.from(salt, 'base64'),
    data: Buffer.from(data, 'base64'),
  }
}

/** The master key, when it is this password that opens the file. INTEGRITY when what it opens is none. */
export async function unsealKeyFile({ id, kdf, salt, data }: KeyFile, password: Secret): Promise<SealKey | undefined> {
  const plain = tryUnseal(await deriveKey(password, salt, kdf), data)
  if (plain === undefined) return undefined
  const master = parseObject(plain) ?? refuse(id, 'the master key in it is not a JSON object')
  const mac = isRecord(master['mac']) ? master['mac'] : refuse(id, 'the master key in it has no mac')
  const part = (value: unknown, size: number): Uint8Array => {
    const decoded = typeof value === 'string' ? Buffer.from(value, 'base64') : Buffer.alloc(0)
    return decoded.length === size && decoded.some((byte) => byte !== 0) ? decoded : refuse(id, 'the master key in it is not valid')
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
