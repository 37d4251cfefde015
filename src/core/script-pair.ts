import type { VmRef } from './model.ts'

/** What the journal keeps of a pre-freeze script and its post-thaw script: enough to run the second after the death of who ran the first. */
export type ScriptPair = {
  readonly vm: VmRef
  /** Name of the rule in the configuration, for messages. */
  readonly rule: string
  readonly via: 'guest-operations' | 'ssh'
  readonly windows: boolean
  readonly preFreeze: string
  readonly postThaw: string
  readonly timeoutMs: number
}
