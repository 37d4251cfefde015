import { AgentError, type ErrorCode, toAgentError, type TransportName } from '../core/index.ts'
import type { Claims } from '../journal/index.ts'
import { NoWriterError, type Refusal } from '../transport/index.ts'
import { type DiskWriters, importByDisks } from './import-by-disks.ts'
import { importByFiles } from './import-by-files.ts'
import { importByLease } from './import-by-lease.ts'
import type { RestoreOptions } from './restore-directory.ts'
import type { Imported, VmImport } from './vm-import.ts'

/** What another way may do better. Anything else (no room, a damaged point, a cancel) it would meet again. */
const OTHERWISE: ReadonlySet<ErrorCode> = new Set<ErrorCode>(['UNAVAILABLE', 'AUTH', 'CONFIG', 'CONFLICT'])

type Way = { readonly names: readonly TransportName[]; readonly run: (work: VmImport) => Promise<Imported> }

/**
 * Imports by the first way of `order` that works. What a failed way has made is removed before the next begins, so that there is never more than one
 * half VM. Errors: the way's own when there is but one; UNAVAILABLE with every reason when none of several works.
 */
export async function importByWays(
  work: VmImport,
  order: readonly TransportName[],
  writers: DiskWriters,
  claims: Claims,
  options: RestoreOptions,
): Promise<Imported> {
  const ways = waysOf(order, writers, claims, options)
  const refused: Refusal[] = []
  const before = new Set(claims.held.map(({ id }) => id))
  for (const [index, way] of ways.entries()) {
    const [warnings, dropped] = [work.warnings.length, work.dropped.length]
    try {
      return await way.run({ ...work, refused: [...refused] })
    } catch (error) {
      const failure = work.readFailure()
      if (failure !== undefined) throw failure
      const shown = toAgentError(error)
      // A SuppressedError says that something could not be removed: no second attempt beside it.
      if (error instanceof SuppressedError || !OTHERWISE.has(shown.code) || ways.length === 1) throw error
      refused.push(...refusalsOf(way, shown))
      if (index === ways.length - 1) break
      for (const { id } of claims.held.toReversed()) if (!before.has(id)) await claims.release(id)
      work.warnings.length = warnings
      work.dropped.length = dropped
      writers.log.warn('restoring another way', { vm: work.name, failed: way.names.join(':'), error: shown.message })
    }
  }
  const reasons = refused.map(({ transport, reason }) => `${transport}: ${reason}`).join('; ')
  throw new AgentError('UNAVAILABLE', `No way of restoring ${work.name} works (${reasons}).`, {
    subject: work.name,
    retry: 'later',
    next: 'Run "vcb doctor" to see what each way needs, or name others with --transport.',
  })
}

/** Transports that write single disks are one way together where they follow each other: the VM is made once for all of them. */
function waysOf(order: readonly TransportName[], writers: DiskWriters, claims: Claims, options: RestoreOptions): readonly Way[] {
  const groups: TransportName[][] = []
  for (const name of order) {
    const last = groups.at(-1)
    if (last?.[0] === undefined || takesWholeVm(name) || takesWholeVm(last[0])) groups.push([name])
    else last.push(name)
  }
  return groups.map((names) => ({
    names,
    run: (work) => {
      if (names[0] === 'lease') return importByLease(work, writers.limits, claims, options)
      if (names[0] === 'https') return importByFiles(work, writers.limits, claims, options)
      const transports = writers.transports.filter(({ name }) => names.includes(name))
      return importByDisks(work, { ...writers, transports }, claims, options)
    },
  }))
}

const takesWholeVm = (name: TransportName): boolean => name === 'lease' || name === 'https'

function refusalsOf(way: Way, error: AgentError): readonly Refusal[] {
  if (error instanceof NoWriterError) return error.refused
  return way.names.slice(0, 1).map((transport) => ({ transport, reason: error.message }))
}
