import type { FaultRule, Model, NfcQuirk } from '../model/index.ts'
import type { LabKind } from '../wire/index.ts'
import { ConnectionOver } from './inbox.ts'

const EFFECTS = ['nfc', 'delayMs', 'cut', 'cutAfterBytes'] as const satisfies readonly (keyof FaultRule)[]

/** What fault rules want of one step of the NFC protocol. */
export type StepFaults = {
  /** The rule that asks for this quirk. */
  quirk(name: NfcQuirk): FaultRule | undefined
  /** The connection breaks after the step's work. */
  readonly cutAfter: boolean
  readonly cutAfterBytes: number | undefined
}

/** Who a connection is for; names that rules may use, and the endpoint whose ticket it is. Empty before the ticket. */
export type StepNames = { readonly names: readonly string[]; readonly endpoint?: LabKind | undefined }

/**
 * Asks the rules about one step, waits where they say so. ConnectionOver for `cut` before; never returns after `silence` until the client is gone
 * (`gone`).
 */
export async function stepFaults(model: Model, on: string, who: StepNames, gone: AbortSignal): Promise<StepFaults> {
  const rules = model.rules.strike({ on, ...who }, ...EFFECTS).filter((rule) => rule.on !== undefined)
  for (const { delayMs } of rules) if (delayMs !== undefined) await model.clock.sleep(delayMs, { signal: gone })
  if (rules.some((rule) => rule.cut === 'before')) throw new ConnectionOver('a fault rule of the lab cut the connection')
  if (rules.some((rule) => rule.nfc === 'silence')) {
    if (!gone.aborted) await new Promise<void>((resolve) => gone.addEventListener('abort', () => resolve(), { once: true }))
    throw new ConnectionOver('the client waited in vain')
  }
  return {
    quirk: (name) => rules.find((rule) => rule.nfc === name),
    cutAfter: rules.some((rule) => rule.cut === 'after'),
    cutAfterBytes: rules.find((rule) => rule.cutAfterBytes !== undefined)?.cutAfterBytes,
  }
}
