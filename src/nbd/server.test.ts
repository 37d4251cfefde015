import { existsSync, statSync } from 'node:fs'
import { connect } from 'node:net'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { closing, picture, servedHere, socketDirectory } from '../../test/nbd-world.ts'
import { AgentError, type BlockSource, isAgentError, MIB, silentLog, systemClock } from '../core/index.ts'
import { faulty, memorySource, zeroSource } from '../disk/index.ts'
import { createNbdDisk, createNbdSink, NbdConnection, serveNbd } from './index.ts'

const SIZE = 6 * MIB + 512
const open = (path: string, name = ''): Promise<NbdConnection> => NbdConnection.open({ path }, name, { clock: systemClock })

/** A source whose reads wait until they are let go, or canceled. */
function stuck(
  size: number,
): BlockSource & { readonly waiting: () => number; readonly canceled: () => number; readonly letGo: () => void } {
  const { promise, resolve } = Promise.withResolvers<void>()
  let [waiting, canceled] = [0, 0]
  return {
    ...zeroSource(size),
    waiting: () => waiting,
    canceled: () => canceled,
    letGo: resolve,
    read: async (_offset, into, options) => {
      waiting++
      const stop = new Promise<never>((_resolve, reject) => {
        options?.signal?.addEventListener('abort', () => {
          canceled++
          reject(options.signal?.reason)
        })
      })
      await Promise.race([promise, stop])
      into.fill(7)
    },
  }
}

const until = async (what: () => boolean): Promise<void> => {
  for (let tries = 0; !what(); tries++) {
    if (tries > 500) throw new Error('it never came to be')
    await systemClock.sleep(10)
  }
}

