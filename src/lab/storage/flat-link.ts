import { closeSync, fstatSync, openSync } from 'node:fs'
import { readExactly, writeExactly } from './exact-io.ts'
import { dataAreas } from './file-holes.ts'
import type { Link, LinkOptions, Run } from './link.ts'
import { LabStorageError, translated } from './storage-error.ts'

/** A `-flat.vmdk`: the raw disk. Thin ones are sparse files; thick ones are too, but are charged whole when made. */
export class FlatLink implements Link {
  readonly capacity: number
  readonly #fd: number
  readonly #charge: LinkOptions['charge']
  readonly #thin: boolean

  constructor(file: string, capacity: number, thin: boolean, options: LinkOptions) {
    this.capacity = capacity
    this.#thin = thin
    this.#charge = options.charge
    this.#fd = translated(options.subject, () => openSync(file, options.readonly ? 'r' : 'r+'))
    const { size } = fstatSync(this.#fd)
    if (size < capacity) {
      closeSync(this.#fd)
      const message = `The extent of ${options.subject} holds ${size} bytes where the descriptor says ${capacity}.`
      throw new LabStorageError('InvalidDisk', message, options.subject)
    }
  }

  *runs(offset: number, length: number, sparse: boolean): Generator<Run> {
    if (!sparse) {
      if (length > 0) yield { offset, length, kind: 'data', at: offset }
      return
    }
    let position = offset
    for (const area of dataAreas(this.#fd, { offset, length })) {
      if (area.offset > position) yield { offset: position, length: area.offset - position, kind: 'zero', at: 0 }
      yield { ...area, kind: 'data', at: area.offset }
      position = area.offset + area.length
    }
    if (position < offset + length) yield { offset: position, length: offset + length - position, kind: 'zero', at: 0 }
  }

  readAt(at: number, into: Uint8Array): void {
    readExactly(this.#fd, at, into)
  }

  write(offset: number, data: Uint8Array): void {
    // Blocks written before are charged again; the datastore measures for real before it says full.
    if (this.#thin) this.#charge(data.length)
    writeExactly(this.#fd, offset, data)
  }

  flush(): void {
    // The raw extent has no header.
  }

  close(): void {
    closeSync(this.#fd)
  }
}
