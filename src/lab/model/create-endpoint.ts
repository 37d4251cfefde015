import type { IncomingMessage, ServerResponse } from 'node:http'
import { isRef, type CallInfo, type Intervention, type Methods, type ObjectStore, type Sessions, VimFault } from '../wire/index.ts'
import type { Endpoint } from './endpoint.ts'
import { serveFolder } from './folder-http.ts'
import { GuestFilesHttp } from './guest-files-http.ts'
import { Leases } from './lease.ts'
import type { LeaseHost } from './lease-answers.ts'
import { adminMethods } from './methods/admin-methods.ts'
import { datastoreMethods } from './methods/datastore-methods.ts'
import { guestMethods } from './methods/guest-methods.ts'
import { inventoryMethods } from './methods/inventory-methods.ts'
import { leaseMethods } from './methods/lease-methods.ts'
import { nfcMethods } from './methods/nfc-methods.ts'
import { ovfMethods } from './methods/ovf-methods.ts'
import { powerMethods } from './methods/power-methods.ts'
import { searchMethods } from './methods/search-methods.ts'
import { snapshotMethods } from './methods/snapshot-methods.ts'
import type { Model } from './model.ts'
import { createObjectStore } from './object-store.ts'
import { guarded, joinMethods, type Users } from './privilege.ts'
import { TagsHttp } from './tags-http.ts'
import type { View } from './view.ts'

export type EndpointParts = {
  readonly endpoint: Endpoint
  readonly store: ObjectStore
  readonly methods: Methods
  /** For `serveSoap`: what the fault rules do to a SOAP call. */
  readonly before: (call: CallInfo) => readonly Intervention[]
  /** `/folder`, the tagging REST; `/nfc` is asked of every endpoint's leases. True when served. */
  /** Files of guests; asked of every endpoint, as the leases. */
  readonly guestFiles: (request: IncomingMessage, response: ServerResponse) => Promise<boolean>
  readonly routes: (request: IncomingMessage, response: ServerResponse) => Promise<boolean>
}

/** Everything the wire needs to serve one endpoint. */
export function createEndpoint(options: {
  readonly model: Model
  readonly view: View
  readonly sessions: Sessions
  readonly tickets: readonly Sessions[]
  readonly users: Users
  readonly leaseHost: LeaseHost
  readonly check: (user: string, password: string) => boolean
}): EndpointParts {
  const { model, view, sessions, users, tickets } = options
  const endpoint: Endpoint = { model, view, sessions, tickets, users, leases: new Leases(model, view, options.leaseHost) }
  const files = new GuestFilesHttp(model, options.leaseHost)
  const methods = joinMethods(
    snapshotMethods(endpoint),
    powerMethods(endpoint),
    inventoryMethods(endpoint),
    datastoreMethods(endpoint),
    searchMethods(endpoint),
    adminMethods(endpoint),
    leaseMethods(endpoint),
    ovfMethods(endpoint),
    nfcMethods(endpoint),
    guestMethods(endpoint, files),
  )
  const tags = new TagsHttp(endpoint, options.check)
  return {
    endpoint,
    store: createObjectStore(endpoint),
    methods: guarded(endpoint, methods),
    before: (call) => intervene(endpoint, call),
    guestFiles: (request, response) => files.serve(request, response),
    routes: async (request, response) =>
      (await serveFolder(endpoint, request, response)) ||
      (await endpoint.leases.serve(request, response)) ||
      (await files.serve(request, response)) ||
      (await tags.serve(request, response)),
  }
}

const SOAP_EFFECTS = ['delayMs', 'cut', 'expireSession', 'fault'] as const

/** Rules for SOAP calls must name what they strike: a rule without `on` would cut the login too. */
function intervene(endpoint: Endpoint, call: CallInfo): Intervention[] {
  const { model, view } = endpoint
  const given = call.args['vm']
  // NfcService and the managers of guest operations are asked about a VM; a rule names the VM all the same.
  const about = /^(NfcService|Guest\w+Manager)$/.test(call.self.$ref) && isRef(given) ? given.value : call.self.value
  const entity = view.find(about)
  const record = entity?.kind === 'vm' ? entity.record : entity?.kind === 'snapshot' ? model.world.vm(entity.vm) : undefined
  const names = [
    call.self.value,
    ...(record === undefined ? [] : model.names(record)),
    ...(entity !== undefined && 'name' in entity ? [entity.name] : []),
  ]
  return model.rules.strike({ on: call.method, names, endpoint: view.kind }, ...SOAP_EFFECTS).flatMap((rule): Intervention[] => {
    if (rule.on === undefined) return []
    const done: Intervention[] = []
    if (rule.delayMs !== undefined) done.push({ action: 'delay', ms: rule.delayMs })
    if (rule.expireSession === true) done.push({ action: 'expire' })
    if (rule.fault !== undefined)
      done.push({ action: 'fault', fault: new VimFault(rule.fault, {}, rule.message ?? 'A fault rule of the lab refused this call.') })
    if (rule.cut !== undefined) done.push({ action: 'cut', when: rule.cut })
    return done
  })
}
