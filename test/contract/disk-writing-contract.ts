import { execFile } from 'node:child_process'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import fc from 'fast-check'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { type BlockSink, isAgentError, type MoRef } from '../../src/core/index.ts'
import type { FaultRule } from '../../src/lab/index.ts'
import type { DiskWriting, OpenOptions, TargetDisk } from '../../src/transport/index.ts'
import { powerOff, powerOn } from '../../src/vsphere/index.ts'
import { LabClient } from '../flow/lab-client.ts'
import { requirePeer } from '../peer.ts'
import type { EmptyDisks } from '../transports/empty-disks.ts'

/** A way of writing under test, in a lab of its own. */
export type WritingUnderTest = AsyncDisposable & {
  readonly world: EmptyDisks
  readonly writing: DiskWriting
  /** How each disk is opened: the claims of a way that holds something. */
  readonly open?: OpenOptions | undefined
  /** What is still held, on either side; empty when everything was given back. */
  left(): Promise<readonly unknown[]>
}

export type DiskWritingSkips = {
  /** Breaks the connection at the second piece of data; absent with a reason in `noCut`. */
  readonly cut?: FaultRule | undefined
  readonly noCut?: string | undefined
  /** Why a full datastore cannot be seen. */
  readonly noCapacity?: string | undefined
}

const KIB = 1024
const MIB = 1024 * KIB
const SIZE = 5 * MIB + 3 * KIB

