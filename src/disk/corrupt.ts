import { AgentError } from '../core/index.ts'

/** INTEGRITY: the file contradicts itself. `what` completes "The file NAME …" without the full stop. */
export function corrupt(name: string, what: string, cause?: unknown): AgentError {
  return new AgentError('INTEGRITY', `The file ${name} ${what}.`, {
    subject: name,
    cause,
    next: 'The disk file is damaged or cut; check it on the datastore and do not use this copy.',
  })
}

/** INTEGRITY: well-formed perhaps, but nothing this program knows how to read. */
export function notUnderstood(name: string, what: string, next?: string): AgentError {
  return new AgentError('INTEGRITY', `The file ${name} ${what}, which is not understood.`, {
    subject: name,
    next: next ?? 'Read this disk another way (--transport nbdssl or lease), or convert it with vmkfstools.',
  })
}

/**
 * INTEGRITY (`now`): a stream ended before it was whole. What came of it until then is right, and asking for it again may help. `how` completes
 * "The file NAME …".
 */
export function cutShort(name: string, how: string): AgentError {
  return new AgentError('INTEGRITY', `The file ${name} ${how}, so its transfer was cut.`, {
    subject: name,
    retry: 'now',
    next: 'Do not use this copy; transfer the file again.',
  })
}
