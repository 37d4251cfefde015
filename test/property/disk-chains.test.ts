import { execFileSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { expect, it } from 'vitest'
import { type DiskChain, localDiskFiles, openChain } from '../../src/disk/index.ts'
import { describePeer } from '../peer.ts'
import { applyGrains, type Grains, writeFlatBase, writeRedoLog } from './disk-writers.ts'

const SECTOR = 512

/** Numbers of grains, clustered so that runs, borders of tables and the last grain all occur. */
const grainMap = (count: number, grainBytes: number, kinds: readonly ('zero' | 'unmap')[]): fc.Arbitrary<Grains> => {
  const number = fc.oneof(
    fc.nat(count - 1),
    fc.nat(Math.min(40, count - 1)),
    fc.constantFrom(0, count - 1, 4095, 4096).filter((n) => n < count),
  )
  const value = fc.oneof(
    { weight: 4, arbitrary: fc.integer({ min: 0, max: 255 }).map((byte) => Buffer.alloc(grainBytes, byte)) },
    ...kinds.map((kind) => ({ weight: 1, arbitrary: fc.constant(kind) })),
  )
  return fc.array(fc.tuple(number, value), { maxLength: 60 }).map((pairs) => new Map(pairs))
}

const link = (size: number): fc.Arbitrary<{ kind: 'cowd' | 'sesparse'; grains: Grains }> =>
  fc.oneof(
    grainMap(size / SECTOR, SECTOR, ['zero']).map((grains) => ({ kind: 'cowd' as const, grains })),
    grainMap(Math.ceil(size / 4096), 4096, ['zero', 'unmap']).map((grains) => ({ kind: 'sesparse' as const, grains })),
  )

/** The disk put together from where it says that its bytes lie. */
async function gathered(disk: DiskChain): Promise<Buffer> {
  const image = Buffer.alloc(disk.size, 0xee)
  let at = 0
  for await (const { file, offset, length } of disk.places?.({ offset: 0, length: disk.size }) ?? []) {
    if (file === undefined) image.fill(0, at, at + length)
    else readFileSync(file).copy(image, at, offset, offset + length)
    at += length
  }
  expect(at).toBe(disk.size)
  return image
}

const chain = fc.record({ baseSectors: fc.integer({ min: 1, max: 12_000 }), grown: fc.nat(6000) }).chain(({ baseSectors, grown }) => {
  const size = (baseSectors + grown) * SECTOR
  return fc.record({
    base: fc.array(fc.tuple(fc.nat(baseSectors - 1), fc.integer({ min: 1, max: 255 })), { maxLength: 30 }).map((marks) => {
      const image = Buffer.alloc(baseSectors * SECTOR)
      for (const [sector, byte] of marks) image.fill(byte, sector * SECTOR, Math.min(sector + 7, baseSectors) * SECTOR)
      return image
    }),
    size: fc.constant(size),
    links: fc.array(link(size), { minLength: 1, maxLength: 3 }),
  })
})

describePeer('qemu-img', 'chains of COWD and seSparse redo logs', (qemuImg) => {
  it('read the same with our reader, qemu-img and a plain buffer', async () => {
    await fc.assert(
      fc.asyncProperty(chain, async ({ base, size, links }) => {
        const directory = mkdtempSync(join(tmpdir(), 'vcb-chain-'))
        try {
          writeFlatBase(join(directory, 'vm.vmdk'), base, '00000001')
          let expected: Uint8Array = base
          let top = join(directory, 'vm.vmdk')
          for (const [index, { kind, grains }] of links.entries()) {
            const parent = { hint: index === 0 ? 'vm.vmdk' : `vm-00000${index}.vmdk`, cid: `0000000${index + 1}` }
            top = writeRedoLog(directory, `vm-00000${index + 1}`, kind, size, grains, parent, `0000000${index + 2}`)
            expected = applyGrains(expected, size, kind === 'cowd' ? SECTOR : 4096, grains)
          }
          await using disk = await openChain(top, localDiskFiles())
          expect(disk.links.length).toBe(links.length + 1)
          const actual = new Uint8Array(disk.size)
          await disk.read(0, actual)
          expect(Buffer.compare(actual, expected)).toBe(0)
          let at = 0
          const shown = Buffer.alloc(disk.size)
          for await (const extent of disk.extents({ offset: 0, length: disk.size })) {
            expect(extent.offset).toBe(at)
            at += extent.length
            expect(extent.kind).not.toBe('absent')
            if (extent.kind === 'data') await disk.read(extent.offset, shown.subarray(extent.offset, at))
          }
          expect(at).toBe(size)
          expect(Buffer.compare(shown, expected)).toBe(0)
          expect(Buffer.compare(await gathered(disk), expected)).toBe(0)
          const raw = join(directory, 'out.raw')
          execFileSync(qemuImg, ['convert', '-f', 'vmdk', '-O', 'raw', top, raw])
          expect(Buffer.compare(readFileSync(raw), expected)).toBe(0)
        } finally {
          rmSync(directory, { recursive: true })
        }
      }),
      { numRuns: 30, seed: 2026 },
    )
  })
})
