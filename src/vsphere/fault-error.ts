import { AgentError } from '../core/index.ts'
import { FAULT_FAMILIES, FAULTS, type FaultMeaning } from './fault-table.ts'
import type { VimFault } from './vim-fault.ts'

/**
 * The AgentError for a fault of one call, with the fault as its cause. `subject` names what the call was about; `host` the server.
 * A fault nobody has foreseen is UNAVAILABLE with its name and the server's text, so that it can be looked up.
 */
export function faultError(fault: VimFault, method: string, host: string, subject?: string): AgentError {
  const meaning = meaningOf(fault.faultName)
  const on = subject === undefined ? '' : ` on ${subject}`
  const init = { subject: subject ?? host, next: meaning?.next, retry: meaning?.retry, cause: fault }
  if (meaning === undefined) {
    const text = fault.message.trim().replaceAll(/\s+/g, ' ').slice(0, 300).replace(/\.+$/, '')
    return new AgentError('UNAVAILABLE', `${method}${on} failed at ${host} with ${fault.faultName}${text === '' ? '' : `: ${text}`}.`, {
      ...init,
      next: `Look the fault ${fault.faultName} up in VMware's documentation, and in the events of the object.`,
      retry: 'never',
    })
  }
  return new AgentError(meaning.code, `${method}${on} ${meaning.says(fault)} (${host}, fault ${fault.faultName}).`, init)
}

function meaningOf(name: string): FaultMeaning | undefined {
  if (Object.hasOwn(FAULTS, name)) return FAULTS[name]
  const family = FAULT_FAMILIES.find(([suffix]) => name.endsWith(suffix))
  return family === undefined ? undefined : FAULTS[family[1]]
}
