import { dirname } from 'node:path'
import { loadConfig, runUnmountDirectory } from '../../agent/index.ts'
import { AgentError, ensureDirectory } from '../../core/index.ts'
import type { Mounted } from '../../flow/index.ts'
import { printable } from '../io.ts'
import type { CommandSession } from '../session.ts'
import { startMount } from '../start-mount.ts'
import { transportOf } from './export-flags.ts'
import type { ToolCall } from './tool.ts'

/**
 * Mounts the file systems of a VM or of a disk, as `vcb mount WHAT DIR --type file` does, and returns when they are there. Another process holds the lease, until the directory is unmounted
 * with -U, until VCB_OWNER_PID has ended, or until the times in `vcbTools` are over. `flags` are more flags of `vcb mount`. Errors: those of `vcb mount`.
 */
export async function mountFiles(call: ToolCall, what: string, directory: string, flags: readonly string[] = []): Promise<Mounted> {
  const { settings, io, tool } = call
  const { vcenter, user, logLevel } = settings.flags
  const owner = io.environment['VCB_OWNER_PID']
  const transport = transportOf(call)
  const given = { vcenter, user, transport, 'log-level': logLevel, 'owner-pid': owner === '' ? undefined : owner }
  await ensureDirectory(dirname(directory))
  const answer = await startMount(io, {
    flags: [
      '--type=file',
      `--job=${tool.name}`,
      `--max-hold=${settings.mounts.maxHoldMs}ms`,
      `--idle=${settings.mounts.idleMs}ms`,
      ...Object.entries(given).flatMap(([name, value]) => (value === undefined ? [] : [`--${name}=${value}`])),
      ...flags,
    ],
    words: [what, directory],
    log: await loadConfig(settings.flags, io.environment),
  })
  if (answer.mounted === undefined) throw answer.error
  return answer.mounted
}

/** Says for people what is mounted, and what is not but for `unasked`; the exit status: PARTIAL when something of the VM cannot be seen. */
export function reportMounted({ flags, io }: ToolCall, mounted: Mounted, unasked: readonly string[] = []): number {
  const left = mounted.notMounted.filter(({ what }) => !unasked.includes(what))
  const name = printable(mounted.vm.name)
  const note = (line: string): void => io.err(`${line}\n`)
  for (const { what, reason } of left) note(`${name}: ${printable(what)} is not mounted: ${printable(reason)}`)
  if (!flags.values.has('Q')) {
    for (const warning of mounted.warnings) note(`${name}: ${printable(warning)}`)
    note(`${name} is mounted in ${printable(mounted.directory)} until ${mounted.until}, ${mounted.consistency}-consistent`)
  }
  return left.length === 0 ? 0 : new AgentError('PARTIAL', '').exit
}

/** Ends what is mounted in a directory; the exit status, or undefined when nothing is. */
export async function unmountFiles({ flags, io }: ToolCall, { agent }: CommandSession, directory: string): Promise<number | undefined> {
  const done = await runUnmountDirectory(agent, directory)
  if (done === undefined) return undefined
  const note = (line: string): void => io.err(`${line}\n`)
  for (const held of done.held) note(`still held: ${printable(held)}; "vcbCleanup -y" releases it`)
  if (done.doubt !== undefined) {
    note(`vcb: ${printable(done.doubt)}`)
    note('     Do not trust what was copied from it; mount the VM again and repeat the copy.')
    return new AgentError('INTEGRITY', '').exit
  }
  if (!flags.values.has('Q')) note(`${printable(directory)} is unmounted`)
  return done.held.length === 0 ? 0 : new AgentError('PARTIAL', '').exit
}
