import { mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { isAgentError, KIB, MIB, systemClock } from '../core/index.ts'
import { type CowDisk, createCowDisk, memorySource, zeroSource } from './index.ts'

const SIZE = 300 * KIB + 512
let directory = ''
beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'vcb-cow-'))
})
afterAll(() => {
  // Its scratch files never had a name that stayed.
  expect(readdirSync(directory)).toEqual([])
  rmSync(directory, { recursive: true })
})

const below = Buffer.alloc(SIZE, 7)
const cow = (limit = MIB): Promise<CowDisk> => createCowDisk(memorySource(below), { directory, limit })

describe('a copy-on-write disk', () => {
  it('is a buffer that is written to, and leaves its source alone', () =>
    fc.assert(
      fc.asyncProperty(
        fc.array(
          fc.record({
            what: fc.constantFrom('write', 'zero', 'read'),
            offset: fc.nat(SIZE - 1),
            length: fc.oneof(fc.nat(600), fc.nat(SIZE)),
            byte: fc.integer({ min: 1, max: 255 }),
          }),
          { maxLength: 25 },
        ),
        async (steps) => {
          const source = memorySource(below)
          await using disk = await createCowDisk(source, { directory, limit: MIB })
          const model = Buffer.from(below)
          for (const { what, offset, byte, ...step } of steps) {
            const length = Math.min(step.length, SIZE - offset)
            if (what === 'write') {
              await disk.write(offset, Buffer.alloc(length, byte))
              model.fill(byte, offset, offset + length)
            } else if (what === 'zero') {
              await disk.zero({ offset, length })
              model.fill(0, offset, offset + length)
            } else {
              const into = Buffer.alloc(length)
              await disk.read(offset, into)
              expect(into.equals(model.subarray(offset, offset + length))).toBe(true)
            }
          }
          const whole = Buffer.alloc(SIZE)
          await disk.read(0, whole)
          expect(whole.equals(model)).toBe(true)
          for await (const extent of disk.extents({ offset: 0, length: SIZE })) {
            if (extent.kind === 'zero')
              expect(model.subarray(extent.offset, extent.offset + extent.length).every((byte) => byte === 0)).toBe(true)
          }
          const untouched = Buffer.alloc(SIZE)
          await source.read(0, untouched)
          expect(untouched.equals(below)).toBe(true)
        },
      ),
      { seed: 4711, numRuns: 60 },
    ))

  it('keeps all of many small writes to one block at once', async () => {
    await using disk = await cow()
    await Promise.all(Array.from({ length: 128 }, (_, index) => disk.write(index * 512, Buffer.alloc(512, index + 1))))
    const into = Buffer.alloc(64 * KIB)
    await disk.read(0, into)
    for (let index = 0; index < 128; index++) expect(into[index * 512 + 511]).toBe(index + 1)
    expect(disk.changed).toBe(64 * KIB)
  })

  it('takes no more than its limit, and goes on with what it has', async () => {
    await using disk = await cow(128 * KIB)
    await disk.write(0, Buffer.alloc(128 * KIB, 1))
    await expect(disk.write(200 * KIB, Buffer.alloc(1, 1))).rejects.toSatisfy((error) => isAgentError(error, 'CAPACITY'))
    await expect(disk.zero({ offset: 128 * KIB, length: 64 * KIB })).rejects.toSatisfy((error) => isAgentError(error, 'CAPACITY'))
    await disk.write(3, Buffer.alloc(10, 2))
    const into = Buffer.alloc(1)
    await disk.read(200 * KIB, into)
    expect(into[0]).toBe(7)
  })

  it('lists the extents of the largest disk in no time', async () => {
    await using disk = await createCowDisk(zeroSource(62 * 1024 ** 4), { directory, limit: MIB })
    await disk.write(5 * 1024 ** 4, Buffer.alloc(512, 1))
    const since = systemClock.monotonicMs()
    const kinds = []
    for await (const { kind, length } of disk.extents({ offset: 0, length: disk.size })) kinds.push([kind, length])
    expect(kinds).toEqual([
      ['zero', 5 * 1024 ** 4],
      ['data', 64 * KIB],
      ['zero', 57 * 1024 ** 4 - 64 * KIB],
    ])
    // Block by block it would be minutes.
    expect(systemClock.monotonicMs() - since).toBeLessThan(10_000)
  })

  it('says where the scratch file cannot be made', async () => {
    await expect(createCowDisk(zeroSource(512), { directory: join(directory, 'none'), limit: MIB })).rejects.toSatisfy((error) =>
      isAgentError(error, 'NOT_FOUND'),
    )
  })
})