/** What every `DiskWriting` promises. `start` brings the lab and the way, once. */
export function diskWritingContract(name: string, start: () => Promise<WritingUnderTest>, skips: DiskWritingSkips): void {
  describe(`${name} keeps the DiskWriting contract`, () => {
    let under: WritingUnderTest
    beforeAll(async () => {
      under = await start()
    }, 60_000)
    afterAll(() => under[Symbol.asyncDispose]())
    afterEach(async () => expect(await under.left()).toEqual([]))

    const open = (target: TargetDisk, options?: OpenOptions): Promise<BlockSink> =>
      under.writing.open(target, { ...under.open, ...options })
    /** Opens a new disk, writes, flushes and closes it. */
    const written = async (work: (sink: BlockSink) => Promise<void>, size = SIZE): Promise<TargetDisk> => {
      const target = await under.world.make(size)
      const sink = await open(target)
      try {
        await work(sink)
        await sink.flush()
      } finally {
        await sink[Symbol.asyncDispose]()
      }
      return target
    }
    const vm = ({ config }: TargetDisk): MoRef => ({ type: 'VirtualMachine', value: config.vm.moref })

    it('opens an empty disk of the size vSphere says; nothing written leaves nothing allocated', async () => {
      const target = await under.world.make(SIZE)
      expect(await under.writing.probe(target)).toMatchObject({ ok: true })
      const sink = await open(target)
      expect(sink.size).toBe(SIZE)
      await sink.flush()
      await sink[Symbol.asyncDispose]()
      expect((await under.world.image(target)).equals(Buffer.alloc(SIZE))).toBe(true)
      expect(await under.world.allocated(target)).toBe(0)
    })

    it('keeps writes of odd sizes, in any order and at once', async () => {
      const model = Buffer.alloc(SIZE)
      const pieces = [
        [2_000_000, 70_001],
        [0, 1],
        [SIZE - 513, 513],
        [4095, 2],
        [4097, 3],
        [1_048_570, 100],
        [3 * MIB - 7, MIB + 20],
      ] as const
      const target = await written(async (sink) => {
        await Promise.all(
          pieces.map(async ([offset, length], index) => {
            const data = Buffer.alloc(length, index + 1)
            data.copy(model, offset)
            await sink.write(offset, data)
          }),
        )
      })
      expect((await under.world.image(target)).equals(model)).toBe(true)
    })

    it('a later write wins over an earlier one, zeros too; zero() over data reads as zeros', async () => {
      const model = Buffer.alloc(SIZE)
      const target = await written(async (sink) => {
        const write = async (offset: number, data: Buffer): Promise<void> => {
          data.copy(model, offset)
          await sink.write(offset, data)
        }
        await write(MIB, Buffer.alloc(2 * MIB, 1))
        await write(MIB + 4096, Buffer.alloc(8192, 2))
        await write(MIB + 8192, Buffer.alloc(64 * KIB))
        await write(2 * MIB - 100, Buffer.alloc(300))
        await sink.zero({ offset: 2 * MIB + 1000, length: 200_000 })
        model.fill(0, 2 * MIB + 1000, 2 * MIB + 201_000)
        await sink.zero({ offset: 0, length: MIB })
        await write(2 * MIB + 5000, Buffer.alloc(5, 3))
      })
      expect((await under.world.image(target)).equals(model)).toBe(true)
    })

    it('thin stays thin: zeros that meet nothing are not stored', async () => {
      const target = await written(async (sink) => {
        await sink.zero({ offset: 0, length: sink.size })
        await sink.write(3 * MIB, Buffer.alloc(MIB))
        await sink.write(64 * KIB, Buffer.alloc(64 * KIB, 7))
        await sink.zero({ offset: 2 * MIB, length: MIB })
      })
      expect(await under.world.allocated(target)).toBe(64 * KIB)
    })

    it('a thick disk is written as well', async () => {
      const target = await under.world.make(MIB, { thin: false })
      const sink = await open(target)
      await sink.write(512 * KIB, Buffer.alloc(4096, 9))
      await sink.flush()
      await sink[Symbol.asyncDispose]()
      const model = Buffer.alloc(MIB)
      model.fill(9, 512 * KIB, 512 * KIB + 4096)
      expect((await under.world.image(target)).equals(model)).toBe(true)
    })

    it('refuses what lies outside, and goes on', async () => {
      const target = await written(async (sink) => {
        const refused = (work: () => Promise<void>): Promise<void> =>
          expect(work()).rejects.toSatisfy((error) => isAgentError(error, 'USAGE'))
        await refused(async () => sink.write(SIZE - 1, new Uint8Array(2)))
        await refused(async () => sink.write(-1, new Uint8Array(1)))
        await refused(async () => sink.zero({ offset: SIZE, length: 1 }))
        await sink.write(SIZE - 1, new Uint8Array([5]))
      })
      const image = await under.world.image(target)
      expect([image.length, image.at(-1), image.at(-2)]).toEqual([SIZE, 5, 0])
    })

    it('what was flushed is on the datastore before the disk is closed', async () => {
      const target = await under.world.make(SIZE)
      const sink = await open(target)
      await sink.write(MIB, Buffer.alloc(MIB, 6))
      await sink.flush()
      expect((await under.world.image(target)).subarray(MIB, 2 * MIB).equals(Buffer.alloc(MIB, 6))).toBe(true)
      await sink[Symbol.asyncDispose]()
    })

    it('refuses a disk of a running VM, whether it is known to run or not', async () => {
      const target = await under.world.make(MIB)
      await powerOn(under.world.vsphere, vm(target))
      const now = await under.world.again(target)
      expect(await under.writing.probe(now)).toMatchObject({ ok: false, reason: expect.stringMatching(/powered off|running/) })
      await expect(open(now)).rejects.toMatchObject({ code: 'CONFLICT' })
      await expect(open(target)).rejects.toMatchObject({ code: expect.stringMatching(/CONFLICT|UNAVAILABLE/) })
      await powerOff(under.world.vsphere, vm(target))
      const sink = await open(target)
      await sink.flush()
      await sink[Symbol.asyncDispose]()
    })

    it('refuses a disk below a snapshot, whether that is known or not', async () => {
      const target = await under.world.make(MIB)
      await (await LabClient.login(under.world.lab)).takeSnapshot(target.config.vm.moref, 'of a user')
      const now = await under.world.again(target)
      expect(await under.writing.probe(now)).toMatchObject({ ok: false, reason: expect.stringContaining('snapshot') })
      await expect(open(now)).rejects.toMatchObject({ code: 'CONFLICT' })
      await expect(open(target)).rejects.toMatchObject({ code: expect.stringMatching(/CONFLICT|UNAVAILABLE/) })
    })

    it('a connection that breaks ends the writing; the disk opened again and written again is right', async (context) => {
      const { cut } = skips
      if (cut === undefined) return context.skip(skips.noCut ?? 'no rule breaks it')
      const target = await under.world.make(SIZE)
      const data = Buffer.alloc(4 * MIB)
      for (let at = 0; at < data.length; at += 512) data.writeUInt32LE(at + 1, at)
      await under.world.faulty(cut, async () => {
        const sink = await open(target)
        await expect(sink.write(512, data)).rejects.toMatchObject({ code: 'UNAVAILABLE' })
        await expect(sink.write(0, data.subarray(0, 512))).rejects.toMatchObject({ code: expect.any(String) })
        await sink[Symbol.asyncDispose]()
      })
      const sink = await open(target)
      await sink.write(512, data)
      await sink.flush()
      await sink[Symbol.asyncDispose]()
      const image = await under.world.image(target)
      expect(image.subarray(512, 512 + data.length).equals(data)).toBe(true)
      expect(image.subarray(0, 512).equals(Buffer.alloc(512))).toBe(true)
    })

    it('a full datastore is told as such', async (context) => {
      if (skips.noCapacity !== undefined) return context.skip(skips.noCapacity)
      const target = await under.world.make(SIZE)
      const sink = await open(target)
      await sink.write(0, Buffer.alloc(MIB, 1))
      await under.world.faulty({ datastoreFull: 'v6' }, async () => {
        await expect(sink.write(MIB, Buffer.alloc(3 * MIB, 2))).rejects.toMatchObject({ code: 'CAPACITY' })
      })
      await sink[Symbol.asyncDispose]()
    })

    it('a cancel ends a write at once, and the disk can be opened again', async () => {
      const target = await under.world.make(SIZE)
      const sink = await open(target)
      const cancel = new AbortController()
      const writing = sink.write(0, Buffer.alloc(4 * MIB, 1), { signal: cancel.signal })
      cancel.abort()
      await expect(writing).rejects.toMatchObject({ code: 'CANCELED' })
      await expect(sink.write(0, Buffer.alloc(512), { signal: cancel.signal })).rejects.toMatchObject({ code: 'CANCELED' })
      await sink[Symbol.asyncDispose]()
      await expect(open(target, { signal: cancel.signal })).rejects.toMatchObject({ code: 'CANCELED' })
      const again = await open(target)
      await again.flush()
      await again[Symbol.asyncDispose]()
    })

    it('keeps any sequence of writes and zeros (property)', async () => {
      const size = 2 * MIB + KIB
      const step = fc.record({
        offset: fc.integer({ min: 0, max: size - 1 }),
        length: fc.oneof(fc.integer({ min: 1, max: 2000 }), fc.integer({ min: 1, max: size }), fc.constantFrom(512, 64 * KIB, MIB)),
        fill: fc.integer({ min: 0, max: 3 }),
        zero: fc.boolean(),
      })
      await fc.assert(
        fc.asyncProperty(fc.array(step, { minLength: 1, maxLength: 12 }), async (steps) => {
          const model = Buffer.alloc(size)
          const target = await written(async (sink) => {
            for (const { offset, length: wanted, fill, zero } of steps) {
              const length = Math.min(wanted, size - offset)
              model.fill(zero ? 0 : fill, offset, offset + length)
              await (zero ? sink.zero({ offset, length }) : sink.write(offset, Buffer.alloc(length, fill)))
            }
          }, size)
          expect((await under.world.image(target)).equals(model)).toBe(true)
        }),
        { seed: 11, numRuns: 15 },
      )
    }, 60_000)

    it('qemu-img finds the disk equal to the image that was written', async () => {
      const qemuImg = requirePeer('qemu-img')
      const image = Buffer.alloc(SIZE)
      for (let at = MIB; at < 3 * MIB; at += 4) image.writeUInt32LE((at * 2_654_435_761) >>> 0, at)
      const target = await written((sink) => sink.write(MIB, image.subarray(MIB, 3 * MIB)))
      const raw = join(under.world.lab.directory, 'golden.raw')
      await writeFile(raw, image)
      const { descriptor } = under.world.files(target)
      const { stdout } = await promisify(execFile)(qemuImg, ['compare', '-f', 'raw', '-F', 'vmdk', raw, descriptor])
      expect(stdout).toContain('Images are identical')
    })
  })
}
