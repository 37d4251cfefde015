import { type Abortable, AgentError, type MoRef, throwIfAborted } from '../core/index.ts'
import { faultError } from './fault-error.ts'
import { decodeLocalizedFault } from './soap.ts'
import { data, typed, type VimData } from './vim-data.ts'
import { isFault, VimFault } from './vim-fault.ts'
import type { VimNode } from './vim-node.ts'
import type { CallOptions, Vsphere } from './vsphere.ts'

export type ObjectProps = {
  readonly obj: MoRef
  /** Values by path; an unset property is absent from both. */
  readonly props: ReadonlyMap<string, VimNode>
  /** Properties that could not be read, with the fault's name: NoPermission, ManagedObjectNotFound, … */
  readonly missing: ReadonlyMap<string, string>
}

export type RetrieveSpec = {
  /** Matches subtypes. */
  readonly type: string
  readonly paths: readonly string[]
  /** Searched with everything below it; the root folder when absent. */
  readonly container?: MoRef | undefined
  /** Objects a page; 250 when absent. */
  readonly pageSize?: number | undefined
}

const PAGE = 250

/**
 * Every object of a type, page by page; holds one page at a time. When the session is renewed midway the search starts again and leaves
 * out what it gave already; objects made or removed meanwhile may or may not be among them.
 */
export async function* retrieveAll(vsphere: Vsphere, spec: RetrieveSpec, options?: Abortable): AsyncGenerator<ObjectProps> {
  const given = new Set<string>()
  for (let restarts = 0; ; restarts++) {
    try {
      for await (const object of retrievePages(vsphere, spec, options)) {
        if (given.has(object.obj.value)) continue
        given.add(object.obj.value)
        yield object
      }
      return
    } catch (error) {
      // The view or the token belonged to a session that is gone.
      const lost = isFault(error, 'ManagedObjectNotFound', 'NotAuthenticated') || isBadToken(error)
      if (!lost || restarts >= 3) throw error
      vsphere.log.debug('the inventory is read again from the start', { host: vsphere.host, given: given.size })
    }
  }
}

const isBadToken = (error: unknown): boolean =>
  isFault(error, 'InvalidProperty', 'InvalidArgument') && error instanceof Error && /Continue/.test(error.message)

async function* retrievePages(vsphere: Vsphere, spec: RetrieveSpec, options?: Abortable): AsyncGenerator<ObjectProps> {
  const [view] = await vsphere.call(
    'CreateContainerView',
    vsphere.service('viewManager'),
    { container: spec.container ?? vsphere.service('rootFolder'), type: [spec.type], recursive: true },
    options,
  )
  const viewRef = view?.asRef()
  if (viewRef === undefined) throw new AgentError('INTEGRITY', `${vsphere.host} made no view of its inventory.`)
  const { login } = vsphere
  let token: string | undefined
  try {
    const selection = typed('TraversalSpec', { name: 'view', type: 'ContainerView', path: 'view', skip: false })
    const specSet = filterSpec(spec.type, spec.paths, [data({ obj: viewRef, skip: true, selectSet: [selection] })])
    const collector = vsphere.service('propertyCollector')
    let [answer] = await vsphere.call(
      'RetrievePropertiesEx',
      collector,
      { specSet, options: data({ maxObjects: spec.pageSize ?? PAGE }) },
      options,
    )
    while (answer !== undefined) {
      token = answer.string('token')
      yield* await parseObjects(vsphere, answer, login)
      if (token === undefined || token === '') return
      throwIfAborted(options)
      const asked = token
      token = undefined
      ;[answer] = await vsphere.call('ContinueRetrievePropertiesEx', collector, { token: asked }, options)
      if (answer === undefined) throw new AgentError('INTEGRITY', `${vsphere.host} ended a list of ${spec.type} objects in the middle.`)
    }
  } finally {
    await letGo(vsphere, viewRef, token)
  }
}

/** A view and a token are freed with the session anyway; a failure to free them earlier is only logged. */
async function letGo(vsphere: Vsphere, view: MoRef, token: string | undefined): Promise<void> {
  try {
    if (token !== undefined && token !== '') {
      await vsphere.call('CancelRetrievePropertiesEx', vsphere.service('propertyCollector'), { token })
    }
    await vsphere.call('DestroyView', view)
  } catch (error) {
    vsphere.log.debug('a view was not freed', { host: vsphere.host, error: error instanceof Error ? error.message : String(error) })
  }
}

