import { mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { isAgentError } from '../core/index.ts'
import { copyDisk } from './copy-disk.ts'
import { exportDisk } from './export-disk.ts'
import { memorySource, zeroSource } from './memory-source.ts'
import { overlay } from './overlay.ts'
import { createRawFile } from './raw-file.ts'

let directory = ''
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'vcb-copy-'))
})
afterEach(() => rmSync(directory, { recursive: true }))

/** 2 TiB with 1 MiB of data at its start. */
const huge = () => {
  const top = memorySource(Buffer.alloc(1024 * 1024, 7))
  return overlay(
    {
      size: 2 ** 41,
      read: async (offset, into, options) => {
        into.fill(0)
        if (offset < top.size) await top.read(offset, into.subarray(0, top.size - offset), options)
      },
      async *extents(range) {
        const data = Math.max(0, Math.min(top.size - range.offset, range.length))
        if (data > 0) yield { offset: range.offset, length: data, kind: 'data' }
        if (range.length > data) yield { offset: range.offset + data, length: range.length - data, kind: 'absent' }
      },
      [Symbol.asyncDispose]: async () => undefined,
    },
    zeroSource(2 ** 40),
  )
}

describe('a disk of 2 TiB with 1 MiB of data', () => {
  it('is copied into a sparse file at once, taking the space of its data', async () => {
    await using file = await createRawFile(join(directory, 'raw'), 2 ** 41)
    await copyDisk(huge(), file)
    const { size, blocks } = statSync(join(directory, 'raw'))
    expect(size).toBe(2 ** 41)
    expect(blocks * 512).toBeLessThan(4 * 1024 * 1024)
  })

  it('is exported as streamOptimized in little more than its directory', async () => {
    const { files } = await exportDisk(huge(), directory, 'd', 'streamOptimized')
    expect(files[0]?.size).toBeLessThan(1024 * 1024)
  })
})

describe('copyDisk', () => {
  it('zeroes what the target held before and refuses a target that is too small', async () => {
    const path = join(directory, 'raw')
    await using file = await createRawFile(path, 200_192)
    await file.write(0, Buffer.alloc(200_192, 1))
    await copyDisk(zeroSource(100_352), file)
    const image = Buffer.alloc(200_192)
    image.set(readFileSync(path))
    expect(image.every((byte) => byte === 0)).toBe(true)
    await expect(copyDisk(zeroSource(300_032), file)).rejects.toSatisfy((error) => isAgentError(error, 'USAGE'))
  })
})
