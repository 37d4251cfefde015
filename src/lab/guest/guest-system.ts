import type { Clock } from '../../core/index.ts'
import { parseCommandLine } from './command-line.ts'

/** A program that lies in the guest: what it writes, how long it runs and how it ends. */
export type GuestProgram = {
  readonly path: string
  /** Only when its first argument is this one; the first program that fits is run. */
  readonly when?: string | undefined
  readonly exitCode: number
  readonly ms: number
  readonly stdout: string
  readonly stderr: string
}

export type GuestAccount = { readonly user: string; readonly password: string }

/** What happened in a guest, in order: that is how a test sees that a script ran before the freeze and another after the thaw. */
export type GuestEvent = {
  readonly what: 'started' | 'ended' | 'terminated' | 'frozen' | 'thawed'
  /** Of a program: its path and arguments. */
  readonly command?: readonly string[] | undefined
  readonly exitCode?: number | undefined
  /** Of a freeze: what VSS was told. */
  readonly vss?: readonly string[] | undefined
  /** Last record of the workload at that moment. */
  readonly lastRecord: number
  readonly time: string
}

export type GuestProcess = {
  readonly pid: number
  readonly name: string
  readonly owner: string
  readonly cmdLine: string
  readonly startedAt: Date
  endedAt: Date | undefined
  endedMs: number | undefined
  exitCode: number | undefined
}

export type GuestSystemOptions = {
  readonly clock: Clock
  readonly family: 'linux' | 'windows'
  readonly accounts: readonly GuestAccount[]
  readonly programs: readonly GuestProgram[]
  readonly lastRecord: () => number
}

/** VMware Tools list an ended process for so long, ms. */
const LISTED_MS = 5 * 60_000
/** Of everything that can be written into a guest. Bytes */
const FILES_BYTES = 16 * 1024 * 1024
const EVENTS = 10_000
/** What a shell says of a command that is not there, and of one ended by SIGTERM. */
const NOT_THERE = { linux: 127, windows: 1 } as const
const TERMINATED = { linux: 143, windows: 1 } as const

/** Programs and files of one guest, as guest operations reach them. In memory: a lab that starts again has rebooted its guests. */
export class GuestSystem implements Disposable {
  readonly family: 'linux' | 'windows'
  readonly #options: GuestSystemOptions
  readonly #processes = new Map<number, { readonly process: GuestProcess; readonly end: AbortController }>()
  readonly #files = new Map<string, Buffer>()
  readonly #events: GuestEvent[] = []
  #pid = 1000

  constructor(options: GuestSystemOptions) {
    this.#options = options
    this.family = options.family
  }

  get history(): readonly GuestEvent[] {
    return [...this.#events]
  }

  accepts(user: string, password: string): boolean {
    return this.#options.accounts.some((account) => account.user === user && account.password === password)
  }

  /** What VSS is told at the next freeze. */
  vss: readonly string[] | undefined

  note(what: GuestEvent['what'], of: Pick<GuestEvent, 'command' | 'exitCode' | 'vss'> = {}): void {
    const { clock, lastRecord } = this.#options
    if (this.#events.length < EVENTS) this.#events.push({ what, ...of, lastRecord: lastRecord(), time: clock.now().toISOString() })
  }

  /** Starts a program; undefined when there is none at this path. The shell (cmd.exe, or Linux's own) makes the files of redirections first. */
  start(owner: string, path: string, args: string): number | undefined {
    const shell = /^(?:\/\S+\s+)*\/c\s+"(.*)"\s*$/is.exec(args)
    const inShell = this.family === 'windows' && /(^|\\)cmd\.exe$/i.test(path) && shell !== null
    if (!inShell && !this.#options.programs.some((program) => program.path === path)) return undefined
    const line = parseCommandLine(inShell ? (shell[1] ?? '') : args, this.family)
    const command = inShell ? line.words : [path, ...line.words]
    if (line.stdout !== undefined) this.write(line.stdout, Buffer.alloc(0))
    if (line.stderr !== undefined) this.write(line.stderr, Buffer.alloc(0))
    const missing = { exitCode: NOT_THERE[this.family], ms: 0, stdout: '', stderr: `${command[0]}: not found\n` }
    const program = this.#options.programs.find((each) => each.path === command[0] && (each.when ?? command[1]) === command[1]) ?? missing
    const { clock } = this.#options
    const pid = this.#pid++
    const name = path.slice(Math.max(path.lastIndexOf('/'), path.lastIndexOf('\\')) + 1)
    const process: GuestProcess = {
      pid,
      name,
      owner,
      cmdLine: `"${path}" ${args}`,
      startedAt: clock.now(),
      endedAt: undefined,
      endedMs: undefined,
      exitCode: undefined,
    }
    const end = new AbortController()
    this.#processes.set(pid, { process, end })
    if (program !== missing) this.note('started', { command })
    const run = async (): Promise<void> => {
      let terminated = false
      try {
        await clock.sleep(program.ms, { signal: end.signal })
      } catch {
        terminated = true
      }
      if (line.stdout !== undefined && this.#files.has(line.stdout)) this.write(line.stdout, Buffer.from(program.stdout))
      if (line.stderr !== undefined && this.#files.has(line.stderr)) this.write(line.stderr, Buffer.from(program.stderr))
      process.endedAt = clock.now()
      process.endedMs = clock.monotonicMs()
      process.exitCode = terminated ? TERMINATED[this.family] : program.exitCode
      if (program !== missing) this.note(terminated ? 'terminated' : 'ended', { command, exitCode: process.exitCode })
    }
    void run()
    return pid
  }

  list(): readonly GuestProcess[] {
    const now = this.#options.clock.monotonicMs()
    for (const [pid, { process }] of this.#processes)
      if (process.endedMs !== undefined && now - process.endedMs > LISTED_MS) this.#processes.delete(pid)
    return [...this.#processes.values()].map(({ process }) => process)
  }

  /** False when there is no such running process. */
  terminate(pid: number): boolean {
    const found = this.#processes.get(pid)
    if (found === undefined || found.process.endedAt !== undefined) return false
    found.end.abort()
    return true
  }

  /** A program is a file, too; what is in it is nobody's concern. */
  read(path: string): Buffer | undefined {
    return this.#files.get(path) ?? (this.#options.programs.some((program) => program.path === path) ? Buffer.alloc(0) : undefined)
  }

  /** False when the guest has no room for it. */
  write(path: string, body: Buffer): boolean {
    const others = [...this.#files].reduce((sum, [name, file]) => sum + (name === path ? 0 : file.length), 0)
    if (others + body.length > FILES_BYTES) return false
    this.#files.set(path, body)
    return true
  }

  delete(path: string): boolean {
    return this.#files.delete(path)
  }

  get paths(): readonly string[] {
    return [...this.#files.keys()]
  }

  /** Paths of files in a directory, or the one file. */
  files(path: string): readonly string[] {
    if (this.#files.has(path)) return [path]
    const directory = path.replace(/[\\/]$/, '')
    return [...this.#files.keys()].filter((name) => name.slice(0, Math.max(name.lastIndexOf('/'), name.lastIndexOf('\\'))) === directory)
  }

  /** The guest went down: nothing runs any more; files stay. */
  powerOff(): void {
    for (const { end } of this.#processes.values()) end.abort()
    this.#processes.clear()
  }

  [Symbol.dispose](): void {
    this.powerOff()
  }
}
