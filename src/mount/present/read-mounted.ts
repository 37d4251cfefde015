import { join } from 'node:path'
import { type Abortable, AgentError, type Clock, runProgram } from '../../core/index.ts'

const PATIENCE_MS = 60_000

/**
 * A small file of a mounted guest, read by programs, because this process may be who serves it. `parts` are the names down to it; no symbolic link is followed,
 * so that none leads out of the guest. `ignoreCase` as Windows does. Undefined when there is no such file. Errors: CAPACITY (more than `limit` bytes), UNAVAILABLE.
 */
export async function readMounted(
  root: string,
  parts: readonly string[],
  options: Abortable & { readonly clock: Clock; readonly limit: number; readonly ignoreCase?: boolean | undefined },
): Promise<Buffer | undefined> {
  const { clock, signal, limit } = options
  const run = { clock, signal, patienceMs: PATIENCE_MS, reads: true } as const
  let at = root
  for (const [index, part] of parts.entries()) {
    const wanted = index < parts.length - 1 ? 'd' : 'f'
    const found = await runProgram(
      'find',
      [
        at,
        '-mindepth',
        '1',
        '-maxdepth',
        '1',
        options.ignoreCase === true ? '-iname' : '-name',
        literal(part),
        '-type',
        wanted,
        '-printf',
        '%f\\0',
      ],
      run,
    )
    if (found.exit !== 0) throw new AgentError('UNAVAILABLE', `${at} cannot be read: ${found.complaint}`, { subject: at })
    const name = found.output.toString('utf8').split('\0')[0] ?? ''
    if (name === '') return undefined
    at = join(at, name)
  }
  const read = await runProgram('head', ['-c', String(limit + 1), '--', at], { ...run, limit: limit + 1 })
  if (read.exit !== 0) throw new AgentError('UNAVAILABLE', `${at} cannot be read: ${read.complaint}`, { subject: at })
  if (read.output.length > limit)
    throw new AgentError('CAPACITY', `${at} has more than ${limit} bytes, which is not what it should be.`, { subject: at })
  return read.output
}

/** A name as a pattern of find(1) that fits it alone. */
const literal = (name: string): string => name.replaceAll(/[\\*?[\]]/g, '\\$&')
