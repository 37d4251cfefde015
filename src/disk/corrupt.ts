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
