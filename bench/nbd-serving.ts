import { spawn } from 'node:child_process'
import { existsSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { type Cost, cpuOf, measure, peakOf } from './measure.ts'
import { indexCache, type Places } from './contestants.ts'

/** A disk that is served over NBD. Disposal ends the server and waits for its end. */
export type NbdServer = AsyncDisposable & {
  readonly uri: string
  /** The socket, and the export there. */
  readonly path: string
  readonly name: string
  /** Of the disk, bytes. */
  readonly size: number
  /** From the start of the command until it could be connected to. */
  readonly startSeconds: number
  /** What the command and the server took until now. */
  cost(): Cost
  /** The cost of a reader, with what the server took meanwhile and the most memory it ever had. */
  reading(read: () => Promise<Cost>): Promise<Cost>
}

/** Who takes part: a program that serves the disk. */
export interface NbdServing {
  readonly name: string
  start(): Promise<NbdServer>
}

type Served = Pick<NbdServer, 'uri' | 'path' | 'name' | 'size' | 'startSeconds'> & {
  readonly pid: number
  /** CPU seconds of what ended before the server served. */
  readonly spent: number
  readonly end: () => Promise<unknown>
}

const serverOf = ({ pid, spent, end, uri, path, name, size, startSeconds }: Served): NbdServer => ({
  uri,
  path,
  name,
  size,
  startSeconds,
  cost: () => ({ wallSeconds: startSeconds, cpuSeconds: spent + cpuOf(pid), rssBytes: peakOf(pid) }),
  reading: async (read) => {
    const before = cpuOf(pid)
    const { wallSeconds, cpuSeconds } = await read()
    return { wallSeconds, cpuSeconds: cpuSeconds + cpuOf(pid) - before, rssBytes: peakOf(pid) }
  },
  [Symbol.asyncDispose]: async () => {
    await end()
  },
})

/** `vcb mount` of a point, as a user starts it. */
export class VcbMount implements NbdServing {
  readonly name = 'vcb'
  readonly #of: Places & { readonly directory: string; readonly repository: string; readonly point: string }

  constructor(of: Places & { readonly directory: string; readonly repository: string; readonly point: string }) {
    this.#of = of
  }

  async start(): Promise<NbdServer> {
    const { repository, passwordFile, point } = this.#of
    const directory = join(this.#of.directory, 'vcb')
    const flags = ['--repo', repository, '--repo-password-file', passwordFile, '--json']
    const { output, wallSeconds, cpuSeconds } = await this.#vcb('mount', point, directory, ...flags)
    const mounted = JSON.parse(output) as {
      readonly disks: readonly { readonly label: string; readonly bytes: number; readonly nbdUri: string }[]
    }
    const [disk] = mounted.disks
    if (disk === undefined) throw new Error(`the point ${point} shows no disk`)
    return serverOf({
      pid: holderOf(directory),
      spent: cpuSeconds,
      uri: disk.nbdUri,
      path: join(directory, '.vcb', 'nbd.sock'),
      name: disk.label,
      size: disk.bytes,
      startSeconds: wallSeconds,
      end: () => this.#vcb('unmount', directory),
    })
  }

  /** What a process that has the repository open takes to the first byte: the point, its disk, a server, a connection. */
  async openedOnly(flat: string): Promise<Cost> {
    const { repository, passwordFile, point, directory } = this.#of
    const script = join(import.meta.dirname, 'serve-point.ts')
    const args = [repository, passwordFile, indexCache(this.#of), point, join(directory, 'opened'), flat]
    const { output, ...cost } = await measure(process.execPath, [script, ...args])
    return { ...cost, wallSeconds: Number(output) }
  }

  #vcb(...words: readonly string[]): Promise<Cost & { readonly output: string }> {
    const command = join(import.meta.dirname, '..', 'scripts', 'vcb.cjs')
    return measure(process.execPath, [command, ...words, '--state-dir', join(this.#of.work, 'state')])
  }
}

/** The process that holds the lease of a directory. */
function holderOf(directory: string): number {
  for (const pid of readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
    try {
      const words = readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0')
      if (words.includes('--foreground') && words.includes(directory)) return Number(pid)
    } catch {
      // It has ended meanwhile.
    }
  }
  throw new Error(`nobody holds ${directory}`)
}

/** `nbdkit file` over a raw image. */
export class NbdkitFile implements NbdServing {
  readonly name = 'nbdkit file'
  readonly #of: { readonly directory: string; readonly raw: string }

  constructor(of: { readonly directory: string; readonly raw: string }) {
    this.#of = of
  }

  async start(): Promise<NbdServer> {
    const path = join(this.#of.directory, 'nbdkit.sock')
    rmSync(path, { force: true })
    const began = performance.now()
    const child = spawn('nbdkit', ['--foreground', '--exit-with-parent', '--unix', path, 'file', this.#of.raw], { stdio: 'ignore' })
    const ended = new Promise((resolve, reject) => child.once('error', reject).once('close', resolve))
    while (!existsSync(path)) await Promise.race([sleep(1), ended])
    return serverOf({
      pid: child.pid ?? 0,
      spent: 0,
      uri: `nbd+unix:///?socket=${path}`,
      path,
      name: '',
      size: statSync(this.#of.raw).size,
      startSeconds: (performance.now() - began) / 1000,
      end: async () => {
        child.kill('SIGTERM')
        await ended
      },
    })
  }
}
