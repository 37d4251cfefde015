import { AgentError } from '../core/index.ts'

/** Throws USAGE unless `[offset, offset + length)` lies inside `[0, size)` and all three are whole numbers. */
export function checkInside(offset: number, length: number, size: number, name: string): void {
  if (Number.isSafeInteger(offset) && offset >= 0 && length >= 0 && offset + length <= size) return
  throw new AgentError('USAGE', `The bytes ${offset} to ${offset + length} lie outside ${name}, which has ${size}.`, {
    subject: name,
    next: 'Report this with the log of the run; it is a defect of vcb.',
  })
}
