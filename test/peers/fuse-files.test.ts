import { spawn } from 'node:child_process'
import { hash } from 'node:crypto'
import { once } from 'node:events'
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { AgentError, type BlockSource, type Extent, GIB, MIB, systemClock } from '../../src/core/index.ts'
import { faulty, memorySource, zeroSource } from '../../src/disk/index.ts'
import { type ImageToPresent, type PresentedImages, presentImages } from '../../src/mount/index.ts'
import { leftovers, presentDeps, requireMounting, run, shell, someClaims } from '../mount-world.ts'
import { requirePeer } from '../peer.ts'

/* The raw files that a lease shows, as other programs see them. This process serves them: everything that reads them is a program. */
const SIZE = 24 * MIB + 512
const MODIFIED = new Date('2026-03-04T05:06:07.000Z')

/** Three islands of data. */
const islands: readonly Extent[] = [
  { offset: 0, length: MIB, kind: 'data' },
  { offset: MIB, length: 10 * MIB, kind: 'zero' },
  { offset: 11 * MIB, length: 2 * MIB, kind: 'data' },
  { offset: 13 * MIB, length: SIZE - 512 - 13 * MIB, kind: 'zero' },
  { offset: SIZE - 512, length: 512, kind: 'data' },
]
const image = Buffer.alloc(SIZE)
for (const { offset, length, kind } of islands) {
  if (kind === 'data') for (let at = offset; at < offset + length; at++) image[at] = 1 + ((at * 31 + (at >> 9)) % 255)
}
const DIGEST = hash('sha256', image)
/** Its 3 MiB and 512 bytes, in blocks of 512. */
const BLOCKS = (3 * MIB + 512) / 512

const sha256 = async (path: string): Promise<string> => (await run('sha256sum', path)).split(' ')[0] ?? ''

let top = ''
beforeEach(() => {
  requireMounting()
  top = mkdtempSync(join(tmpdir(), 'vcb-fuse-'))
})
afterEach(async () => {
  if (top === '') return
  expect(await leftovers(top)).toEqual([])
  rmSync(top, { recursive: true })
  top = ''
})

type Shown = { readonly path: (name: string) => string; readonly images: PresentedImages }

async function shown(sources: Readonly<Record<string, BlockSource>>, test: (shown: Shown) => Promise<void>): Promise<void> {
  await using claims = await someClaims()
  const directory = join(top, 'disks')
  const files = Object.entries(sources).map(([name, source]): ImageToPresent => ({ name, source, modified: MODIFIED }))
  await using images = await presentImages(files, directory, presentDeps, claims)
  await test({ path: (name) => join(directory, name), images })
  await images[Symbol.asyncDispose]()
  expect(claims.held).toEqual([])
}

