import type { Abortable } from '../core/index.ts'
import type { Notice } from './notice.ts'

/** A way to tell somebody. */
export interface NoticeChannel {
  /** Tells it once, at once, within its patience. Resolves when the other side has taken it. Errors: UNAVAILABLE, AUTH, CONFIG, CANCELED. */
  send(notice: Notice, options: Abortable): Promise<void>
}
