import { type Log, toAgentError } from '../core/index.ts'
import type { Caller } from './agent-control.ts'
import type { AuditLog } from './audit.ts'

export type Order = { readonly id: string; readonly action: string; readonly target: unknown; readonly caller: Caller }

/** Carries out an order between two lines of the audit log. What cannot be written down is not done; what was done and then not written down is logged. */
export async function carryOut<T>(
  { audit, log }: { readonly audit: AuditLog; readonly log: Log },
  order: Order,
  work: () => Promise<T>,
): Promise<T> {
  const { id, action, target, caller } = order
  const entry = { id, action, target, by: caller.name, role: caller.role, via: caller.via }
  const ended = async (outcome: 'done' | 'failed', rest: { code?: string; message?: string } = {}): Promise<void> => {
    try {
      await audit.write({ ...entry, outcome, ...rest })
    } catch (error) {
      log.error('the outcome of an order could not be written into the audit log', {
        ...entry,
        outcome,
        error: toAgentError(error).message,
      })
    }
  }
  await audit.write({ ...entry, outcome: 'asked' })
  try {
    const done = await work()
    await ended('done')
    return done
  } catch (error) {
    const { code, message } = toAgentError(error)
    await ended('failed', { code, message })
    throw error
  }
}
