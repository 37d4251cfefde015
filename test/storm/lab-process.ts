import { type ChildProcess, spawn } from 'node:child_process'
import { randomInt } from 'node:crypto'
import { once } from 'node:events'
import { readFile } from 'node:fs/promises'
import { request } from 'node:https'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { systemClock } from '../../src/core/index.ts'
import type { DiskDigest, FaultRule, FsckReport, Lab, LabState, SnapshotDigests, WriteRequest, WriteResult } from '../../src/lab/index.ts'

export const COMMAND = join(import.meta.dirname, '..', '..', 'scripts', 'vcb.cjs')

type Ready = {
  readonly url: string
  readonly thumbprint: string
  readonly user: string
  readonly passwordFile: string
  readonly datastores: Readonly<Record<string, string>>
  readonly ssh: { readonly hosts: Lab['endpoints']['ssh']; readonly keyFile: string }
}

/** A lab in a process of its own, `vcb lab up`, that can be killed and comes back on the same port from what it kept on disk. */
export class LabProcess implements AsyncDisposable {
  readonly directory: string
  readonly port: number
  kills = 0
  readonly #scenario: string
  readonly #environment: NodeJS.ProcessEnv
  #child: ChildProcess | undefined
  #ready: Ready | undefined
  #coming: Promise<void> | undefined
  #said = ''

  private constructor(directory: string, scenario: string, port: number, environment: NodeJS.ProcessEnv) {
    this.directory = directory
    this.port = port
    this.#scenario = scenario
    this.#environment = environment
  }

  /** Starts a new lab from a scenario file. */
  static async start(directory: string, scenario: string, environment: NodeJS.ProcessEnv = {}): Promise<LabProcess> {
    const lab = new LabProcess(directory, scenario, await freePorts(), environment)
    await lab.up()
    return lab
  }

  get ready(): Ready {
    if (this.#ready === undefined) throw new Error('the lab is not up')
    return this.#ready
  }

  /** What the command needs to find it. */
  get connection(): Readonly<Record<string, string>> {
    const { url, thumbprint, user, passwordFile, datastores } = this.ready
    const mounted = Object.entries(datastores)
    return {
      VCB_VCENTER: url,
      VCB_THUMBPRINT: thumbprint,
      VCB_USER: user,
      VCB_PASSWORD_FILE: passwordFile,
      VCB_DATASTORES: mounted.map(([name, path]) => `${name}=${path}`).join(','),
    }
  }

  get pid(): number | undefined {
    return this.#child?.pid
  }

  /** What the lab wrote to standard error. */
  get said(): string {
    return this.#said
  }

  /** Starts it, when it is not running, and waits until it answers. */
  async up(): Promise<void> {
    if (this.#child !== undefined) return
    const child = spawn(
      process.execPath,
      [COMMAND, 'lab', 'up', '--dir', this.directory, '--scenario', this.#scenario, '--port', String(this.port), '--json'],
      { env: { ...process.env, ...this.#environment }, stdio: ['ignore', 'pipe', 'pipe'] },
    )
    this.#child = child
    child.once('exit', () => {
      if (this.#child === child) this.#child = undefined
    })
    child.stderr.on('data', (piece: Buffer) => (this.#said = `${this.#said}${piece.toString()}`.slice(-100_000)))
    let out = ''
    this.#ready = await new Promise<Ready>((resolve, reject) => {
      child.stdout.on('data', (piece: Buffer) => {
        out += piece.toString()
        if (out.includes('\n')) resolve(JSON.parse(out))
      })
      child.once('exit', (code, signal) => reject(new Error(`the lab ended with ${code ?? signal} before it was up: ${this.#said}`)))
    })
  }

  /** SIGKILL now, and up again `awayMs` later. False when it is down already. */
  strike(awayMs: number): boolean {
    const child = this.#child
    if (child === undefined || this.#coming !== undefined) return false
    child.kill('SIGKILL')
    this.backAfter(awayMs)
    return true
  }

  /** It was killed by somebody else; up again `awayMs` later. */
  backAfter(awayMs: number): void {
    const child = this.#child
    this.kills++
    const back = async (): Promise<void> => {
      if (child !== undefined && child.exitCode === null && child.signalCode === null) await once(child, 'exit')
      await systemClock.sleep(awayMs)
      await this.up()
    }
    this.#coming = back().finally(() => {
      this.#coming = undefined
    })
    // Whoever settles the lab hears of a failed start.
    this.#coming.catch(() => undefined)
  }

  get isDown(): boolean {
    return this.#child === undefined || this.#coming !== undefined
  }

  /** Waits until it is up, when it is on its way. */
  async settled(): Promise<void> {
    await this.#coming
    await this.up()
  }

  /** Ends it in order; `up` starts it again. */
  async stop(): Promise<void> {
    await this.#coming
    const child = this.#child
    if (child === undefined) return
    const exited = once(child, 'exit')
    child.kill('SIGTERM')
    await exited
    this.#child = undefined
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop()
  }

  write = (vm: string, write: WriteRequest): Promise<WriteResult> => this.#ask('write', { vm, write })
  state = (): Promise<LabState> => this.#ask('state', {})
  sha256 = (vm: string, snapshot?: string): Promise<readonly DiskDigest[]> => this.#ask('sha256', { vm, snapshot })
  digests = (vm: string): Promise<readonly SnapshotDigests[]> => this.#ask('digests', { vm })
  fsck = (vm: string): Promise<FsckReport> => this.#ask('fsck', { vm })
  workload = (vm: string, rate: number): Promise<unknown> => this.#ask('workload', { vm, rate })
  fault = (rule: FaultRule): Promise<string> => this.#ask('fault-add', { rule })
  clearFaults = (id?: string): Promise<unknown> => this.#ask('fault-clear', { id })

  async #ask<T>(verb: string, body: object): Promise<T> {
    const running: { url: string; certificate: string } = JSON.parse(await readFile(join(this.directory, 'running.json'), 'utf8'))
    const token = (await readFile(join(this.directory, 'control-token'), 'utf8')).trim()
    return new Promise((resolve, reject) => {
      const sent = request(
        `${running.url}/lab/${verb}`,
        {
          method: 'POST',
          ca: running.certificate,
          checkServerIdentity: () => undefined,
          agent: false,
          headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
        },
        (response) => {
          let text = ''
          response
            .setEncoding('utf8')
            .on('data', (piece: string) => (text += piece))
            .on('end', () =>
              response.statusCode === 200 ? resolve(JSON.parse(text)) : reject(new Error(`the lab answered ${verb} with ${text}`)),
            )
            .on('error', reject)
        },
      )
      sent.on('error', reject)
      sent.end(JSON.stringify(body))
    })
  }
}

/**
 * A port that is free, with the next one free too, below those the system gives to outgoing connections: one of these could otherwise take it
 * while the lab is away.
 */
async function freePorts(): Promise<number> {
  for (;;) {
    const port = randomInt(20_000, 32_000)
    if ((await isFree(port)) && (await isFree(port + 1))) return port
  }
}

async function isFree(port: number): Promise<boolean> {
  const server = createServer()
  const listening = once(server, 'listening').then(
    () => true,
    () => false,
  )
  server.listen(port, '127.0.0.1')
  if (!(await listening)) return false
  server.close()
  await once(server, 'close')
  return true
}
