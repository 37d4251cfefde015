import type { VimNode } from './vim-node.ts'

/** A fault as the server gave it. Always the cause of an AgentError by the time a caller outside this folder sees it. */
export class VimFault extends Error {
  /** VMware's type name: `FileLocked`, `TaskInProgress`, `NoPermission`. */
  readonly faultName: string
  /** The fault's own fields. */
  readonly detail: VimNode | undefined
  /** Keys of faultMessage, e.g. `vim.hostd.vmsvc.cbt.noTrack`. */
  readonly messageKeys: readonly string[]

  constructor(faultName: string, message: string, detail?: VimNode) {
    super(message)
    this.name = 'VimFault'
    this.faultName = faultName
    this.detail = detail
    this.messageKeys = (detail?.all('faultMessage') ?? []).map((entry) => entry.string('key') ?? '').filter((key) => key !== '')
  }
}

/** The fault that caused `error`, at whatever depth; undefined when none did. */
export function faultOf(error: unknown): VimFault | undefined {
  let current = error
  for (let depth = 0; depth < 20 && current instanceof Error; depth++) {
    if (current instanceof VimFault) return current
    current = current instanceof SuppressedError ? (current.suppressed ?? current.error) : current.cause
  }
  return undefined
}

/** True when a fault of one of these names caused `error`. */
export function isFault(error: unknown, ...names: readonly string[]): boolean {
  const fault = faultOf(error)
  return fault !== undefined && names.includes(fault.faultName)
}
