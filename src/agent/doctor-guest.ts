import { isAgentError, type ScriptPair, toAgentError } from '../core/index.ts'
import { describeVm, listVms, type VmRow } from '../inventory/index.ts'
import { GUEST_PRIVILEGES, missingPrivileges, vmMoRef, type Vsphere } from '../vsphere/index.ts'
import type { Agent } from './agent.ts'
import type { Finding } from './doctor.ts'

/** Guests that are asked; a login takes a moment. */
const MOST = 50

/**
 * Whether the guest scripts of `vcb.yaml` could be run: the privileges for guest operations on each VM, VMware Tools, the login, over SSH the key that is pinned, and both scripts
 * are there. Logs in to guests and starts nothing. What a policy `try` would go on without is a warning, what `require` would end a backup with a failure.
 */
export async function checkGuests(agent: Agent, vsphere: Vsphere, findings: Finding[]): Promise<void> {
  if (agent.config.guestScripts.length === 0) return
  let asked = 0
  for await (const row of listVms(vsphere, [], { signal: agent.signal })) {
    const rule = row.isTemplate ? undefined : agent.scripts.of(row.vm.name)
    if (rule === undefined) continue
    if (++asked > MOST) {
      findings.push({ check: 'guest scripts', result: 'ok', detail: `asked ${MOST} guests only` })
      return
    }
    const policy = rule.policy ?? (agent.config.quiesce === 'require' ? 'require' : 'try')
    const found = await lookAtGuest(agent, vsphere, row, rule)
    const check = `guest scripts of ${row.vm.name}`
    findings.push(
      'problem' in found
        ? { check, result: policy === 'require' ? 'failed' : 'warning', ...found.problem }
        : { check, result: 'ok', detail: found.detail },
    )
  }
  if (asked === 0)
    findings.push({
      check: 'guest scripts',
      result: 'warning',
      detail: 'No VM has a name that guestScripts of vcb.yaml fits.',
      next: 'Correct the patterns; names are case-sensitive.',
    })
}

type Look = { readonly detail: string } | { readonly problem: { readonly detail: string; readonly next: string } }

async function lookAtGuest(
  agent: Agent,
  vsphere: Vsphere,
  { vm, powerState, toolsRunning }: VmRow,
  { name, via, user, preFreeze, postThaw, timeoutMs }: NonNullable<ReturnType<Agent['scripts']['of']>>,
): Promise<Look> {
  if (powerState !== 'poweredOn') return { detail: 'not asked: the VM does not run' }
  const options = { signal: agent.signal }
  try {
    if (via === 'guest-operations') {
      const missing = await missingPrivileges(vsphere, vmMoRef(vm), GUEST_PRIVILEGES, options)
      if (missing !== undefined && missing.length > 0)
        return {
          problem: {
            detail: `missing on the VM: ${missing.join(', ')}`,
            next: 'Add them to the role of this user, on the VM or above it.',
          },
        }
      if (!toolsRunning)
        return { problem: { detail: 'VMware Tools are not running in the guest.', next: 'Start them in the guest, or use via: ssh.' } }
    }
    const { guestId } = await describeVm(vsphere, vm, options)
    const pair: ScriptPair = { vm, rule: name, via, windows: /^win/i.test(guestId), preFreeze, postThaw, timeoutMs }
    const absent = await agent.scripts.absent(pair, vsphere, options)
    if (absent.length > 0)
      return {
        problem: { detail: `not in the guest: ${absent.join(', ')}`, next: 'Put the script there, or correct its path in vcb.yaml.' },
      }
    const who = user === '' ? 'the login' : user
    return { detail: `${who} gets in by ${via === 'ssh' ? 'SSH' : 'guest operations'}, and both scripts are there` }
  } catch (error) {
    if (isAgentError(error, 'CANCELED')) throw error
    const { message, next } = toAgentError(error)
    return { problem: { detail: message, next } }
  }
}
