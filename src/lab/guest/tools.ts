import { AgentError } from '../../core/index.ts'

/** How VMware Tools behave. */
export type ToolsState =
  | 'running'
  | 'notRunning'
  | 'notInstalled'
  /** pre-freeze script ends non-zero: ApplicationQuiesceFault. */
  | 'scriptFails'
  /** VSS writer fails: ApplicationQuiesceFault. */
  | 'vssFails'
  /** Cannot hold still: thaws before the snapshot is made; `held: false` at thaw. */
  | 'cannotHold'
  /** Never answers: FilesystemQuiesceFault when the freeze limit has passed. */
  | 'hangs'

/** Quiescing failed; `fault` is the vim25 name. */
export class QuiesceError extends AgentError {
  readonly fault: 'ApplicationQuiesceFault' | 'FilesystemQuiesceFault' | 'ToolsUnavailable'

  constructor(fault: QuiesceError['fault'], message: string, cause?: unknown) {
    super('GUEST', message, { cause })
    this.name = 'QuiesceError'
    this.fault = fault
  }
}