describe('the NBD server', () => {
  it('offers several exports by name, and refuses others', async () => {
    const [one, two] = [picture(SIZE), picture(SIZE).reverse()]
    await using server = await servedHere([
      { name: 'one', source: memorySource(one) },
      { name: 'zwei ü', description: 'the second', source: memorySource(two) },
    ])
    for (const [name, image] of [
      ['one', one],
      ['zwei ü', two],
    ] as const) {
      await using disk = createNbdDisk(await open(server.path, name))
      const into = Buffer.alloc(SIZE)
      await disk.read(0, into)
      expect(into.equals(image)).toBe(true)
    }
    await expect(open(server.path, 'three')).rejects.toSatisfy((error) => isAgentError(error, 'NOT_FOUND'))
    await expect(open(server.path)).rejects.toSatisfy((error) => isAgentError(error, 'NOT_FOUND'))
    expect(server.activity.map(({ name, readTo, readBytes }) => ({ name, readTo, readBytes }))).toEqual([
      { name: 'one', readTo: SIZE, readBytes: SIZE },
      { name: 'zwei ü', readTo: SIZE, readBytes: SIZE },
    ])
  })

  it('is read-only, and its socket is its user’s alone', async () => {
    await using server = await servedHere([{ name: 'one', source: memorySource(picture(SIZE)) }])
    expect(statSync(server.path).mode & 0o777).toBe(0o600)
    await using connection = await open(server.path)
    expect(connection.info).toMatchObject({ readOnly: true, canMultiConn: true, structured: true, allocation: 1 })
    expect(() => createNbdSink(connection)).toThrow(expect.toSatisfy((error: unknown) => isAgentError(error, 'CONFIG')))
    await expect(connection.write(0, Buffer.alloc(70_000))).rejects.toThrow('not permitted')
    await expect(connection.writeZeroes({ offset: 0, length: 512 })).rejects.toThrow('not permitted')
    await expect(connection.trim({ offset: 0, length: 512 })).rejects.toThrow('not permitted')
    await connection.flush()
    // The connection is still in step.
    const into = Buffer.alloc(5000)
    await connection.read(0, into)
    expect(into.equals(picture(SIZE).subarray(0, 5000))).toBe(true)
  })

  it('answers what lies outside with an error and goes on', async () => {
    await using server = await servedHere([{ name: 'one', source: memorySource(picture(SIZE)) }])
    await using connection = await open(server.path)
    await expect(connection.read(SIZE - 1, Buffer.alloc(2))).rejects.toThrow(`not inside a disk of ${SIZE} bytes`)
    await expect(connection.blockStatus({ offset: SIZE, length: 1 })).rejects.toThrow('not inside')
    await connection.read(SIZE - 1, Buffer.alloc(1))
  })

  it('tells a failed read as EIO with the reason, remembers the first, and goes on', async () => {
    const source = faulty(memorySource(picture(SIZE)), ({ kind, range }) => {
      if (kind === 'read' && range.offset >= 3 * MIB) throw new AgentError('INTEGRITY', `block ${range.offset / MIB} is damaged`)
    })
    await using server = await servedHere([{ name: 'one', source }])
    await using disk = createNbdDisk(await open(server.path))
    await expect(disk.read(0, Buffer.alloc(SIZE))).rejects.toThrow('block 3 is damaged')
    await expect(disk.read(4 * MIB, Buffer.alloc(1))).rejects.toThrow('block 4 is damaged')
    await disk.read(0, Buffer.alloc(MIB))
    const [activity] = server.activity
    expect(activity?.readErrors).toBeGreaterThanOrEqual(2)
    expect(activity?.readError?.message).toMatch(/^block [34] is damaged$/)
  })

  it('cancels the reads of a client that goes, and calls that no read error', async () => {
    const source = stuck(SIZE)
    await using server = await servedHere([{ name: 'one', source }])
    const connection = await open(server.path)
    const reads = Array.from({ length: 40 }, (_, index) => connection.read(index * 512, Buffer.alloc(512)).catch(() => 'ended'))
    await until(() => source.waiting() === 16)
    await connection[Symbol.asyncDispose]()
    expect(await Promise.all(reads)).toEqual(reads.map(() => 'ended'))
    await until(() => source.canceled() === 16)
    await until(() => server.activity[0]?.connections === 0)
    // No more than sixteen were ever begun.
    expect(source.waiting()).toBe(16)
    expect(server.activity[0]?.readErrors).toBe(0)
  })

  it('closes in the middle of reads within its time, and removes the socket', async () => {
    const source = stuck(SIZE)
    const server = await servedHere([{ name: 'one', source }])
    const connection = await open(server.path)
    const read = connection.read(0, Buffer.alloc(512)).catch((error: unknown) => isAgentError(error, 'UNAVAILABLE'))
    await until(() => source.waiting() === 1)
    const since = systemClock.monotonicMs()
    await server[Symbol.asyncDispose]()
    expect(systemClock.monotonicMs() - since).toBeLessThan(15_000)
    expect(await read).toBe(true)
    expect(existsSync(server.path)).toBe(false)
    await connection[Symbol.asyncDispose]()
  })

  it('lets reads under way end when it closes', async () => {
    const source = stuck(SIZE)
    const server = await servedHere([{ name: 'one', source }])
    const connection = await open(server.path)
    const into = Buffer.alloc(512)
    const read = connection.read(0, into)
    await until(() => source.waiting() === 1)
    const closed = server[Symbol.asyncDispose]()
    source.letGo()
    await read
    expect(into.every((byte) => byte === 7)).toBe(true)
    await closed
    await connection[Symbol.asyncDispose]()
  })

  it('keeps no more in memory than it promises for a client that takes nothing', async () => {
    let begun = 0
    const source = {
      ...zeroSource(64 * MIB),
      read: async (_offset: number, into: Uint8Array) => void ((begun += into.length), into.fill(9)),
    }
    await using server = await servedHere([{ name: 'one', source }])
    // A client that speaks by hand and never reads.
    const socket = connect(server.path)
    socket.pause()
    const go = Buffer.from('0000000349484156454f50540000000700000006000000000000', 'hex')
    const request = Buffer.from('25609513000000000000000000000001000000000000000002000000', 'hex')
    socket.write(Buffer.concat([go, ...Array.from({ length: 50 }, () => request)]))
    await until(() => begun > 0)
    await systemClock.sleep(300)
    expect(begun).toBeLessThanOrEqual(8 * MIB)
    socket.destroy()
  })

  it('refuses a path that is too long or taken, and a name twice', async () => {
    using directory = socketDirectory()
    const options = { clock: systemClock, log: silentLog }
    const exports = [{ name: 'one', source: zeroSource(512) }]
    const long = join(directory.path, 'x'.repeat(100))
    await expect(serveNbd({ path: long, exports, ...options })).rejects.toSatisfy((error) => isAgentError(error, 'CONFIG'))
    const path = join(directory.path, 's')
    await expect(serveNbd({ path, exports: [...exports, ...exports], ...options })).rejects.toSatisfy((error) =>
      isAgentError(error, 'USAGE'),
    )
    await using first = await serveNbd({ path, exports, ...options })
    expect(first.path).toBe(path)
    await expect(serveNbd({ path, exports, ...options })).rejects.toSatisfy((error) => isAgentError(error, 'CONFLICT'))
    await expect(serveNbd({ path: join(directory.path, 'no', 's'), exports, ...options })).rejects.toBeInstanceOf(AgentError)
  })
})

describe('the NBD client', () => {
  it('leaves the caller’s buffer alone after an abort, and goes on', async () => {
    const source = stuck(SIZE)
    await using server = await servedHere([{ name: 'one', source }])
    await using disk = closing(createNbdDisk(await open(server.path)), { [Symbol.asyncDispose]: async () => undefined })
    const stop = new AbortController()
    const into = Buffer.alloc(512, 1)
    const read = disk.read(0, into, { signal: stop.signal })
    await until(() => source.waiting() === 1)
    stop.abort(new AgentError('CANCELED', 'enough'))
    await expect(read).rejects.toThrow('enough')
    source.letGo()
    const other = Buffer.alloc(512)
    await disk.read(0, other)
    expect(other.every((byte) => byte === 7)).toBe(true)
    expect(into.every((byte) => byte === 1)).toBe(true)
  })

  it('gives up on a server that says nothing', async () => {
    const source = stuck(SIZE)
    await using server = await servedHere([{ name: 'one', source }])
    await using connection = await NbdConnection.open({ path: server.path }, '', { clock: systemClock, silenceMs: 500 })
    await expect(connection.read(0, Buffer.alloc(512))).rejects.toThrow('was silent for')
    await expect(connection.read(0, Buffer.alloc(512))).rejects.toThrow('was silent for')
  })

  it('says who does not answer', async () => {
    using directory = socketDirectory()
    await expect(open(join(directory.path, 'none'))).rejects.toSatisfy((error) => isAgentError(error, 'UNAVAILABLE'))
  })
})
