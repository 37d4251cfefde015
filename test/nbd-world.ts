import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type BlockSource, silentLog, systemClock } from '../src/core/index.ts'
import { type NbdExport, type NbdServer, serveNbd } from '../src/nbd/index.ts'

/** A private directory for a socket, gone when it is disposed. */
export function socketDirectory(): Disposable & { readonly path: string } {
  const path = mkdtempSync(join(tmpdir(), 'vcb-nbd-'))
  return { path, [Symbol.dispose]: () => rmSync(path, { recursive: true }) }
}

/** Our server on a socket of its own. */
export async function servedHere(exports: readonly NbdExport[]): Promise<NbdServer> {
  const directory = socketDirectory()
  const server = await serveNbd({ path: join(directory.path, 's'), exports, clock: systemClock, log: silentLog })
  return {
    path: server.path,
    get activity() {
      return server.activity
    },
    [Symbol.asyncDispose]: async () => {
      await server[Symbol.asyncDispose]()
      directory[Symbol.dispose]()
    },
  }
}

/** A foreign server as a child on a socket of its own, listening when it resolves; `arguments_` get the socket's path. */
export async function foreignServer(
  program: string,
  arguments_: (socket: string) => readonly string[],
): Promise<AsyncDisposable & { readonly path: string }> {
  const directory = socketDirectory()
  const path = join(directory.path, 's')
  const child = spawn(program, arguments_(path), { stdio: ['ignore', 'ignore', 'pipe'] })
  let said = ''
  child.stderr.on('data', (chunk: Buffer) => (said += chunk.toString()))
  const exited = once(child, 'exit')
  for (let tries = 0; !(await listens(path)); tries++) {
    if (child.exitCode !== null || tries > 500) throw new Error(`${program} does not listen: ${said}`)
    await systemClock.sleep(20)
  }
  return {
    path,
    [Symbol.asyncDispose]: async () => {
      child.kill('SIGTERM')
      await exited
      directory[Symbol.dispose]()
    },
  }
}

/** The socket's file is there a moment before anybody listens on it. */
const listens = (path: string): Promise<boolean> =>
  new Promise((resolve) => {
    const socket = connect(path)
    socket.on('connect', () => resolve(socket.destroy() !== undefined))
    socket.on('error', () => resolve(false))
  })

/** The source, with something else closed after it. */
export const closing = (source: BlockSource, after: AsyncDisposable): BlockSource => ({
  size: source.size,
  read: (offset, into, options) => source.read(offset, into, options),
  extents: (range, options) => source.extents(range, options),
  [Symbol.asyncDispose]: async () => {
    await source[Symbol.asyncDispose]()
    await after[Symbol.asyncDispose]()
  },
})

/** Data, zeros and more data, not aligned to anything; long runs of zeros too. */
export function picture(size: number): Buffer {
  const image = Buffer.alloc(size)
  for (const [offset, length] of [
    [0, 5000],
    [130_000, 9],
    [1_048_000, 300_000],
    [3_000_000, 700_000],
    [size - 700, 700],
  ] as const) {
    for (let at = offset; at < Math.min(size, offset + length); at++) image[at] = 1 + ((at * 31 + (at >> 9)) % 255)
  }
  return image
}
