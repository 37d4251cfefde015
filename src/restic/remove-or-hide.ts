import type { Abortable } from '../core/index.ts'
import type { Backend, FileRef } from './backend.ts'

/**
 * Takes an index or key file out of the repository, also where its server keeps it: then its bytes stay with the server until their day. For what others have taken the place of, and for keys, whose locks are renewed for as
 * long as there is a point. A missing one is success. CONFLICT, CONFIG where the server refuses.
 */
export function removeOrHide(backend: Backend, file: FileRef, options?: Abortable): Promise<void> {
  return backend.locks === undefined ? backend.remove(file, options) : backend.locks.hide(file, options)
}
