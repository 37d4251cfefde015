import { mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { openRawDevice } from './raw-file.ts'

const SIZE = 64 * 1024
let directory: string
let device: string
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'vcb-raw-'))
  device = join(directory, 'sdb')
  await writeFile(device, Buffer.alloc(SIZE))
})
afterEach(() => rm(directory, { recursive: true, force: true }))

describe('a raw device that is written to', () => {
  test('holds what was written and zero elsewhere, also where data was written before', async () => {
    {
      await using sink = await openRawDevice(device, SIZE)
      expect(sink.size).toBe(SIZE)
      await sink.write(4096, Buffer.alloc(12_288, 7))
      await sink.zero({ offset: 8192, length: 4096 })
      await sink.write(SIZE - 512, Buffer.alloc(512, 9))
      await sink.flush()
    }
    const wanted = Buffer.alloc(SIZE)
    wanted
      .fill(7, 4096, 16_384)
      .fill(0, 8192, 12_288)
      .fill(9, SIZE - 512)
    expect(Buffer.compare(await readFile(device), wanted)).toBe(0)
  })

  test('stays, and keeps what was written, when it is closed unfinished: the device is its owner’s', async () => {
    await (await openRawDevice(device, SIZE))[Symbol.asyncDispose]()
    {
      await using sink = await openRawDevice(device, SIZE)
      await sink.write(0, Buffer.alloc(512, 1))
    }
    expect((await readFile(device))[0]).toBe(1)
    expect((await stat(device)).size).toBe(SIZE)
  })

  test('is not written beyond its end, and never made', async () => {
    await using sink = await openRawDevice(device, SIZE)
    await expect(sink.write(SIZE - 512, Buffer.alloc(1024, 1))).rejects.toThrow(/outside|beyond|past|end/i)
    await expect(openRawDevice(join(directory, 'none'), SIZE)).rejects.toMatchObject({ code: 'NOT_FOUND' })
    await expect(stat(join(directory, 'none'))).rejects.toThrow()
  })
})
