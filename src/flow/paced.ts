import type { Abortable } from '../core/index.ts'
import type { JobLimits } from '../transport/index.ts'

/** What an upload sends, no faster than the bandwidth allows. */
export async function* paced(
  body: AsyncIterable<Uint8Array>,
  limits: Pick<JobLimits, 'pace'>,
  options: Abortable,
): AsyncGenerator<Uint8Array> {
  for await (const piece of body) {
    await limits.pace(piece.length, options)
    yield piece
  }
}
