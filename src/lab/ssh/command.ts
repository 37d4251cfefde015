import type { ServerChannel } from 'ssh2'
import type { FaultRule, Model, View } from '../model/index.ts'

/** What a command of the host's shell is given. */
export type CommandCall = {
  readonly model: Model
  /** The standalone view of the ESXi endpoint where this is its host; the tasks of `vim-cmd` are seen there. */
  readonly view: View | undefined
  /** Id of the host. */
  readonly host: string
  /** Command and arguments. */
  readonly words: readonly string[]
  /** The rules that struck it. */
  readonly rules: readonly FaultRule[]
  readonly channel: ServerChannel
  /** Writes output at the client's pace, through the fault rules. False when a rule ended the output. */
  readonly out: (bytes: Uint8Array) => Promise<boolean>
  readonly error: (text: string) => void
  /** Aborted when the client is gone. */
  readonly gone: AbortSignal
}

/** Runs to its end; the result is the exit status. */
export type Command = (call: CommandCall) => Promise<number>
