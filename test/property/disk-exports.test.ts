import { execFileSync } from 'node:child_process'
import { createReadStream, mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { expect, it } from 'vitest'
import type { Extent } from '../../src/core/index.ts'
import { decodeStreamOptimized, type ExportFormat, exportDisk, localDiskFiles, memorySource, openChain } from '../../src/disk/index.ts'
import { describePeer } from '../peer.ts'

/** An image with runs of data, of zeros that are called data, and of true zero extents. */
const image = fc
  .array(
    fc.tuple(fc.integer({ min: 1, max: 900 }), fc.constantFrom('random', 'same', 'stored zeros', 'zero'), fc.integer({ min: 1, max: 255 })),
    { minLength: 1, maxLength: 25 },
  )
  .map((runs) => {
    const size = runs.reduce((sum, [sectors]) => sum + sectors, 0) * 512
    const bytes = Buffer.alloc(size)
    const extents: Extent[] = []
    let at = 0
    for (const [sectors, kind, byte] of runs) {
      const length = sectors * 512
      if (kind === 'same') bytes.fill(byte, at, at + length)
      if (kind === 'random') {
        // Nothing zlib can shrink, so that grains grow when compressed.
        let state = byte * 2654435761
        for (let index = at; index < at + length; index++) {
          state = (Math.imul(state, 1664525) + 1013904223) >>> 0
          bytes[index] = state >>> 24
        }
      }
      extents.push({ offset: at, length, kind: kind === 'zero' ? 'zero' : 'data' })
      at += length
    }
    return { bytes, extents }
  })

describePeer('qemu-img', 'exports', (qemuImg) => {
  for (const [format, flavour] of [
    ['flat', 'hosted'],
    ['flat', 'vmfs'],
    ['split-sparse', undefined],
    ['streamOptimized', undefined],
  ] as const satisfies readonly (readonly [ExportFormat, string | undefined])[]) {
    it(`read back the same with qemu-img and our reader: ${format} ${flavour ?? ''}`, async () => {
      await fc.assert(
        fc.asyncProperty(image, async ({ bytes, extents }) => {
          const directory = mkdtempSync(join(tmpdir(), 'vcb-export-'))
          try {
            await using source = memorySource(bytes, extents)
            const { files } = await exportDisk(source, directory, 'vm "1"'.replaceAll('"', "'"), format, { flavour })
            const path = join(directory, files[0]?.name ?? '')
            for (const { name, size } of files) expect(statSync(join(directory, name)).size).toBe(size)
            const raw = join(directory, 'out.raw')
            execFileSync(qemuImg, ['convert', '-f', 'vmdk', '-O', 'raw', path, raw])
            expect(Buffer.compare(readFileSync(raw), bytes)).toBe(0)
            await using disk = await openChain(path, localDiskFiles())
            const read = Buffer.alloc(disk.size)
            await disk.read(0, read)
            expect(Buffer.compare(read, bytes)).toBe(0)
            if (format === 'streamOptimized') {
              const stream = await decodeStreamOptimized(createReadStream(path), path)
              const image = Buffer.alloc(stream.capacityBytes)
              for await (const grain of stream.grains()) image.set(grain.data, grain.offset)
              expect(Buffer.compare(image, bytes)).toBe(0)
            }
          } finally {
            rmSync(directory, { recursive: true })
          }
        }),
        { numRuns: 15, seed: 11 },
      )
    })
  }

  it('of 5 GiB have pieces below 2 GiB that qemu-img reads across their borders', async () => {
    const directory = mkdtempSync(join(tmpdir(), 'vcb-export-'))
    try {
      const size = 5 * 2 ** 30
      const border = 4_192_256 * 512
      const source = sparse(size, { offset: border - 100_000 * 512, length: 200_000 * 512 })
      const { files } = await exportDisk(source, directory, 'big', 'split-sparse')
      expect(files.length).toBe(4)
      const out = join(directory, 'out.raw')
      execFileSync(qemuImg, ['convert', '-f', 'vmdk', '-O', 'raw', join(directory, 'big.vmdk'), out])
      expect(statSync(out).size).toBe(size)
      await using ours = await openChain(out.replace('out.raw', 'big.vmdk'), localDiskFiles())
      for (const at of [0, border - 512, border, border - 100_000 * 512, border + 100_000 * 512 - 4096, size - 4096]) {
        const expected = Buffer.alloc(4096)
        await source.read(at, expected)
        const actual = Buffer.alloc(4096)
        await ours.read(at, actual)
        expect(actual.equals(expected)).toBe(true)
        const peer = execFileSync('dd', [`if=${out}`, 'bs=512', `skip=${at / 512}`, 'count=8', 'status=none'])
        expect(peer.equals(expected)).toBe(true)
      }
    } finally {
      rmSync(directory, { recursive: true })
    }
  })
})

/** A large disk that is made up: every sector of `data` holds its own number. */
function sparse(size: number, data: { readonly offset: number; readonly length: number }) {
  const end = data.offset + data.length
  return {
    size,
    async read(offset: number, into: Uint8Array): Promise<void> {
      const view = Buffer.from(into.buffer, into.byteOffset, into.byteLength).fill(0)
      for (let at = 0; at < into.length; at += 512) {
        if (offset + at >= data.offset && offset + at < end) view.writeUInt32LE((offset + at) / 512, at)
      }
    },
    async *extents(range: { readonly offset: number; readonly length: number }): AsyncGenerator<Extent> {
      const stop = range.offset + range.length
      for (let at = range.offset; at < stop; ) {
        const kind = at >= data.offset && at < end ? ('data' as const) : ('zero' as const)
        const next = Math.min(stop, at < data.offset ? data.offset : at < end ? end : stop)
        yield { offset: at, length: next - at, kind }
        at = next
      }
    },
    async [Symbol.asyncDispose](): Promise<void> {},
  }
}
