import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { localDiskFiles, openChain } from '../../src/disk/index.ts'

const GOLDEN = join(import.meta.dirname, '..', 'golden', 'disk')

describe('disks that qemu-img made', () => {
  for (const line of readFileSync(join(GOLDEN, 'SHA256SUMS'), 'utf8').trim().split('\n')) {
    const [digest, name = ''] = line.split(/\s+/u)
    it(`read with the digest qemu-img gives: ${name}`, async () => {
      await using disk = await openChain(join(GOLDEN, name), localDiskFiles())
      const image = new Uint8Array(disk.size)
      await disk.read(0, image)
      expect(createHash('sha256').update(image).digest('hex')).toBe(digest)
    })
  }
})
