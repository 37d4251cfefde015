import { AgentError, type Clock, runProgram } from '../../core/index.ts'

const PATIENCE_MS = 60_000

/**
 * Makes a directory, and its parents, where they are missing; who may enter is decided above them. By a program, because it may lie in a file system that this process
 * serves; in one that is read-only it must be there. No symbolic link is followed: where a guest's `/boot` leads to the proxy's own `/etc`, nothing is mounted on
 * that. `directory` is absolute, its beginning outside the guest's files without links. Errors: CONFIG, INTEGRITY (a link on the way).
 */
export async function makeMountPoint(directory: string, { clock }: { readonly clock: Clock }): Promise<void> {
  const before = await runProgram('realpath', ['-m', '--', directory], { clock, patienceMs: PATIENCE_MS, reads: true })
  if (before.output.toString('utf8') !== `${directory}\n`) {
    throw new AgentError('INTEGRITY', `${JSON.stringify(directory)} is no place to mount on: a symbolic link on the way leads elsewhere.`, {
      subject: directory,
      next: 'Read that volume below "digits" instead.',
      retry: 'never',
    })
  }
  const look = await runProgram('test', ['-d', directory], { clock, patienceMs: PATIENCE_MS, reads: true })
  if (look.exit === 0) return
  const ended = await runProgram('mkdir', ['-p', '--', directory], { clock, patienceMs: PATIENCE_MS })
  if (ended.exit === 0) return
  throw new AgentError('CONFIG', `The directory ${directory} cannot be made: ${ended.complaint}`, {
    subject: directory,
    next: 'Name another directory.',
  })
}
