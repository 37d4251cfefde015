import { type LabRef, type MethodCall, notFound, type Sessions } from '../wire/index.ts'
import type { Entity } from './entity.ts'
import type { Leases } from './lease.ts'
import type { Model } from './model.ts'
import type { Users } from './privilege.ts'
import type { SnapshotRecord, VmRecord } from './record.ts'
import type { View } from './view.ts'

/** What the methods of one endpoint have at hand. */
export type Endpoint = {
  readonly model: Model
  readonly view: View
  readonly leases: Leases
  readonly sessions: Sessions
  /** Who may have issued a service ticket that is shown here: a vCenter's tickets are used on its hosts. */
  readonly tickets: readonly Sessions[]
  /** Proper names of the users and what they lack. */
  readonly users: Users
}

/** The VM a call is made on. Fault ManagedObjectNotFound. */
export function vmOf(endpoint: Endpoint, ref: LabRef): VmRecord {
  const entity = endpoint.view.find(ref.value)
  if (entity?.kind !== 'vm') throw notFound(ref)
  return entity.record
}

export function snapshotOf(endpoint: Endpoint, ref: LabRef): { vm: VmRecord; snapshot: SnapshotRecord } {
  const entity = endpoint.view.find(ref.value)
  const found = entity?.kind === 'snapshot' ? endpoint.model.world.snapshot(entity.id) : undefined
  if (found === undefined) throw notFound(ref)
  return found
}

/** The entity of one kind behind a reference. Fault ManagedObjectNotFound. */
export function entityOf<K extends Entity['kind']>(endpoint: Endpoint, ref: LabRef, kind: K): Extract<Entity, { kind: K }> {
  const entity = endpoint.view.find(ref.value)
  const is = (candidate: Entity | undefined): candidate is Extract<Entity, { kind: K }> => candidate?.kind === kind
  if (!is(entity)) throw notFound(ref)
  return entity
}

export const selfVm = (endpoint: Endpoint, call: MethodCall): VmRecord => vmOf(endpoint, call.self.ref)
