import {
  type Abortable,
  type ClaimId,
  type MoRef,
  type QuiescePolicy,
  toAgentError,
  type VmConfig,
  type ScriptPair,
} from '../core/index.ts'
import { type Claims, LeftError } from '../journal/index.ts'
import { type Consistent, GuestScriptError, type GuestScripts, type ScriptReport, sentenceOf } from '../quiesce/index.ts'
import { parsePowerState, retrieveOne, type Vsphere } from '../vsphere/index.ts'

/** The scripts of one VM's backup: what they came to, and how a snapshot is taken between them. */
export type AroundSnapshot = {
  /** pre-freeze script → `take` → post-thaw script, which runs whatever happened. Called once per attempt to take the snapshot. */
  run<T>(take: () => Promise<T>): Promise<T>
  /** The level that was reached, as far as the scripts have a say in it. */
  consistent<T>(reached: Consistent<T>): Consistent<T>
  /** What they said and came to; undefined when nothing ran. */
  said(): ScriptsSaid | undefined
}

/** All runs of one snapshot, with the policy that held. */
export type ScriptsSaid = { readonly policy: 'require' | 'try'; readonly runs: readonly ScriptReport[] }

/** `guest-scripts.json`, of a point and of a lease alike. */
export const scriptsFile = ({ policy, runs }: ScriptsSaid): { readonly name: string; readonly body: Uint8Array } => ({
  name: 'guest-scripts.json',
  body: Buffer.from(`${JSON.stringify({ version: 1, policy, runs }, null, 2)}\n`),
})

type Deps = { readonly scripts: GuestScripts | undefined; readonly vsphere: Vsphere; readonly claims: Claims }
type Request = { readonly quiesce: QuiescePolicy; readonly guestScripts?: boolean | 'require' | 'try' | undefined }

/** A VM without scripts, or one that is off, is taken as it is. `lock` is what the claim stands on. */
export function aroundSnapshot(
  { scripts, vsphere, claims }: Deps,
  config: VmConfig,
  request: Request,
  lock: ClaimId,
  warnings: string[],
  options: Abortable,
): AroundSnapshot {
  const rule = request.guestScripts === false ? undefined : scripts?.of(config.vm.name)
  if (scripts === undefined || rule === undefined || config.powerState === 'poweredOff')
    return { run: (take) => take(), consistent: (reached) => reached, said: () => undefined }
  const policy =
    request.guestScripts === 'require' || request.guestScripts === 'try'
      ? request.guestScripts
      : (rule.policy ?? (request.quiesce === 'require' ? 'require' : 'try'))
  const { via, preFreeze, postThaw, timeoutMs } = rule
  const windows = /^win/i.test(config.guestId)
  const pair: ScriptPair = { vm: config.vm, rule: rule.name, via, windows, preFreeze, postThaw, timeoutMs }
  const reports: ScriptReport[] = []
  let failed: GuestScriptError | undefined

  const between = async <T>(take: () => Promise<T>): Promise<T> => {
    let claim: ClaimId | undefined
    try {
      await claims.take('guestScript', pair, [lock], async (id) => {
        claim = id
        await scripts.preFreeze(id, pair, vsphere, options)
        return { argument: 'freezeFail' }
      })
    } catch (error) {
      // It has failed, and was undone: the second script ran, with freezeFail.
      if (claim !== undefined) reports.push(...scripts.takeReports(claim))
      if (!(error instanceof GuestScriptError) || policy === 'require') throw error
      failed = error
      warnings.push(error.message)
      return take()
    }
    if (claim === undefined) return take()
    let taken: T
    try {
      taken = await take()
      await claims.update(claim, { argument: 'thaw' })
    } catch (error) {
      await thaw(claim)
      throw error
    }
    await thaw(claim)
    return taken
  }

  /** What cannot be thawed now stays among the claims, which tell it when the job ends; the snapshot is good all the same. */
  const thaw = async (claim: ClaimId): Promise<void> => {
    try {
      await claims.release(claim)
    } catch (error) {
      if (!(error instanceof LeftError)) throw error
      warnings.push(`The post-thaw script ${postThaw} of ${config.vm.name} has not run yet: ${error.message}`)
    }
    const ran = scripts.takeReports(claim)
    reports.push(...ran)
    for (const report of ran)
      if (report.argument !== 'freeze' && report.exitCode !== 0)
        warnings.push(`The post-thaw script ${postThaw} of ${config.vm.name} failed: ${sentenceOf(report)}.`)
  }

  return {
    // One that failed is not run again for the next attempt.
    run: (take) => (failed === undefined ? between(take) : take()),
    consistent: (reached) => {
      if (failed === undefined) {
        const level = reached.level === 'filesystem' ? 'application' : reached.level
        return { ...reached, level, reason: `${reached.reason}; the pre-freeze script ${preFreeze} had ended well before` }
      }
      const level = reached.level === 'application' ? 'filesystem' : reached.level
      return { ...reached, level, reason: `${reached.reason}; without its script: ${failed.message.replace(/\.$/, '')}` }
    },
    said: () => (reports.length === 0 ? undefined : { policy, runs: reports }),
  }
}

/** Whether a VM is off or gone: what a script had stopped in it runs no more, and there is nobody to thaw. */
export async function isDown(vsphere: Vsphere, vm: MoRef, options?: Abortable): Promise<boolean> {
  try {
    const { props } = await retrieveOne(vsphere, vm, ['runtime.powerState'], options)
    return parsePowerState(props.get('runtime.powerState')?.text) === 'poweredOff'
  } catch (error) {
    if (toAgentError(error).code === 'NOT_FOUND') return true
    throw error
  }
}
