import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { type Log, Secret, silentLog, systemClock } from '../../src/core/index.ts'
import { connectVsphere, fetchThumbprint, type Vsphere } from '../../src/vsphere/index.ts'

/** VMware's own simulator as a process of its own; disposal ends it. */
export type Vcsim = AsyncDisposable & {
  readonly url: string
  /** SHA-256, as shown in the handshake. */
  readonly thumbprint: string
  connect(options?: { readonly password?: string; readonly thumbprint?: string; readonly log?: Log }): Promise<Vsphere>
}

export const VCSIM_PASSWORD = 'a&b<c>"ö'

export function startVcsim(program: string, args: readonly string[] = []): Promise<Vcsim> {
  return start(program, ['-l', '127.0.0.1:0', '-username', 'backup', '-password', VCSIM_PASSWORD, ...args])
}

/** VMware's simulator library with leases, change tracking and CreateSnapshotEx in front of it. */
export function startVcsimLite(program: string, args: readonly string[] = []): Promise<Vcsim> {
  return start(program, ['-l', '127.0.0.1:0', '-user', 'backup', '-pass', VCSIM_PASSWORD, ...args])
}

async function start(program: string, args: readonly string[]): Promise<Vcsim> {
  const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'ignore'] })
  try {
    const address = await announced(child)
    const { sha256 } = await fetchThumbprint(address)
    return {
      url: address,
      thumbprint: sha256,
      connect: ({ password = VCSIM_PASSWORD, thumbprint = sha256, log = silentLog } = {}) =>
        connectVsphere({ url: address, user: 'backup', password: new Secret(password), trust: { thumbprint }, clock: systemClock, log }),
      [Symbol.asyncDispose]: () => end(child),
    }
  } catch (error) {
    await end(child)
    throw error
  }
}

/** `export GOVC_URL=https://backup:…@127.0.0.1:PORT/sdk GOVC_SIM_PID=…` */
async function announced(child: ChildProcess): Promise<string> {
  if (child.stdout === null) throw new Error('vcsim has no output')
  for await (const line of createInterface({ input: child.stdout })) {
    const port = /127\.0\.0\.1:(\d+)/.exec(line)?.[1]
    if (port !== undefined) return `https://127.0.0.1:${port}/sdk`
  }
  throw new Error('vcsim ended without naming its address')
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  const ended = once(child, 'exit')
  child.kill('SIGKILL')
  await ended
}
