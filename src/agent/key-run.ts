import { hash } from 'node:crypto'
import { lstat } from 'node:fs/promises'
import { dirname, resolve } from 'node:path'
import { AgentError, type ClaimId, fromErrno, isMissing, openOutput, removeFile, type Secret, syncDirectory } from '../core/index.ts'
import { recordLocks } from '../flow/index.ts'
import type { KeyFacts, KeyStore, ListedKey, Locking } from '../provider/index.ts'
import type { Agent } from './agent.ts'
import { readSecret } from './config/secret-source.ts'

/** The kind of the jobs that change keys. */
const KEY = 'key'

/** A new key is for random bits, which go into a new `file`, or for a `password` that somebody made up. */
export type AddKeyRequest = { readonly file: string } | { readonly password: Secret }

export type KeyList = { readonly repository: string; readonly keys: readonly ListedKey[] }
export type AddedKey = { readonly repository: string; readonly key: KeyFacts; readonly file: string | undefined }
export type RemovedKey = { readonly repository: string; readonly removed: string }

/** The keys of the agent's repository. USAGE where it has none of its own. */
export async function listKeys(agent: Agent): Promise<KeyList> {
  const { keys, url } = await keysOf(agent)
  return { repository: url, keys: await keys.list({ signal: agent.signal }) }
}

/**
 * Adds a key to the agent's repository, as one job. The password is in its file, durably, before the key is there: a kill at any moment leaves, after recovery, both or
 * neither. CONFLICT when the file exists already.
 */
export async function runAddKey(agent: Agent, request: AddKeyRequest): Promise<AddedKey> {
  const file = 'file' in request ? resolve(request.file) : undefined
  if (file !== undefined) await refuseExisting(file)
  await agent.recoverFirst()
  const { keys, url } = await keysOf(agent)
  const key = await agent.job(KEY, { repository: url, name: 'add' }, async (claims, signal) => {
    let making: ClaimId | undefined
    const options: Locking = { signal, recordLocks: recordLocks(claims) }
    const keep = async (password: Secret, id: string, path: string): Promise<Secret> => {
      const line = Buffer.from(`${password.reveal()}\n`)
      const made = { url, key: id, password: { path, sha256: hash('sha256', line) } }
      const held = await claims.take('repositoryKey', made, [], async () => {
        await writePassword(path, line)
        return made
      })
      making = held.id
      // As every later command will.
      return readSecret({ file: path }, 'repository password', '--random')
    }
    const recordKey = async (id: string): Promise<void> => {
      making = (await claims.take('repositoryKey', { url, key: id }, [], async () => ({ url, key: id }))).id
    }
    const added =
      'file' in request
        ? await keys.addRandom((password, id) => keep(password, id, resolve(request.file)), options)
        : await keys.add(request.password, { ...options, recordKey })
    if (making !== undefined) await claims.keep(making)
    return added
  })
  agent.log.info('a key was added to a repository', { repository: url, key: key.id })
  return { repository: url, key, file }
}

/** Removes a key of the agent's repository, by the beginning of its id, as one job. Errors as `KeyStore.remove`. */
export async function runRemoveKey(agent: Agent, id: string): Promise<RemovedKey> {
  await agent.recoverFirst()
  const { keys, url } = await keysOf(agent)
  const removed = await agent.job(KEY, { repository: url, name: 'remove' }, (claims, signal) =>
    keys.remove(id, { signal, recordLocks: recordLocks(claims) }),
  )
  agent.log.info('a key of a repository was removed', { repository: url, key: removed })
  return { repository: url, removed }
}

async function keysOf(agent: Agent): Promise<{ readonly keys: KeyStore<Locking>; readonly url: string }> {
  const { keys, url } = await agent.provider()
  if (keys === undefined) {
    throw new AgentError('USAGE', `${url} has no keys that vcb knows of.`, {
      subject: url,
      next: "Name a restic repository of vcb's own; where a product keeps the repository, use its command.",
    })
  }
  return { keys, url }
}

/** Before anything is opened or locked; `writePassword` decides. */
async function refuseExisting(path: string): Promise<void> {
  try {
    await lstat(path)
  } catch (error) {
    if (isMissing(error)) return
    throw fromErrno(error, path) ?? error
  }
  throw existsAlready(path)
}

/** A new file, for its owner alone; durable when it resolves. */
async function writePassword(path: string, line: Uint8Array): Promise<void> {
  try {
    await using output = await openOutput(path, 'wx', 0o600)
    try {
      await output.write(line)
      await output.sync()
    } catch (error) {
      await removeFile(path)
      throw error
    }
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'EEXIST') throw existsAlready(path)
    throw fromErrno(error, path) ?? error
  }
  await syncDirectory(dirname(path))
}

const existsAlready = (path: string): AgentError =>
  new AgentError('CONFLICT', `The file ${path} is there already, and a new password is never written over another one.`, {
    subject: path,
    retry: 'never',
    next: `Name a new file; whether that one opens the repository is told by "vcb key list --repo-password-file ${path}".`,
  })
