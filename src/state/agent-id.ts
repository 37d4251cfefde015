import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { AgentError, type AgentId, ensureDirectory, fromErrno, isMissing, isThere, removeFile, writeFileOnce } from '../core/index.ts'

/** Beside the database and not in it, so that a lost database does not make strangers of our own snapshots. */
const FILE = 'agent-id'

/**
 * Who this installation is: read from the state directory, or `fresh` written there durably the first time. Whichever of several processes
 * comes first decides for all. Never copied into a repository. Errors: INTEGRITY (the file holds no id), CONFIG, CAPACITY.
 */
export async function openAgentId(stateDirectory: string, fresh: () => AgentId): Promise<AgentId> {
  const path = join(stateDirectory, FILE)
  await ensureDirectory(stateDirectory)
  await sweep(stateDirectory)
  const known = await readAgentId(path)
  if (known !== undefined) return known
  await writeFileOnce(path, `${fresh()}\n`)
  return (await readAgentId(path)) ?? damaged(path)
}

/** Whether this installation has had a database: its id is written once that is complete. */
export async function hasAgentId(stateDirectory: string): Promise<boolean> {
  return (await readAgentId(join(stateDirectory, FILE))) !== undefined
}

async function readAgentId(path: string): Promise<AgentId | undefined> {
  let text: string
  try {
    text = await readFile(path, 'utf8')
  } catch (error) {
    if (isMissing(error)) return undefined
    throw fromErrno(error, path) ?? error
  }
  return /^[0-9a-f]{24}\n$/.test(text) ? (text.trimEnd() as AgentId) : damaged(path)
}

/** Temporary files of processes that were killed while they made the id. */
async function sweep(directory: string): Promise<void> {
  for (const name of await readdir(directory)) {
    const pid = /^agent-id\.(\d+)\.tmp$/.exec(name)?.[1]
    if (pid !== undefined && !(await isThere(`/proc/${pid}`))) await removeFile(join(directory, name))
  }
}

function damaged(path: string): never {
  throw new AgentError('INTEGRITY', `The file ${path} does not hold this installation's id.`, {
    subject: path,
    next: 'Restore the file, or remove it to get a new id: what this installation left in vSphere then counts as another agent\'s for "vcb orphans".',
  })
}
