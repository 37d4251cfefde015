import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { systemClock } from '../../src/core/index.ts'
import { systemProcesses } from '../../src/journal/index.ts'
import { requirePeer } from '../peer.ts'
import { digestOfFile, type Json, type LabSession, openLabSession } from './lab-session.ts'

const run = promisify(execFile)
export const COMMAND = join(import.meta.dirname, '..', '..', 'scripts', 'vcb.cjs')

const vm = (name: string, sizes: readonly string[]): object => ({
  name,
  power: 'poweredOn',
  changeTracking: true,
  disks: sizes.map((size) => ({ size, content: 'random' })),
})

/** These VMs, on a datastore that is mounted here. */
const openWith = (vms: readonly object[], place?: string): Promise<LabSession> =>
  openLabSession(
    {
      scenario: {
        taskMs: 0,
        recordDigests: true,
        datacenters: [{ name: 'DC', hosts: [{ name: 'esx1' }], datastores: [{ name: 'ds1', type: 'VMFS6' }], vms }],
      },
    },
    place,
  )

/** VMs to mount. */
export const openMountSession = (): Promise<LabSession> => openWith([vm('web', ['8MiB', '4MiB']), vm('one', ['8MiB']), vm('two', ['6MiB'])])

/** Guests with file systems, whose files test/golden/guest-disks/README.md lists; each with more disks of these sizes, of random bytes; `place` as of `openLabSession`. */
export const openGuestFiles = (
  guests: Readonly<Record<string, 'ext4' | 'ntfs'>> = { linux: 'ext4', windows: 'ntfs' },
  more: readonly string[] = [],
  place?: string,
): Promise<LabSession> =>
  openWith(
    Object.entries(guests).map(([name, type]) => ({
      name,
      power: 'poweredOn',
      disks: [
        { size: type === 'ext4' ? '96MiB' : '64MiB', content: `fixture:${type}` },
        ...more.map((size) => ({ size, content: 'random' })),
      ],
    })),
    place,
  )

/** What `vcb mount … --json` printed. */
export type Mounted = Json

/** A new directory name inside the session's, not made yet. */
export async function newTarget(session: LabSession): Promise<string> {
  return join(await mkdtemp(join(session.directory, 'm-')), 'dir')
}

/** SHA-256 of every disk of a mount, as nbdcopy reads it. */
export async function digestsOver(session: LabSession, mounted: Mounted): Promise<ReadonlyMap<string, string>> {
  const nbdcopy = requirePeer('nbdcopy')
  const found = new Map<string, string>()
  for (const disk of mounted.disks) {
    const copy = join(await mkdtemp(join(session.directory, 'copy-')), 'disk.raw')
    await run(nbdcopy, [disk.nbdUri, copy])
    found.set(disk.label, await digestOfFile(copy))
  }
  return found
}

export async function until(what: string, met: () => Promise<boolean>, forMs = 30_000): Promise<void> {
  for (let waited = 0; !(await met()); waited += 50) {
    if (waited > forMs) throw new Error(`${what}: waited in vain`)
    await systemClock.sleep(50)
  }
}

/** The open leases. */
export const leasesOf = async (session: LabSession): Promise<readonly Json[]> => (await session.json(['leases'])).leases

/** Waits until there is no lease any more. */
export const untilNoLease = (session: LabSession): Promise<void> =>
  until('the end of the lease', async () => (await leasesOf(session)).length === 0)

/** A process that lives until it is told to end. */
export async function owner(): Promise<AsyncDisposable & { readonly pid: number }> {
  const child = spawn('sleep', ['300'], { stdio: 'ignore' })
  const exited = once(child, 'exit')
  return {
    pid: child.pid ?? 0,
    [Symbol.asyncDispose]: async () => {
      child.kill('SIGKILL')
      await exited
    },
  }
}

/** `vcb` as a process of its own. */
export function startCommand(session: LabSession, ...argv: readonly string[]) {
  const child = spawn(process.execPath, [COMMAND, ...argv], {
    env: { ...process.env, ...session.environment },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let out = ''
  child.stdout.on('data', (chunk: Buffer) => (out += chunk.toString()))
  const ended = once(child, 'close').then(([code, signal]: unknown[]) => (typeof code === 'number' ? code : String(signal)))
  return { child, out: () => out, ended }
}

/** Ends a holder as a crash does, and waits until it is gone. */
export async function killHolder(pid: number): Promise<void> {
  process.kill(pid, 'SIGKILL')
  // A zombie that nobody has waited for counts as gone.
  await until(`the end of process ${pid}`, async () => (await systemProcesses.identify(pid)) === undefined)
}
