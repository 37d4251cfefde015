import { AgentError, type Clock, runProgram } from '../../core/index.ts'

const PATIENCE_MS = 60_000

type Deps = { readonly clock: Clock }

/**
 * Whether there is a directory of just this name, with no symbolic link on the way. `directory` is absolute. By programs, because it may lie in a file system that
 * this process serves.
 */
export async function isRealDirectory(directory: string, deps: Deps): Promise<boolean> {
  return (await isPlain(directory, deps)) && (await isDirectory(directory, deps))
}

/**
 * Makes a directory, and its parents, where they are missing; who may enter is decided above them. In a file system that is read-only it must be there. No
 * symbolic link is followed: where a guest's `/boot` leads to the proxy's own `/etc`, nothing is mounted on that. `directory` is absolute, its beginning outside
 * the guest's files without links. Errors: CONFIG, INTEGRITY (a link on the way).
 */
export async function makeMountPoint(directory: string, deps: Deps): Promise<void> {
  if (!(await isPlain(directory, deps))) {
    throw new AgentError('INTEGRITY', `${JSON.stringify(directory)} is no place to mount on: a symbolic link on the way leads elsewhere.`, {
      subject: directory,
      next: 'Read that volume below "digits" instead.',
      retry: 'never',
    })
  }
  if (await isDirectory(directory, deps)) return
  const ended = await runProgram('mkdir', ['-p', '--', directory], { ...deps, patienceMs: PATIENCE_MS })
  if (ended.exit === 0) return
  throw new AgentError('CONFIG', `The directory ${directory} cannot be made: ${ended.complaint}`, {
    subject: directory,
    next: 'Name another directory.',
  })
}

/** What is there of the path leads nowhere else. */
async function isPlain(directory: string, deps: Deps): Promise<boolean> {
  const found = await runProgram('realpath', ['-m', '--', directory], { ...deps, patienceMs: PATIENCE_MS, reads: true })
  return found.output.toString('utf8') === `${directory}\n`
}

async function isDirectory(directory: string, deps: Deps): Promise<boolean> {
  return (await runProgram('test', ['-d', directory], { ...deps, patienceMs: PATIENCE_MS, reads: true })).exit === 0
}