describe('raw files of a lease', () => {
  it('have size, time, blocks and bytes of their disks, and nobody can write to them', () =>
    shown({ 'one.raw': memorySource(image, islands), 'two.raw': zeroSource(64 * GIB) }, async ({ path, images }) => {
      const look = (name: string): Promise<string> => run('stat', '-c', '%s %b %B %Y %a %F', path(name))
      const time = MODIFIED.getTime() / 1000
      expect(await look('one.raw')).toBe(`${SIZE} ${BLOCKS} 512 ${time} 400 regular file\n`)
      expect(await look('two.raw')).toBe(`${64 * GIB} 0 512 ${time} 400 regular file\n`)
      expect(await run('ls', join(top, 'disks'))).toBe('one.raw\ntwo.raw\n')
      expect(await sha256(path('one.raw'))).toBe(DIGEST)
      await expect(shell('echo x >"$1"', path('one.raw'))).rejects.toThrow('Read-only')
      await expect(shell('echo x >"$1"', path('new'))).rejects.toThrow()
      expect(images.activity[0]).toMatchObject({ openHandles: 0, opens: 1, readTo: SIZE, readErrors: 0 })
    }))

  it('come out of GNU tar --sparse as they went in, and are small in it', () =>
    shown({ 'one.raw': memorySource(image, islands), 'hole.raw': zeroSource(GIB) }, async ({ path }) => {
      const tar = requirePeer('tar')
      const archive = join(top, 'a.tar')
      expect(await run(tar, '--create', '--sparse', '--file', archive, '--directory', join(top, 'disks'), '.')).toBe('')
      const [size] = (await run('stat', '-c', '%s', archive)).split('\n')
      expect(Number(size)).toBeLessThan(3.2 * MIB)
      mkdirSync(join(top, 'out'))
      await run(tar, '--extract', '--file', archive, '--directory', join(top, 'out'))
      expect(await sha256(join(top, 'out', 'one.raw'))).toBe(DIGEST)
      expect(await run('stat', '-c', '%s', join(top, 'out', 'hole.raw'))).toBe(`${GIB}\n`)
      // And by cp, which asks for the holes.
      await run('cp', '--sparse=auto', path('one.raw'), join(top, 'copy.raw'))
      expect(await sha256(join(top, 'copy.raw'))).toBe(DIGEST)
    }))

  it('say that they have no holes where counting takes too long', async () => {
    const endless: BlockSource = {
      ...zeroSource(8 * MIB),
      extents: async function* (range) {
        for (let offset = range.offset; offset < range.offset + range.length; offset += MIB) {
          await systemClock.sleep(400)
          yield { offset, length: MIB, kind: 'zero' }
        }
      },
    }
    await shown({ 'slow.raw': endless }, async ({ path }) => {
      expect(await run('stat', '-c', '%b', path('slow.raw'))).toBe(`${(8 * MIB) / 512}\n`)
    })
  })

  it('tell a damaged place as an input/output error, remember it, and go on', () => {
    const source = faulty(memorySource(image), ({ kind, range }) => {
      if (kind === 'read' && range.offset >= 12 * MIB && range.offset < 13 * MIB) throw new AgentError('INTEGRITY', 'a block is damaged')
    })
    return shown({ 'bad.raw': source }, async ({ path, images }) => {
      await expect(run('dd', `if=${path('bad.raw')}`, 'of=/dev/null', 'bs=1M', 'status=none')).rejects.toThrow('Input/output error')
      expect(images.activity[0]?.readError?.message).toBe('a block is damaged')
      await run('dd', `if=${path('bad.raw')}`, 'of=/dev/null', 'bs=1M', 'count=8', 'status=none')
    })
  })

  it('let a reader be killed in the middle of a read', () => {
    const begun = Promise.withResolvers<void>()
    const canceled = Promise.withResolvers<void>()
    const stuck: BlockSource = {
      ...zeroSource(8 * MIB),
      read: (_offset, _into, options) =>
        new Promise((_resolve, reject) => {
          options?.signal?.addEventListener('abort', () => {
            canceled.resolve()
            reject(options.signal?.reason)
          })
          begun.resolve()
        }),
    }
    return shown({ 'stuck.raw': stuck }, async ({ path, images }) => {
      // Past the page cache: whoever waits for that can be killed without our help.
      const reader = spawn('dd', [`if=${path('stuck.raw')}`, 'of=/dev/null', 'iflag=direct', 'bs=64k'], { stdio: 'ignore' })
      const ended = once(reader, 'exit')
      await begun.promise
      reader.kill('SIGKILL')
      await ended
      await canceled.promise
      expect(images.activity[0]?.readErrors).toBe(0)
    })
  })

  it('end although somebody keeps one open', () =>
    shown({ 'one.raw': memorySource(image, islands) }, async ({ path, images }) => {
      // In a shell that ends by itself, should this test fail.
      const open = shell(
        'exec 3<"$1"; echo; for ((n = 0; n < 120; n++)); do sleep 0.1; head -c 1 <&3 >/dev/null || exit 0; done; exit 1',
        path('one.raw'),
      )
      for (let tries = 0; images.activity[0]?.openHandles === 0 && tries < 100; tries++) await systemClock.sleep(20)
      expect(images.activity[0]?.openHandles).toBe(1)
      await images[Symbol.asyncDispose]()
      await open
    }))

  it('give errors, and keep nobody waiting, when the program that reads the device is killed', async () => {
    await using claims = await someClaims()
    const directory = join(top, 'disks')
    const before = new Set((await run('pgrep', '-P', String(process.pid), '-x', 'dd').catch(() => '')).split('\n'))
    await using images = await presentImages(
      [{ name: 'one.raw', source: memorySource(image), modified: MODIFIED }],
      directory,
      presentDeps,
      claims,
    )
    const pids = (await run('pgrep', '-P', String(process.pid), '-x', 'dd')).split('\n').filter((pid) => !before.has(pid))
    expect(pids).toHaveLength(1)
    await run('kill', '-9', pids[0] ?? '')
    for (let tries = 0; (await images.lost()) === undefined && tries < 100; tries++) await systemClock.sleep(20)
    expect(await images.lost()).toBe(`What is mounted on ${directory} is served no more.`)
    await expect(run('timeout', '10', 'cat', join(directory, 'one.raw'))).rejects.toThrow('Transport endpoint is not connected')
  })
})
