import { connect, createServer, type Socket } from 'node:net'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { isAgentError, MIB, systemClock } from '../../src/core/index.ts'
import { memorySource } from '../../src/disk/index.ts'
import { createNbdDisk, NbdConnection, type NbdServer } from '../../src/nbd/index.ts'
import { picture, servedHere, socketDirectory } from '../nbd-world.ts'
import { dice, ended, junk, mutated } from './mutate.ts'

const SIZE = 2 * MIB + 512
/** Header of a reply's chunk and the offset behind it: beyond it is data, whose damage nobody can see. */
const HEAD = 28
const CASES = 600
const PATIENCE_MS = 25

type Message = { readonly from: 'C' | 'S'; bytes: Buffer }

const image = picture(SIZE)
const READS = [
  [0, 512],
  [4096, 70_000],
  [MIB - 7, 1000],
  [SIZE - 512, 512],
] as const

/** Reads the export over `path`; how many reads came right and wrong, and what ended it. */
async function readAll(path: string): Promise<{ right: number; wrong: number; code: string }> {
  let [right, wrong] = [0, 0]
  try {
    await using disk = createNbdDisk(await NbdConnection.open({ path }, 'one', { clock: systemClock }))
    for (const [offset, length] of READS) {
      const into = Buffer.alloc(length)
      await disk.read(offset, into)
      if (into.equals(image.subarray(offset, offset + length))) right++
      else wrong++
    }
    for await (const extent of disk.extents({ offset: 0, length: disk.size })) expect(extent.length).toBeGreaterThan(0)
    return { right, wrong, code: 'no error' }
  } catch (error) {
    if (!isAgentError(error)) throw error
    return { right, wrong, code: error.code }
  }
}

/** A socket that hands each connection to `serve`. */
async function listening(serve: (socket: Socket) => void): Promise<AsyncDisposable & { readonly path: string }> {
  const directory = socketDirectory()
  const path = join(directory.path, 'f')
  const server = createServer({ allowHalfOpen: false }, (socket) => {
    socket.on('error', () => undefined)
    serve(socket)
  })
  await new Promise<void>((resolve) => server.listen(path, () => resolve()))
  return {
    path,
    [Symbol.asyncDispose]: async () => {
      await new Promise<void>((resolve) => server.close(() => resolve()))
      directory[Symbol.dispose]()
    },
  }
}

describe('NBD, whatever the other side sends', () => {
  let server: NbdServer
  /** What client and server say to each other when nothing is wrong. */
  const talk: Message[] = []

  beforeAll(async () => {
    server = await servedHere([{ name: 'one', source: memorySource(image) }])
    const note = (from: 'C' | 'S', bytes: Buffer): void => {
      const last = talk.at(-1)
      if (last?.from === from) last.bytes = Buffer.concat([last.bytes, bytes])
      else talk.push({ from, bytes })
    }
    await using proxy = await listening((socket) => {
      const onward = connect(server.path).on('error', () => undefined)
      socket.on('data', (bytes: Buffer) => {
        note('C', bytes)
        onward.write(bytes)
      })
      onward.on('data', (bytes: Buffer) => {
        note('S', bytes)
        socket.write(bytes)
      })
      socket.on('close', () => onward.destroy())
      onward.on('close', () => socket.destroy())
    })
    expect(await readAll(proxy.path)).toEqual({ right: READS.length, wrong: 0, code: 'no error' })
    expect(talk.length).toBeGreaterThan(10)
  })
  afterAll(() => server[Symbol.asyncDispose]())

  it('the client gets the right bytes or an error, and nothing hangs', async () => {
    let next: readonly Message[] = []
    await using stranger = await listening((socket) => {
      const messages = next
      let [at, heard] = [0, 0]
      // A client that waits where it should speak is hung up on.
      const hangUp = setTimeout(() => socket.end(), PATIENCE_MS)
      socket.on('close', () => clearTimeout(hangUp))
      const speak = (): void => {
        hangUp.refresh()
        for (; at < messages.length; at++) {
          const { from, bytes } = messages[at] ?? { from: 'C', bytes: Buffer.alloc(0) }
          if (from === 'S') socket.write(bytes)
          else if (heard < bytes.length) return
          else heard -= bytes.length
        }
        socket.end()
      }
      socket.on('data', (bytes: Buffer) => {
        heard += bytes.length
        speak()
      })
      speak()
    })
    const codes = new Map<string, number>()
    let right = 0
    const before = process.memoryUsage().arrayBuffers
    const spots = talk.flatMap(({ from }, index) => (from === 'S' ? [index] : []))
    for (let seed = 0; seed < CASES; seed++) {
      const roll = dice(seed)
      const spot = roll.one(spots)
      next = talk.map(({ from, bytes }, index) => ({ from, bytes: index === spot ? mutated(bytes, HEAD, roll) : bytes }))
      const result = await ended(readAll(stranger.path), `case ${seed}`)
      expect([seed, result.wrong]).toEqual([seed, 0])
      right += result.right
      codes.set(result.code, (codes.get(result.code) ?? 0) + 1)
    }
    expect(
      [...codes.keys()].filter(
        (code) => !['no error', 'INTEGRITY', 'UNAVAILABLE', 'NOT_FOUND', 'USAGE', 'CAPACITY', 'CONFIG'].includes(code),
      ),
    ).toEqual([])
    expect(codes.get('INTEGRITY')).toBeGreaterThan(CASES / 10)
    expect(right).toBeGreaterThan(CASES)
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(128 * MIB)
  })

  it('the server answers or hangs up, and serves the next client', async () => {
    const asked = talk.flatMap(({ from }, index) => (from === 'C' ? [index] : []))
    for (let seed = 0; seed < CASES; seed++) {
      const roll = dice(seed)
      const spot = roll.one(asked)
      const socket = connect(server.path).on('error', () => undefined)
      const closed = new Promise((resolve) => socket.once('close', resolve))
      socket.resume()
      for (const index of asked) {
        const bytes = talk[index]?.bytes ?? Buffer.alloc(0)
        socket.write(index === spot ? mutated(bytes, 44, roll) : bytes)
      }
      if (roll.below(3) === 0) socket.write(junk(roll))
      socket.end()
      await ended(closed, `case ${seed}`)
    }
    expect(await readAll(server.path)).toEqual({ right: READS.length, wrong: 0, code: 'no error' })
    for (let tries = 0; tries < 100 && (server.activity[0]?.connections ?? 0) > 0; tries++) await systemClock.sleep(20)
    expect(server.activity[0]).toMatchObject({ connections: 0, readErrors: 0 })
  })
})
