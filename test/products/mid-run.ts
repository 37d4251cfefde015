import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { until } from '../flow/mount-world.ts'
import { quoted } from './emulated-caller.ts'

/** Holds a job between pre-backup and the product's first read, so that reading can be made slow in between. */
export class Gate {
  readonly #path: string

  constructor(directory: string, name: string) {
    this.#path = join(directory, `gate-${name}`)
  }

  /** `program` and then this gate, as one program: what a product is told to call before it reads. */
  behind(program: string): string {
    writeFileSync(this.#path, `#!/bin/sh\n${quoted(program)} "$@" || exit $?\n${this.#wait()}`, { mode: 0o755 })
    return this.#path
  }

  /** This gate and then `command` in the same process. */
  before(...command: readonly string[]): readonly string[] {
    return ['sh', '-c', `${this.#wait()}exec "$@"`, 'gate', ...command]
  }

  async reached(): Promise<void> {
    await until(`the gate ${this.#path}`, async () => existsSync(`${this.#path}.reached`))
  }

  open(): void {
    writeFileSync(`${this.#path}.open`, '')
  }

  #wait(): string {
    return `: >${quoted(`${this.#path}.reached`)}\nuntil [ -e ${quoted(`${this.#path}.open`)} ]; do sleep 0.05; done\n`
  }
}

/** One job as a scheduler or a terminal starts it: a process group of its own. */
export class Job {
  readonly #child: ChildProcess
  readonly ended: Promise<number | string>
  #said = ''

  constructor(environment: NodeJS.ProcessEnv, program: string, ...argv: readonly string[]) {
    this.#child = spawn(program, argv, { env: environment, stdio: ['ignore', 'ignore', 'pipe'], detached: true })
    this.#child.stderr?.on('data', (chunk: Buffer) => (this.#said += chunk.toString()))
    this.ended = once(this.#child, 'exit').then(([code, signal]) => (code ?? signal) as number | string)
  }

  /** What it said on standard error. */
  get said(): string {
    return this.#said
  }

  get #pid(): number {
    if (this.#child.pid === undefined) throw new Error('the job was not started')
    return this.#child.pid
  }

  /** The process that was started: the wrapper, or the product. */
  signal(signal: NodeJS.Signals): void {
    process.kill(this.#pid, signal)
  }

  /** All of the job, as a terminal does with Ctrl-C, or the end of a machine's service. */
  signalAll(signal: NodeJS.Signals): void {
    process.kill(-this.#pid, signal)
  }

  /** The processes of the job with this name, which read what is shown. */
  signalReader(name: string, signal: NodeJS.Signals): void {
    const readers = readdirSync('/proc').filter((entry) => {
      if (!/^\d+$/.test(entry)) return false
      try {
        const [, comm, rest = ''] = /^\d+ \((.*)\) (.*)$/s.exec(readFileSync(`/proc/${entry}/stat`, 'utf8')) ?? []
        return comm === name && Number(rest.split(' ')[2]) === this.#pid
      } catch (error) {
        if (error instanceof Error && 'code' in error && (error.code === 'ENOENT' || error.code === 'ESRCH')) return false
        throw error
      }
    })
    if (readers.length === 0) throw new Error(`no process ${name} in the job ${this.#pid}: ${this.#said}`)
    for (const each of readers) process.kill(Number(each), signal)
  }
}
