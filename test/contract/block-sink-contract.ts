import { writeSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { type BlockSink, type FilePlace, isAgentError } from '../../src/core/index.ts'

/** A sink under test. `image` gives what the target holds after the sink was disposed, undefined when nothing is left of it. */
export type SinkUnderTest = { readonly sink: BlockSink; readonly image: () => Promise<Uint8Array | undefined> }

/**
 * What every `BlockSink` promises. `open` makes a sink of `size` bytes, once per test. `abandoned`: why something may stay when it is disposed without
 * `flush`.
 */
export function blockSinkContract(
  name: string,
  open: (size: number) => Promise<SinkUnderTest>,
  skips: { readonly abandoned?: string } = {},
): void {
  const size = 3 * 1024 * 1024 + 1536

  describe(`${name} keeps the BlockSink contract`, () => {
    it('has the size asked for, and is zero where nothing was written', async () => {
      const { sink, image } = await open(size)
      expect(sink.size).toBe(size)
      await sink.flush()
      await sink[Symbol.asyncDispose]()
      expect(Buffer.alloc(size).equals((await image()) ?? Buffer.alloc(0))).toBe(true)
    })

    it('keeps writes in any order, concurrent ones, zeros inside data and zeros on top of data', async () => {
      const { sink, image } = await open(size)
      const model = Buffer.alloc(size)
      const pieces = [
        [2_000_000, 70_001],
        [0, 1],
        [size - 513, 513],
        [4095, 2],
        [1_048_570, 100],
        [65_536, 65_536],
      ] as const
      await Promise.all(
        pieces.map(async ([offset, length], index) => {
          const data = Buffer.alloc(length, index + 1)
          if (length > 20_000) data.fill(0, 5000, 15_000)
          data.copy(model, offset)
          await sink.write(offset, data)
        }),
      )
      await sink.zero({ offset: 70_000, length: 30_000 })
      model.fill(0, 70_000, 100_000)
      await sink.zero({ offset: 2_500_000, length: 100_000 })
      await sink.write(2_010_000, Buffer.alloc(9000))
      model.fill(0, 2_010_000, 2_019_000)
      await sink.flush()
      await sink[Symbol.asyncDispose]()
      const actual = Buffer.from((await image()) ?? Buffer.alloc(0))
      expect(actual.length).toBe(size)
      expect(actual.equals(model)).toBe(true)
    })

    it('takes bytes from another thread, once, where it is a file', async () => {
      const { sink, image } = await open(size)
      const data = Buffer.alloc(300_000, 7).fill(0, 100_000, 150_000)
      // Behind the region that `write` touches, as far as there is one.
      const places = [0, 400_000].map((offset) => ({ offset, length: data.length }))
      for (const range of places) {
        const work = async ({ descriptor, at }: FilePlace): Promise<number> => {
          writeSync(descriptor, data, 0, 100_000, at)
          writeSync(descriptor, data, 150_000, 150_000, at + 150_000)
          return 250_000
        }
        const written = await sink.writeBy?.(range, work)
        if (sink.writeBy === undefined) await sink.write(range.offset, data)
        else expect(written).toBe(250_000)
      }
      await sink.zero({ offset: 350_000, length: 100_000 })
      await sink.write(0, Buffer.alloc(1000, 9))
      // What `write` may have written is not to be left out as zeros by a thread.
      await sink.writeBy?.({ offset: 0, length: 4096 }, () => Promise.reject(new Error('called')))
      const model = Buffer.alloc(size)
      for (const { offset } of places) data.copy(model, offset)
      model.fill(0, 350_000, 450_000).fill(9, 0, 1000)
      await sink.flush()
      await sink[Symbol.asyncDispose]()
      expect(model.equals((await image()) ?? Buffer.alloc(0))).toBe(true)
    })

    it('refuses what lies outside', async () => {
      const { sink } = await open(size)
      await expect((async () => sink.write(size - 1, new Uint8Array(2)))()).rejects.toSatisfy((error) => isAgentError(error, 'USAGE'))
      if (sink.writeBy !== undefined) {
        const outside = sink.writeBy({ offset: size - 1, length: 2 }, () => Promise.resolve(2))
        await expect(outside).rejects.toSatisfy((error) => isAgentError(error, 'USAGE'))
      }
      await expect((async () => sink.zero({ offset: -1, length: 2 }))()).rejects.toSatisfy((error) => isAgentError(error, 'USAGE'))
      await sink[Symbol.asyncDispose]()
    })

    it('leaves nothing when disposed without flush', async (context) => {
      if (skips.abandoned !== undefined) context.skip(skips.abandoned)
      const { sink, image } = await open(size)
      await sink.write(0, Buffer.alloc(4096, 1))
      await sink[Symbol.asyncDispose]()
      expect(await image()).toBeUndefined()
    })
  })
}
