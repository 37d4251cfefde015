import type { Backend } from '../src/restic/index.ts'

/** The same files where what is saved may take a moment to show in a listing, as on a server. */
export const afterAMoment = (backend: Backend): Backend => ({
  url: backend.url,
  load: (...args) => backend.load(...args),
  save: (...args) => backend.save(...args),
  list: (...args) => backend.list(...args),
  stat: (...args) => backend.stat(...args),
  remove: (...args) => backend.remove(...args),
  [Symbol.asyncDispose]: () => backend[Symbol.asyncDispose](),
})