/** One object. NOT_FOUND when it is gone. */
export async function retrieveOne(vsphere: Vsphere, obj: MoRef, paths: readonly string[], options?: CallOptions): Promise<ObjectProps> {
  const [found] = await retrieveMany(vsphere, [obj], paths, options)
  if (found !== undefined) return found
  throw new AgentError('NOT_FOUND', `${options?.subject ?? `${obj.type} ${obj.value}`} does not exist any more at ${vsphere.host}.`, {
    subject: options?.subject ?? obj.value,
  })
}

/**
 * Several objects of one type; those that are gone are left out. A real server faults the whole call when one object is gone, so then each
 * is asked for by itself.
 */
export async function retrieveMany(
  vsphere: Vsphere,
  objects: readonly MoRef[],
  paths: readonly string[],
  options?: CallOptions,
): Promise<readonly ObjectProps[]> {
  const found: ObjectProps[] = []
  for (let start = 0; start < objects.length; start += PAGE) {
    found.push(...(await retrieveSome(vsphere, objects.slice(start, start + PAGE), paths, options)))
  }
  return found
}

async function retrieveSome(
  vsphere: Vsphere,
  objects: readonly MoRef[],
  paths: readonly string[],
  options?: CallOptions,
): Promise<readonly ObjectProps[]> {
  const [first] = objects
  if (first === undefined) return []
  const { login } = vsphere
  try {
    return await retrieveListed(vsphere, first.type, objects, paths, options)
  } catch (error) {
    if (isFault(error, 'NotAuthenticated') && vsphere.login !== login) return retrieveListed(vsphere, first.type, objects, paths, options)
    if (!isFault(error, 'ManagedObjectNotFound')) throw error
    if (objects.length === 1) return []
    const half = Math.ceil(objects.length / 2)
    return [
      ...(await retrieveSome(vsphere, objects.slice(0, half), paths, options)),
      ...(await retrieveSome(vsphere, objects.slice(half), paths, options)),
    ]
  }
}

async function retrieveListed(
  vsphere: Vsphere,
  type: string,
  objects: readonly MoRef[],
  paths: readonly string[],
  options?: CallOptions,
): Promise<readonly ObjectProps[]> {
  const collector = vsphere.service('propertyCollector')
  const specSet = filterSpec(
    type,
    paths,
    objects.map((obj) => data({ obj, skip: false })),
  )
  const found: ObjectProps[] = []
  const { login } = vsphere
  let [answer] = await vsphere.call('RetrievePropertiesEx', collector, { specSet, options: data({}) }, options)
  while (answer !== undefined) {
    found.push(...(await parseObjects(vsphere, answer, login)))
    const token = answer.string('token')
    if (token === undefined || token === '') break
    ;[answer] = await vsphere.call('ContinueRetrievePropertiesEx', collector, { token }, options)
  }
  return found.filter((object) => ![...object.missing.values()].includes('ManagedObjectNotFound'))
}

/** PropertyFilterSpec: which properties of which objects. */
export function filterSpec(type: string, paths: readonly string[], objectSet: readonly VimData[]): VimData {
  return data({ propSet: [data({ type, all: false, pathSet: paths })], objectSet })
}

/** The objects of one answer. When it says that the session is gone, logs in again and throws the fault, for the caller to ask again. */
async function parseObjects(vsphere: Vsphere, answer: VimNode, login: number): Promise<readonly ObjectProps[]> {
  try {
    return answer.all('objects').map(parseObject)
  } catch (error) {
    if (!(error instanceof VimFault)) throw error
    await vsphere.http.renew(login)
    throw faultError(error, 'RetrievePropertiesEx', vsphere.host)
  }
}

/** ObjectContent. */
function parseObject(node: VimNode): ObjectProps {
  const obj = node.ref('obj')
  if (obj === undefined) throw new AgentError('INTEGRITY', 'The server listed an object without its reference.')
  const props = new Map<string, VimNode>()
  for (const entry of node.all('propSet')) {
    const value = entry.get('val')
    if (value !== undefined) props.set(entry.string('name') ?? '', value)
  }
  const missing = new Map<string, string>()
  for (const entry of node.all('missingSet')) {
    const fault = entry.get('fault')
    const known = fault === undefined ? undefined : decodeLocalizedFault(fault)
    // Some servers answer a forgotten session property by property.
    if (known?.faultName === 'NotAuthenticated') throw known
    missing.set(entry.string('path') ?? '', known?.faultName ?? 'unknown')
  }
  return { obj, props, missing }
}
