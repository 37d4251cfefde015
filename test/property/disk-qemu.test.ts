import { execFileSync } from 'node:child_process'
import { createReadStream, existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { expect, it } from 'vitest'
import type { BlockSource } from '../../src/core/index.ts'
import { decodeStreamOptimized, localDiskFiles, openChain } from '../../src/disk/index.ts'
import { describePeers } from '../peer.ts'

const SUBFORMATS = ['monolithicSparse', 'monolithicFlat', 'twoGbMaxExtentSparse', 'twoGbMaxExtentFlat', 'streamOptimized'] as const

type Write = { readonly at: number; readonly length: number; readonly byte: number; readonly zero: boolean }

const writes = (sectors: number): fc.Arbitrary<readonly Write[]> =>
  fc.array(
    fc
      .tuple(fc.nat(sectors - 1), fc.integer({ min: 1, max: 700 }), fc.integer({ min: 1, max: 255 }), fc.boolean())
      .map(([at, length, byte, zero]) => ({ at: at * 512, length: Math.min(length, sectors - at) * 512, byte, zero })),
    { maxLength: 12 },
  )

const disk = fc.integer({ min: 1, max: 70_000 }).chain((sectors) =>
  fc.record({
    size: fc.constant(sectors * 512),
    subformat: fc.constantFrom(...SUBFORMATS),
    zeroedGrain: fc.boolean(),
    base: writes(sectors),
    overlays: fc.array(writes(sectors), { maxLength: 2 }),
  }),
)

async function whole(source: BlockSource): Promise<Uint8Array> {
  const image = Buffer.alloc(source.size, 0xee)
  await source.read(0, image)
  return image
}

/** The image put together from nothing but the data extents. */
async function byExtents(source: BlockSource): Promise<Uint8Array> {
  const image = Buffer.alloc(source.size)
  for await (const { offset, length, kind } of source.extents({ offset: 0, length: source.size })) {
    expect(kind).not.toBe('absent')
    if (kind === 'data') await source.read(offset, image.subarray(offset, offset + length))
  }
  return image
}

describePeers(['qemu-img', 'qemu-io'], 'VMDKs made by qemu', ({ 'qemu-img': qemuImg, 'qemu-io': qemuIo }) => {
  const apply = (path: string, list: readonly Write[]): void => {
    const commands = list.flatMap(({ at, length, byte, zero }) => [
      '-c',
      zero ? `write -z ${at} ${length}` : `write -P ${byte} ${at} ${length}`,
    ])
    if (commands.length > 0) execFileSync(qemuIo, ['-f', 'vmdk', ...commands, path], { stdio: 'ignore' })
  }
  const convert = (path: string, raw: string): Buffer => {
    execFileSync(qemuImg, ['convert', '-f', 'vmdk', '-O', 'raw', path, raw])
    return readFileSync(raw)
  }

  it('read as qemu-img reads them: every subformat, overlays, zeroed grains', async () => {
    await fc.assert(
      fc.asyncProperty(disk, async ({ size, subformat, zeroedGrain, base, overlays }) => {
        const directory = mkdtempSync(join(tmpdir(), 'vcb-qemu-'))
        try {
          let top = join(directory, 'd.vmdk')
          const stream = subformat === 'streamOptimized'
          const made = stream ? join(directory, 'plain.vmdk') : top
          const zeroed = subformat === 'monolithicSparse' && zeroedGrain ? ',zeroed_grain=on' : ''
          execFileSync(qemuImg, [
            'create',
            '-q',
            '-f',
            'vmdk',
            '-o',
            `subformat=${stream ? 'monolithicSparse' : subformat}${zeroed}`,
            made,
            String(size),
          ])
          apply(made, base)
          // qemu cannot rewrite compressed grains, so a compressed disk is converted from a plain one.
          if (stream) execFileSync(qemuImg, ['convert', '-f', 'vmdk', '-O', 'vmdk', '-o', 'subformat=streamOptimized', made, top])
          if (subformat === 'monolithicSparse') {
            for (const [index, list] of overlays.entries()) {
              const path = join(directory, `o${index}.vmdk`)
              execFileSync(qemuImg, ['create', '-q', '-f', 'vmdk', '-b', top, '-F', 'vmdk', path])
              apply(path, list)
              top = path
            }
          }
          const expected = convert(top, join(directory, 'out.raw'))
          await using source = await openChain(top, localDiskFiles())
          expect(source.size).toBe(size)
          expect(Buffer.compare(await whole(source), expected)).toBe(0)
          expect(Buffer.compare(await byExtents(source), expected)).toBe(0)
          if (stream) expect(Buffer.compare(await decoded(top), expected)).toBe(0)
        } finally {
          rmSync(directory, { recursive: true })
        }
      }),
      { numRuns: 40, seed: 7 },
    )
  })

  it('span pieces of 2 GiB', async () => {
    const directory = mkdtempSync(join(tmpdir(), 'vcb-qemu-'))
    try {
      const size = 5 * 2 ** 30
      for (const subformat of ['twoGbMaxExtentSparse', 'twoGbMaxExtentFlat']) {
        const path = join(directory, `${subformat}.vmdk`)
        execFileSync(qemuImg, ['create', '-q', '-f', 'vmdk', '-o', `subformat=${subformat}`, path, String(size)])
        const border = 2 ** 31
        execFileSync(qemuIo, ['-f', 'vmdk', '-c', `write -P 7 ${border - 65_536} 131072`, '-c', `write -P 9 ${size - 512} 512`, path], {
          stdio: 'ignore',
        })
        await using source = await openChain(path, localDiskFiles())
        expect(source.size).toBe(size)
        const across = new Uint8Array(131_072)
        await source.read(border - 65_536, across)
        expect(across.every((byte) => byte === 7)).toBe(true)
        const last = new Uint8Array(512)
        await source.read(size - 512, last)
        expect(last.every((byte) => byte === 9)).toBe(true)
        let data = 0
        for await (const extent of source.extents({ offset: 0, length: size })) if (extent.kind === 'data') data += extent.length
        expect(data).toBeLessThanOrEqual(131_072 + 2 * 65_536)
        expect(existsSync(path)).toBe(true)
      }
    } finally {
      rmSync(directory, { recursive: true })
    }
  })
})

async function decoded(path: string): Promise<Uint8Array> {
  const stream = await decodeStreamOptimized(createReadStream(path, { highWaterMark: 3000 }), path)
  const image = Buffer.alloc(stream.capacityBytes)
  for await (const { offset, data } of stream.grains()) image.set(data, offset)
  return image
}
