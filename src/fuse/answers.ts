import { type Abortable, isAgentError } from '../core/index.ts'
import { ERRNO } from './protocol.ts'
import type { FuseRequest } from './requests.ts'
import type { FileActivity } from './served-file.ts'

/** Refuses a request with an error number. */
export class Refusal extends Error {
  readonly errno: number

  constructor(errno: number) {
    super(`errno ${errno}`)
    this.errno = errno
  }
}

/** An answer: what follows the head, or a whole message whose head is still to be filled in (a READ, so that its bytes are not copied again). */
export type Answer = { readonly body: Buffer } | { readonly message: Buffer }

/** What a file system answers, and what became of it so far. */
export interface Answers {
  readonly activity: readonly FileActivity[]
  /** Undefined: this request gets no answer. Throws `Refusal`, or the error of a disk. */
  answer(request: FuseRequest, options: Abortable): Promise<Answer | undefined>
}

/** The error number for what was thrown. */
export function errnoOf(error: unknown): number {
  if (error instanceof Refusal) return error.errno
  return isAgentError(error, 'CAPACITY') ? ERRNO.ENOSPC : isAgentError(error, 'CANCELED') ? ERRNO.EINTR : ERRNO.EIO
}

/** A u64 of the kernel that stands for a place in a file. */
export function numberOf(value: bigint): number {
  if (value > BigInt(Number.MAX_SAFE_INTEGER)) throw new Refusal(ERRNO.EINVAL)
  return Number(value)
}

/** The name of a LOOKUP. */
export function nameOf(body: Buffer): string {
  const end = body.indexOf(0)
  return body.toString('utf8', 0, end === -1 ? body.length : end)
}
