import { spawn } from 'node:child_process'
import { mkdir } from 'node:fs/promises'
import { once } from 'node:events'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { MIB } from '../../src/core/index.ts'
import { expectNothingLeft, requireMounting, run } from '../mount-world.ts'
import { requirePeer } from '../peer.ts'
import type { Json, LabSession } from './lab-session.ts'
import { newTarget, openGuestFiles } from './mount-world.ts'

/* A lease of 24 hours: the whole holder lives through them in a minute, while others read all the time. */
const HOURS = 24
/** Looked at so many times an hour, each time after reading in every way. */
const LOOKS = 5

let session: LabSession
beforeAll(async () => {
  session = await openGuestFiles()
})
afterAll(() => session[Symbol.asyncDispose]())

type Look = { readonly heapUsed: number; readonly external: number; readonly rss: number; readonly descriptors: number }

test('a holder of 24 hours takes no more memory or descriptors at their end than at their beginning', async () => {
  requireMounting()
  const nbdcopy = requirePeer('nbdcopy')
  const directory = await newTarget(session)
  const script = join(import.meta.dirname, 'soak-holder.ts')
  const holder = spawn(process.execPath, ['--expose-gc', '--no-warnings', script, 'linux', directory], {
    env: { ...process.env, ...session.environment },
    stdio: ['pipe', 'pipe', 'inherit'],
  })
  const exited = once(holder, 'exit')
  const answers = createInterface({ input: holder.stdout })[Symbol.asyncIterator]()
  const answer = async (): Promise<Json> => JSON.parse((await answers.next()).value ?? 'null')
  const looks: Look[] = []
  try {
    const mounted = await answer()
    const [disk] = mounted.disks
    const scratch = join(session.directory, 'product')
    await mkdir(scratch)
    for (let look = 0; look < HOURS * LOOKS - 1; look++) {
      // Past the page cache, so that the holder is asked.
      await run('dd', `if=${disk.file}`, 'of=/dev/null', 'bs=256k', 'count=64', 'iflag=direct', 'status=none')
      if (look % LOOKS === 0) {
        await run(nbdcopy, disk.nbdUri, 'null:')
        await run('bash', '-euc', 'find "$1" -type f -exec cat {} + >/dev/null', 'bash', `${directory}/digits/1`)
        // A product that mounts the image itself, and unmounts it again.
        await run('mount', '-t', 'ext4', '-o', `ro,noload,loop,offset=${MIB}`, disk.file, scratch)
        expect(await run('cat', join(scratch, 'etc', 'hostname'))).toBe('lab-guest\n')
        await run('umount', scratch)
      }
      holder.stdin.write(`${3600 / LOOKS}\n`)
      looks.push(await answer())
    }
    holder.stdin.write('3600\n')
    const over = await answer()
    const last = 'end' in over ? over : await answer()
    expect(last.end).toMatchObject({ by: 'deadline' })
    const uses = last.facts.disks
    expect(uses.every(({ readErrors }: Json) => readErrors === 0)).toBe(true)
    // The raw file every time, the whole disk by NBD and the image that was mounted every hour.
    expect(uses[0].readBytes).toBeGreaterThan(HOURS * LOOKS * 16 * MIB)
    expect(await exited).toEqual([0, null])
  } finally {
    holder.kill('SIGKILL')
    await exited
    await session.vcb('recover')
  }
  const least = (of: keyof Look, from: number, to: number): number => Math.min(...looks.slice(from, to).map((each) => each[of]))
  // Buffers and compiled code are all there after a third of the time.
  const warm = Math.floor(looks.length / 3)
  const grown = (of: keyof Look): number => least(of, -10, looks.length) - least(of, warm, warm + 10)
  const figures = (['heapUsed', 'external', 'rss', 'descriptors'] as const).map((of) => [of, least(of, warm, warm + 10), grown(of)])
  process.stderr.write(`24 h of a lease, ${looks.length} looks: ${JSON.stringify(figures)}\n`)
  expect(grown('heapUsed'), JSON.stringify(figures)).toBeLessThan(MIB)
  expect(grown('external'), JSON.stringify(figures)).toBeLessThan(4 * MIB)
  expect(grown('rss'), JSON.stringify(figures)).toBeLessThan(16 * MIB)
  expect(grown('descriptors'), JSON.stringify(figures)).toBeLessThanOrEqual(0)
  await expectNothingLeft(session.directory)
  await session.expectClean()
}, 120_000)
