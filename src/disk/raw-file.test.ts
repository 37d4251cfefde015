import { type FileHandle, mkdtemp, open, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { MIB } from '../core/index.ts'
import { createRawFile, openRawDevice } from './raw-file.ts'

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

describe('a large file that is written', () => {
  const handles = async (): Promise<FileHandle> => {
    await using handle = await open(device)
    return Object.getPrototypeOf(handle) as FileHandle
  }
  const fill = async (sink: Awaited<ReturnType<typeof createRawFile>>, mib: number): Promise<void> => {
    const data = Buffer.alloc(MIB, 1)
    for (let at = 0; at < mib; at++) await sink.write(at * MIB, data)
  }

  test('is sent to the disk meanwhile, once in 64 MiB', async () => {
    const sync = vi.spyOn(await handles(), 'sync')
    try {
      await using sink = await createRawFile(join(directory, 'large'), 256 * MIB)
      await fill(sink, 60)
      expect(sync).toHaveBeenCalledTimes(0)
      await fill(sink, 8)
      expect(sync).toHaveBeenCalledTimes(1)
      await sink.flush()
      expect(sync.mock.calls.length).toBeGreaterThanOrEqual(2)
    } finally {
      sync.mockRestore()
    }
  })

  test('is not there when a part of it was lost on the way, although the last sync found nothing', async () => {
    const sync = vi.spyOn(await handles(), 'sync').mockRejectedValueOnce(Object.assign(new Error('i/o error'), { code: 'EIO' }))
    try {
      const path = join(directory, 'large')
      {
        await using sink = await createRawFile(path, 256 * MIB)
        await fill(sink, 70)
        await expect(sink.flush()).rejects.toThrow()
        expect(sync).toHaveBeenCalledTimes(2)
      }
      await expect(stat(path)).rejects.toMatchObject({ code: 'ENOENT' })
    } finally {
      sync.mockRestore()
    }
  })
})
