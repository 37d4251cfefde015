import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { gunzipSync } from 'node:zlib'
import type { BlockSource } from '../src/core/index.ts'

const BLOCK = 4096
const MAGIC = 'VCBLABFX'

/** An image of `test/golden/volumes` or `guest-disks` (their README says how it is packed); what is not in it reads as zeros. */
export function goldenVolume(name: string, folder: 'volumes' | 'guest-disks' = 'volumes'): BlockSource {
  const packed = gunzipSync(readFileSync(join(import.meta.dirname, 'golden', folder, `${name}.fixture.gz`)))
  if (packed.toString('latin1', 0, 8) !== MAGIC) throw new Error(`${name} is no packed image`)
  const size = Number(packed.readBigUInt64LE(8))
  const count = packed.readUInt32LE(16)
  const at = new Map(Array.from({ length: count }, (_, index) => [packed.readUInt32LE(20 + 4 * index), 20 + 4 * count + BLOCK * index]))
  return sparseSource(size, (block) => {
    const from = at.get(block)
    return from === undefined ? undefined : packed.subarray(from, from + BLOCK)
  })
}

/** A disk of blocks of 4 KiB, undefined ones being zeros. */
export function sparseSource(size: number, blockAt: (block: number) => Uint8Array | undefined): BlockSource {
  return {
    size,
    read: async (offset, into) => {
      if (offset < 0 || offset + into.length > size) throw new Error(`read of ${into.length} at ${offset}, outside ${size}`)
      into.fill(0)
      for (let done = 0; done < into.length; ) {
        const inside = (offset + done) % BLOCK
        const length = Math.min(BLOCK - inside, into.length - done)
        into.set(blockAt(Math.floor((offset + done) / BLOCK))?.subarray(inside, inside + length) ?? new Uint8Array(0), done)
        done += length
      }
    },
    async *extents(range) {
      yield { ...range, kind: 'data' }
    },
    [Symbol.asyncDispose]: async () => {},
  }
}
