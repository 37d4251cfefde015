import { hash } from 'node:crypto'

const known = new Map<number, Buffer>()

/** Id of the block of `length` zero bytes, known without reading or storing anything. Computed once a length; not to be changed. */
export function zeroBlockId(length: number): Uint8Array {
  let id = known.get(length)
  if (id === undefined) {
    id = hash('sha256', Buffer.alloc(length), 'buffer')
    if (known.size < 64) known.set(length, id)
  }
  return id
}
