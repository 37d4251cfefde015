import type { VmOutcome } from '../../agent/index.ts'
import { type Output, printable } from '../io.ts'

/** What of a VM is not in its export, its warnings unless `quiet`, and what is still held, for people. */
export function noteLeftOut(output: Output, outcome: Extract<VmOutcome, { ok: true }>, quiet: boolean): void {
  const name = printable(outcome.vm.name)
  for (const { disk, reason } of outcome.notProtected) output.note(`${name}: ${disk} is not in the export: ${printable(reason)}`)
  for (const warning of quiet ? [] : outcome.warnings) output.note(`${name}: ${printable(warning)}`)
  if (outcome.stillHeld !== undefined) output.note(`${name}: ${printable(`${outcome.stillHeld.message} ${outcome.stillHeld.next}`)}`)
}
