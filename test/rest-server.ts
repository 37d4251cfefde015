import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { systemClock } from '../src/core/index.ts'
import { freePort } from './free-port.ts'

/** `rclone serve restic` on a loopback port, over a directory of its own. */
export type RestServer = AsyncDisposable & {
  readonly directory: string
  readonly port: number
  /** What it said so far. */
  said(): string
  /** Kills it with -9 and starts another one on the same port and directory. */
  restart(): Promise<void>
}

/** `args` besides: `--append-only`, `--user`, `--cert`. */
export async function startRestServer(rclone: string, args: readonly string[] = []): Promise<RestServer> {
  await using stack = new AsyncDisposableStack()
  const directory = await mkdtemp(join(tmpdir(), 'vcb-rest-'))
  stack.defer(() => rm(directory, { recursive: true, force: true }))
  const port = await freePort()
  let said = ''
  let server: ChildProcess | undefined
  const stop = async (signal: NodeJS.Signals): Promise<void> => {
    if (server === undefined || server.exitCode !== null || server.signalCode !== null) return
    const ended = once(server, 'exit')
    server.kill(signal)
    await ended
  }
  const start = async (): Promise<void> => {
    const from = said.length
    const words = [
      'serve',
      'restic',
      '--addr',
      `127.0.0.1:${port}`,
      '--config',
      join(directory, 'rclone.conf'),
      '-v',
      ...args,
      join(directory, 'served'),
    ]
    const begun = spawn(rclone, words, { stdio: ['ignore', 'ignore', 'pipe'], env: { PATH: process.env['PATH'], HOME: directory } })
    server = begun
    begun.stderr.on('data', (piece: Buffer) => (said += piece.toString()))
    for (let turn = 0; !said.slice(from).includes('Serving restic REST API'); turn++) {
      if (turn > 500 || begun.exitCode !== null) throw new Error(`rclone did not start: ${said}`)
      await systemClock.sleep(20)
    }
  }
  stack.defer(() => stop('SIGTERM'))
  await start()
  const kept = stack.move()
  return {
    directory,
    port,
    said: () => said,
    restart: async () => {
      await stop('SIGKILL')
      await start()
    },
    [Symbol.asyncDispose]: () => kept.disposeAsync(),
  }
}
