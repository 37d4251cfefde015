import { createHash } from 'node:crypto'
import { isZero, MIB } from '../../src/core/index.ts'
import type { DiskDigest } from '../../src/lab/index.ts'

/** What has been read of a disk so far, whatever its size: whole MiB blocks that were written to, everything else zero. */
export class ImageUnderTest {
  readonly size: number
  readonly #blocks = new Map<number, Buffer>()

  constructor(size: number) {
    this.size = size
  }

  write(offset: number, data: Uint8Array): void {
    for (let done = 0; done < data.length; ) {
      const at = offset + done
      const index = Math.floor(at / MIB)
      const block = this.#blocks.get(index) ?? Buffer.alloc(Math.min(MIB, this.size - index * MIB))
      this.#blocks.set(index, block)
      const inBlock = at - index * MIB
      const part = data.subarray(done, done + block.length - inBlock)
      block.set(part, inBlock)
      done += part.length
    }
  }

  /**
   * By the lab's own definition (`DiskDigest`): `sha256` over the whole image; `content`, of disks beyond 64 GiB, over (u64 LE offset, bytes) of each
   * 1 MiB block that is not all zeros. So a block that was not read, or read as zeros, changes either.
   */
  digest(kind: DiskDigest['kind']): string {
    const hash = createHash('sha256')
    if (kind === 'content') {
      for (const [index, block] of [...this.#blocks].sort(([a], [b]) => a - b)) {
        if (isZero(block)) continue
        const offset = Buffer.alloc(8)
        offset.writeBigUInt64LE(BigInt(index * MIB))
        hash.update(offset).update(block)
      }
      return hash.digest('hex')
    }
    const zeros = Buffer.alloc(MIB)
    for (let at = 0; at < this.size; at += MIB) hash.update(this.#blocks.get(at / MIB) ?? zeros.subarray(0, Math.min(MIB, this.size - at)))
    return hash.digest('hex')
  }
}
