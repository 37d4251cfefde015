import { AgentError, type Effect, type MoRef } from '../core/index.ts'
import type { SshConnection } from '../ssh/index.ts'
import { type CallOptions, faultError, type SnapshotNode, VimFault } from '../vsphere/index.ts'
import type { SnapshotSpec } from './snapshot-changes.ts'

/** A snapshot that quiesces takes minutes, one that commits a large redo log hours. ms */
const CREATE_MS = 30 * 60_000
const REMOVE_MS = 48 * 3_600_000
/** No tree of snapshots is deeper or wider than this many lines. */
const LINES = 20_000

/** Proves that the VM of this number is the one meant, and so the shell that of its host. INTEGRITY when another VM has it, UNAVAILABLE. */
export async function requireVm(connection: SshConnection, vm: MoRef, instanceUuid: string, options?: CallOptions): Promise<void> {
  const text = await vimCmd(connection, ['vmsvc/get.summary', numberOf(vm)], options)
  const shown = /^\s*instanceUuid = "([0-9a-fA-F-]{36})",?\s*$/m.exec(text)?.[1]
  if (shown !== undefined && shown.toLowerCase() === instanceUuid.toLowerCase()) return
  throw new AgentError(
    'INTEGRITY',
    `The shell of ${connection.host.name} has another VM under the number of ${options?.subject ?? vm.value} (${shown ?? 'none'}).`,
    { subject: options?.subject, next: 'Check that ssh.hosts in vcb.yaml leads to the host that --vcenter names.' },
  )
}

/** `vim-cmd vmsvc/snapshot.create`: without memory; returns when the host's task has ended. The errors of CreateSnapshot_Task, UNAVAILABLE. */
export async function createInShell(connection: SshConnection, vm: MoRef, spec: SnapshotSpec, options?: CallOptions): Promise<void> {
  const words = ['vmsvc/snapshot.create', numberOf(vm), spec.name, spec.description, '0', spec.quiesce === undefined ? '0' : '1']
  await vimCmd(connection, words, { ...options, timeoutMs: CREATE_MS }, { kind: 'call', what: 'vim-cmd snapshot.create', on: vm.value })
}

/**
 * `vim-cmd vmsvc/snapshot.remove` of this one alone, by the number that the shell's own list and the API's reference agree on. The errors of
 * RemoveSnapshot_Task, UNAVAILABLE; INTEGRITY when the two lists differ.
 */
export async function removeInShell(connection: SshConnection, vm: MoRef, node: SnapshotNode, options?: CallOptions): Promise<void> {
  const listed = snapshotNumbers(await vimCmd(connection, ['vmsvc/snapshot.get', numberOf(vm)], options), node.name)
  const number = /-snapshot-(\d{1,10})$/.exec(node.snapshot.value)?.[1]
  if (number === undefined || listed.length !== 1 || listed[0] !== number) {
    throw new AgentError(
      'INTEGRITY',
      `The shell of ${connection.host.name} lists the snapshot ${node.name} as ${listed.join(', ') || 'none'}, its API as ${node.snapshot.value}.`,
      { subject: options?.subject, next: 'Remove it in the Host Client, then run "vcb recover".' },
    )
  }
  const effect: Effect = { kind: 'call', what: 'vim-cmd snapshot.remove', on: vm.value }
  await vimCmd(connection, ['vmsvc/snapshot.remove', numberOf(vm), number, '0'], { ...options, timeoutMs: REMOVE_MS }, effect)
}

/**
 * Numbers that `snapshot.get` lists under this very name. A description may hold lines that look like another snapshot: those make one number too
 * many here, never a wrong one alone.
 */
export function snapshotNumbers(tree: string, name: string): string[] {
  const lines = tree.split('\n', LINES)
  return lines.flatMap((line, index) => {
    const shown = /^-*Snapshot Name\s*: (.*)$/.exec(line)?.[1]
    const number = /^-*Snapshot Id\s*: (\d{1,10})\s*$/.exec(lines[index + 1] ?? '')?.[1]
    return shown?.trimEnd() === name && number !== undefined ? [number] : []
  })
}

/** On a standalone host a VM's reference is its number. */
function numberOf(vm: MoRef): string {
  if (/^\d{1,10}$/.test(vm.value)) return vm.value
  throw new AgentError('INTEGRITY', `${vm.value} is not the number of a VM on a host.`, { subject: vm.value })
}

/** One command of hostd's own client. What it says when it fails names vim25 faults, which mean what they mean in the API. */
async function vimCmd(connection: SshConnection, words: readonly string[], options?: CallOptions, changes?: Effect): Promise<string> {
  const { name } = connection.host
  const { status, stdout, stderr } = await connection.run(['vim-cmd', ...words], {
    signal: options?.signal,
    limitMs: options?.timeoutMs,
    changes,
  })
  const what = `vim-cmd ${words[0] ?? ''}`
  const fault = /^\s*\((?:vim|vmodl)(?:\.fault)?\.([A-Za-z]{1,60})\)/m.exec(status === 0 ? '' : stdout)?.[1]
  if (fault !== undefined) {
    throw faultError(new VimFault(fault, /\bmsg = "([^"]{0,400})"/.exec(stdout)?.[1] ?? ''), what, name, options?.subject)
  }
  if (status === 0 && !/^(?:Create|Remove) snapshot failed\b/im.test(stdout)) return stdout
  const said = `${stderr}\n${stdout}`.trim().replaceAll(/\s+/g, ' ').slice(0, 300)
  throw new AgentError('UNAVAILABLE', `${what} failed on ${name}${said === '' ? '' : `: ${said}`}.`, {
    subject: options?.subject ?? name,
    retry: status === 127 ? 'never' : 'later',
    next: 'Look at the tasks of the host in its Host Client.',
  })
}
