import { Decoder } from './decoder.ts'
import { Encoder } from './encoder.ts'
import { eventManager, eventMethods } from './event-methods.ts'
import { notAuthenticated, notFound, VimFault } from './fault.ts'
import type { ManagedObject, Method } from './managed-object.ts'
import { defaultCollector, propertyCollectorMethods } from './property-collector-methods.ts'
import type { SoapRequest } from './request-reader.ts'
import type { CallInfo, Intervention, SoapServerOptions } from './server.ts'
import { ownManagerRef, SERVICE_INSTANCE } from './service-content.ts'
import type { LabSession, Peer } from './session.ts'
import { serviceInstance, sessionManager, sessionMethods } from './session-methods.ts'
import { SessionObjects } from './session-objects.ts'
import { taskManager, taskMethods } from './task-methods.ts'
import { type MethodType, TypeTable } from './type-table.ts'
import { labRef, type LabRef, type LabValue } from './value.ts'
import { viewMethods } from './view-methods.ts'
import type { WireContext, WireMethods } from './wire-context.ts'

/** A parsed call with what its HTTP request told. */
export type Incoming = {
  readonly request: SoapRequest
  readonly version: number
  readonly session: LabSession | undefined
  readonly peer: Peer
  readonly signal: AbortSignal
  readonly setCookie: (header: string) => void
}
/** What to answer: the encoded reply, or nothing because the connection is to be cut. */
export type Outcome = { readonly xml: string } | { readonly cut: true }

/** Methods that need no session. The property collector's reads are let through too and check for themselves. */
const OPEN = new Set(['RetrieveServiceContent', 'Login', 'CloneSession', 'RetrieveProperties', 'RetrievePropertiesEx'])

const OWN: WireMethods = { ...propertyCollectorMethods, ...viewMethods, ...sessionMethods, ...eventMethods, ...taskMethods }

/** Finds object and method of a call, runs it, encodes the reply. */
export class Dispatcher {
  readonly #options: SoapServerOptions
  readonly #types = new TypeTable()
  readonly #encoders = new Map<number, Encoder>()
  readonly #objects = new WeakMap<LabSession, SessionObjects>()
  readonly #context: WireContext

  constructor(options: SoapServerOptions, thumbprint: () => string) {
    this.#options = options
    for (const [type, methods] of Object.entries(options.methods)) {
      for (const method of Object.keys(methods)) {
        if (this.#types.method(type, method) === undefined) throw new Error(`the lab's type table has no method ${type}.${method}`)
      }
    }
    this.#context = {
      options,
      types: this.#types,
      encoder: (version) => this.#encoder(version),
      objects: (session) => this.#objectsOf(session),
      lookup: (ref, session) => this.#lookup(ref, session),
      thumbprint,
    }
  }

  /** Version index of a SOAPAction header, quoted or bare: `urn:vim25/8.0.3.0`. */
  version(soapAction: string | undefined): number {
    return this.#types.versionIndex(/\/([\w.]+)"?\s*$/.exec(soapAction ?? '')?.[1])
  }

