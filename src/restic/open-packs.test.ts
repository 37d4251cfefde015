import { readdirSync, readlinkSync } from 'node:fs'
import { mkdtemp, rm, unlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { OpenPacks } from './open-packs.ts'

let directory: string
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'vcb-open-packs-'))
})
afterEach(() => rm(directory, { recursive: true }))

const openHere = (): string[] =>
  readdirSync('/proc/self/fd').flatMap((number) => {
    try {
      const path = readlinkSync(`/proc/self/fd/${number}`)
      return path.startsWith(directory) ? [path] : []
    } catch {
      return []
    }
  })

async function files(count: number): Promise<string[]> {
  const paths = Array.from({ length: count }, (_, index) => join(directory, String(index)))
  for (const [index, path] of paths.entries()) await writeFile(path, Buffer.alloc(1000, index))
  return paths
}

it('reads what is there from any number of files at once, and keeps few of them open', async () => {
  const paths = await files(40)
  await using packs = new OpenPacks()
  const reads = Array.from({ length: 400 }, async (_, turn) => {
    const index = (turn * 7) % paths.length
    const into = Buffer.alloc(100)
    expect(await packs.read(paths[index] ?? '', turn, into)).toBe(100)
    expect(into.every((byte) => byte === index)).toBe(true)
  })
  await Promise.all(reads)
  // Those that were let go are closed in the thread pool.
  await expect.poll(() => openHere().length).toBeLessThanOrEqual(8)
  const tail = Buffer.alloc(100)
  expect(await packs.read(paths[3] ?? '', 950, tail)).toBe(50)
  await packs[Symbol.asyncDispose]()
  expect(openHere()).toEqual([])
})

it('reads to the end what is forgotten meanwhile, and then the file that is there now', async () => {
  const [path = ''] = await files(1)
  await using packs = new OpenPacks()
  const into = Buffer.alloc(1000, 9)
  const reading = packs.read(path, 0, into)
  packs.forget(path)
  await unlink(path)
  await writeFile(path, Buffer.alloc(1000, 5))
  expect(await reading).toBe(1000)
  expect(new Set(into)).toEqual(new Set([0]))
  expect(await packs.read(path, 0, into)).toBe(1000)
  expect(new Set(into)).toEqual(new Set([5]))
  await packs[Symbol.asyncDispose]()
  expect(openHere()).toEqual([])
})

it('says that a file is missing each time, and reads it once it is there', async () => {
  const path = join(directory, 'later')
  await using packs = new OpenPacks()
  for (let turn = 0; turn < 2; turn++) await expect(packs.read(path, 0, Buffer.alloc(4))).rejects.toMatchObject({ code: 'ENOENT' })
  await writeFile(path, 'here')
  const into = Buffer.alloc(4)
  await packs.read(path, 0, into)
  expect(into.toString()).toBe('here')
})
