import type { VmRef } from '../core/index.ts'
import { type ManualSnapshot, type ManualSnapshotDeps, removeManualSnapshot, takeManualSnapshot } from '../flow/index.ts'
import type { Agent } from './agent.ts'

/** `vcbSnapshot -c`: a snapshot of the user's, made under the VM's lock with the quiesce policy of the configuration. Errors as `takeManualSnapshot`. */
export async function runTakeSnapshot(
  agent: Agent,
  wish: { readonly vm: VmRef; readonly name: string; readonly description?: string | undefined },
): Promise<ManualSnapshot> {
  const deps = await depsOf(agent)
  const { quiesce, freezeLimitMs } = agent.config
  const request = { ...wish, quiesce, freezeLimitMs, token: agent.ids.run() }
  return agent.job('vcbSnapshot', { vm: wish.vm, name: wish.name }, (claims, signal) =>
    takeManualSnapshot(deps, claims, request, { signal }),
  )
}

/** `vcbSnapshot -d`: removes it again. Errors as `removeManualSnapshot`. */
export async function runRemoveSnapshot(agent: Agent, vm: VmRef, id: string): Promise<void> {
  const deps = await depsOf(agent)
  await agent.job('vcbSnapshot', { vm, remove: id }, (claims, signal) => removeManualSnapshot(deps, claims, vm, id, { signal }))
}

async function depsOf(agent: Agent): Promise<ManualSnapshotDeps> {
  const vsphere = await agent.vsphere()
  await agent.recoverFirst()
  return { vsphere, changes: agent.snapshotChanges(vsphere), locks: agent.locks, clock: agent.clock, log: agent.log }
}