  /** Runs one call. Throws VimFault. */
  async run(incoming: Incoming): Promise<Outcome> {
    const { request, version } = incoming
    const decoder = new Decoder(this.#types, version)
    const self = decoder.reference(request.self)
    const typeName = this.#lookup(self, incoming.session)?.ref.$ref ?? self.$ref
    const declared = this.#types.method(typeName, request.method)
    const known = declared !== undefined && declared.since <= version
    const args = known ? decoder.args(request.method, declared.params, request.params) : {}
    const info: CallInfo = { method: request.method, self, args, session: incoming.session }
    const cut = await this.#intervene(info, incoming)
    if (cut === 'before') return { cut: true }
    const session = incoming.session?.ended.aborted === true ? undefined : incoming.session
    if (session === undefined && !OPEN.has(request.method)) throw notAuthenticated(self)
    const object = this.#lookup(self, session)
    if (object === undefined) throw session === undefined ? notAuthenticated(self) : notFound(self)
    if (declared === undefined || !known) throw this.#unknown(object.ref, request.method)
    const value = (await this.#call(object, declared, args, { ...incoming, session })) ?? undefined
    const xml = this.#encoder(version).field({ ...declared.returns, optional: true }, declared.returns.type === 'void' ? undefined : value)
    return cut === 'after' ? { cut: true } : { xml: `<${request.method}Response xmlns="urn:vim25">${xml}</${request.method}Response>` }
  }

  /** Newest first. */
  get versions(): readonly string[] {
    return this.#types.versions.toReversed()
  }

  /** The fault's detail element; a fault whose own fields do not fit its type is the lab's mistake and goes out as SystemError. */
  encodeFault(fault: VimFault, version: number): string {
    try {
      return this.#encoder(version).fault(fault)
    } catch (error) {
      this.#options.log.error('the lab cannot encode a fault', { fault: fault.faultType, error: String(error) })
      return this.#encoder(version).fault(new VimFault('SystemError', { reason: `${fault.faultType}: ${String(error)}` }))
    }
  }

  async #intervene(info: CallInfo, incoming: Incoming): Promise<'before' | 'after' | undefined> {
    const asked = await this.#options.before?.(info)
    const interventions: readonly Intervention[] = asked === undefined ? [] : 'action' in asked ? [asked] : asked
    let cut: 'before' | 'after' | undefined
    for (const intervention of interventions) {
      switch (intervention.action) {
        case 'delay':
          // A server carries out what it has received, whether or not the caller still listens; only the end of the session stops it.
          await this.#options.clock.sleep(intervention.ms, { signal: incoming.session?.ended }).catch(() => undefined)
          break
        case 'fault':
          throw intervention.fault
        case 'expire':
          if (incoming.session !== undefined) this.#options.sessions.logout(incoming.session)
          break
        case 'cut':
          cut = intervention.when ?? 'before'
          break
      }
      if (cut === 'before') break
    }
    return cut
  }

  #call(object: ManagedObject, declared: MethodType, args: Readonly<Record<string, LabValue>>, incoming: Incoming): ReturnType<Method> {
    const { session, signal, version, peer, setCookie } = incoming
    for (const type of this.#types.lineage(object.ref.$ref)) {
      const own = OWN[type]?.[declared.name]
      if (own !== undefined) return own({ context: this.#context, session, self: object, args, signal, version, peer, setCookie })
      const method: Method | undefined = this.#options.methods[type]?.[declared.name]
      if (method !== undefined) {
        if (session === undefined) throw notAuthenticated(object.ref)
        return method({ session, self: object, args, signal })
      }
    }
    throw this.#unknown(object.ref, declared.name)
  }

  #unknown(receiver: LabRef, method: string): VimFault {
    this.#options.log.warn('the lab does not serve this method', { receiver: `${receiver.$ref} ${receiver.value}`, method })
    return new VimFault(
      'MethodNotFound',
      { receiver, method },
      `The lab does not serve ${receiver.$ref}.${method}; see "vcb lab capabilities".`,
    )
  }

  #lookup(ref: LabRef, session: LabSession | undefined): ManagedObject | undefined {
    const { kind } = this.#options
    if (session !== undefined) {
      if (ref.value === ownManagerRef(kind, 'propertyCollector').value) return defaultCollector(this.#context, session)
      const own = this.#objectsOf(session).get(ref)
      if (own !== undefined) return own
    }
    switch (ref.value) {
      case SERVICE_INSTANCE.value:
        return serviceInstance(this.#context)
      case ownManagerRef(kind, 'sessionManager').value:
        return sessionManager(this.#context, session)
      case ownManagerRef(kind, 'taskManager').value:
        return taskManager(this.#context)
      case ownManagerRef(kind, 'eventManager').value:
        return eventManager(this.#context)
      case ownManagerRef(kind, 'viewManager').value:
        return { ref: labRef('ViewManager', ref.value), property: () => undefined }
      case ownManagerRef(kind, 'propertyCollector').value:
        return { ref: labRef('PropertyCollector', ref.value), property: () => undefined }
      default:
        return this.#options.tasks.get(ref) ?? this.#options.store.get(ref)
    }
  }

  #objectsOf(session: LabSession): SessionObjects {
    const known = this.#objects.get(session)
    if (known !== undefined) return known
    const objects = new SessionObjects(session)
    this.#objects.set(session, objects)
    return objects
  }

  #encoder(version: number): Encoder {
    const known = this.#encoders.get(version)
    if (known !== undefined) return known
    const encoder = new Encoder(this.#types, version)
    this.#encoders.set(version, encoder)
    return encoder
  }
}
