import { type Abortable, AgentError, type DatastoreRef, formatBytes, type MoRef } from '../core/index.ts'
import { listDatastores } from './datastore.ts'
import { type HostRef, listHosts } from './host.ts'
import { type Datacenter, encodeName, type InventoryTree, listDatacenters, loadInventoryTree } from './inventory-tree.ts'
import { retrieveAll, retrieveOne } from './property-collector.ts'
import type { Vsphere } from './vsphere.ts'

/** Names or inventory paths; what is left out is chosen when one choice fits, or any fits equally well. */
export type PlacementWish = {
  readonly datacenter?: string | undefined
  /** Below the datacenter's VM folder (`prod/web`) or a whole path (`/DC/vm/prod/web`). */
  readonly folder?: string | undefined
  readonly host?: string | undefined
  readonly cluster?: string | undefined
  readonly resourcePool?: string | undefined
  readonly datastore?: string | undefined
}

export type Placement = {
  readonly datacenter: Datacenter
  readonly folder: MoRef
  readonly pool: MoRef
  readonly host: HostRef
  readonly datastore: DatastoreRef
}

/**
 * Where a restored VM goes: a datacenter, a VM folder, a host that is connected and not in maintenance and has the datastore mounted, its
 * pool, and that datastore. Changes nothing. NOT_FOUND naming the choices, USAGE when several datacenters or pools fit, CAPACITY when
 * `neededBytes` do not fit the datastore, UNAVAILABLE when no host can run it.
 */
export async function findPlacement(
  vsphere: Vsphere,
  wish: PlacementWish,
  options?: Abortable & { readonly neededBytes?: number | undefined },
): Promise<Placement> {
  const tree = await loadInventoryTree(vsphere, options)
  const datacenter = await chooseDatacenter(vsphere, tree, wish, options)
  const all = await listHosts(vsphere, datacenter.moref, options)
  const hosts = await usableHosts(vsphere, all, wish, options)
  const datastore = chooseDatastore(await listDatastores(vsphere, datacenter.moref, options), hosts, wish, options?.neededBytes ?? 0)
  const [host] = hosts.filter(({ datastores }) => datastores.some(({ value }) => value === datastore.moref))
  if (host === undefined) {
    const where = wish.host ?? wish.cluster ?? datacenter.name
    throw new AgentError('UNAVAILABLE', `No usable host of ${where} has the datastore ${datastore.name} mounted.`, {
      subject: datastore.name,
      next: 'Name another host or datastore.',
      retry: 'never',
    })
  }
  const folder = await findFolder(vsphere, tree, datacenter, wish.folder, options)
  return { datacenter, folder, pool: await choosePool(vsphere, host, wish.resourcePool, options), host, datastore }
}

async function chooseDatacenter(vsphere: Vsphere, tree: InventoryTree, wish: PlacementWish, options?: Abortable): Promise<Datacenter> {
  const all = await listDatacenters(vsphere, options)
  if (wish.datacenter !== undefined) return one('datacenter', wish.datacenter, all, (datacenter) => datacenter.path)
  if (wish.folder?.startsWith('/') === true) {
    const above = tree.datacenterOf(tree.at(wish.folder))
    if (above !== undefined) return above
  }
  const fitting: Datacenter[] = []
  for (const datacenter of all) {
    if (wish.host !== undefined && !(await listHosts(vsphere, datacenter.moref, options)).some((host) => matches(wish.host, host.name)))
      continue
    if (
      wish.datastore !== undefined &&
      !(await listDatastores(vsphere, datacenter.moref, options)).some(({ name }) => name === wish.datastore)
    )
      continue
    fitting.push(datacenter)
  }
  const [first, second] = fitting
  if (first !== undefined && second === undefined) return first
  const names = (first === undefined ? all : fitting).map(({ path }) => path).join(', ')
  throw first === undefined
    ? new AgentError('NOT_FOUND', `No datacenter has the wanted host or datastore; there are ${names}.`, {
        next: 'Name the datacenter, host and datastore as they are.',
      })
    : new AgentError('USAGE', `Several datacenters are possible: ${names}.`, { next: 'Name one of them.' })
}

async function usableHosts(
  vsphere: Vsphere,
  all: readonly HostRef[],
  wish: PlacementWish,
  options?: Abortable,
): Promise<readonly HostRef[]> {
  let hosts = all
  if (wish.cluster !== undefined) {
    const names = new Map<string, string>()
    for await (const { obj, props } of retrieveAll(vsphere, { type: 'ComputeResource', paths: ['name'] }, options)) {
      names.set(obj.value, props.get('name')?.text ?? '')
    }
    hosts = hosts.filter(({ compute }) => matches(wish.cluster, names.get(compute.value) ?? ''))
    if (hosts.length === 0) throw unknown('cluster', wish.cluster, [...names.values()])
  }
  if (wish.host !== undefined) {
    hosts = hosts.filter(({ name }) => matches(wish.host, name))
    if (hosts.length === 0)
      throw unknown(
        'host',
        wish.host,
        all.map(({ name }) => name),
      )
  }
  const usable = hosts.filter(({ connected, maintenance }) => connected && !maintenance)
  if (usable.length > 0) return usable
  throw new AgentError(
    'UNAVAILABLE',
    `No host is usable: ${hosts.map(({ name }) => name).join(', ') || 'there is none'} (disconnected or in maintenance).`,
    {
      next: 'Name another host, or bring it out of maintenance.',
      retry: 'later',
    },
  )
}

function chooseDatastore(all: readonly DatastoreRef[], hosts: readonly HostRef[], wish: PlacementWish, neededBytes: number): DatastoreRef {
  const mounted = new Set(hosts.flatMap(({ datastores }) => datastores.map(({ value }) => value)))
  if (wish.datastore !== undefined) {
    const named = all.find(({ name }) => matches(wish.datastore, name))
    if (named === undefined)
      throw unknown(
        'datastore',
        wish.datastore,
        all.map(({ name }) => name),
      )
    if (!named.accessible)
      throw new AgentError('UNAVAILABLE', `The datastore ${named.name} is not accessible.`, { subject: named.name, retry: 'later' })
    if (named.freeBytes < neededBytes) throw full(named, neededBytes)
    return named
  }
  const [roomiest] = all.filter(({ moref, accessible }) => accessible && mounted.has(moref)).sort((a, b) => b.freeBytes - a.freeBytes)
  if (roomiest === undefined)
    throw new AgentError('NOT_FOUND', 'No datastore of these hosts is accessible.', { next: 'Name another host or datastore.' })
  if (roomiest.freeBytes < neededBytes) throw full(roomiest, neededBytes)
  return roomiest
}

const full = (datastore: DatastoreRef, neededBytes: number): AgentError =>
  new AgentError(
    'CAPACITY',
    `The datastore ${datastore.name} has ${formatBytes(datastore.freeBytes)} free, ${formatBytes(neededBytes)} are needed.`,
    {
      subject: datastore.name,
      next: 'Name a datastore with more room.',
      retry: 'never',
    },
  )

/** A VM folder by its path below the datacenter's, or by its whole path; the datacenter's own VM folder when `wanted` is absent. */
export async function findFolder(
  vsphere: Vsphere,
  tree: InventoryTree,
  datacenter: Datacenter,
  wanted: string | undefined,
  options?: Abortable,
): Promise<MoRef> {
  const { props } = await retrieveOne(vsphere, datacenter.moref, ['vmFolder'], options)
  const root = props.get('vmFolder')?.asRef()
  if (root === undefined)
    throw new AgentError('UNAVAILABLE', `The VM folder of ${datacenter.name} cannot be read.`, { subject: datacenter.name })
  if (wanted === undefined || wanted === '') return root
  const path = wanted.startsWith('/') ? wanted : `${tree.pathOf(root) ?? `${datacenter.path}/vm`}/${wanted}`
  const found = tree.at(path)
  if (found?.type === 'Folder' && tree.isBelow(found, root)) return found
  throw new AgentError('NOT_FOUND', `There is no VM folder ${path}.`, {
    subject: path,
    next: 'Make the folder in vCenter, or name an existing one.',
  })
}

async function choosePool(vsphere: Vsphere, host: HostRef, wanted: string | undefined, options?: Abortable): Promise<MoRef> {
  const { props } = await retrieveOne(vsphere, host.compute, ['resourcePool'], options)
  const root = props.get('resourcePool')?.asRef()
  if (root === undefined) throw new AgentError('UNAVAILABLE', `The resource pool of ${host.name} cannot be read.`, { subject: host.name })
  if (wanted === undefined) return root
  const pools: { readonly moref: MoRef; readonly name: string }[] = []
  for await (const { obj, props: pool } of retrieveAll(vsphere, { type: 'ResourcePool', paths: ['name'], container: root }, options)) {
    pools.push({ moref: obj, name: pool.get('name')?.text ?? '' })
  }
  return one('resource pool', wanted, [...pools, { moref: root, name: 'Resources' }], ({ name }) => name).moref
}

/** By name, by whole path, or by an inventory path that ends in the name. */
const matches = (wanted: string | undefined, name: string): boolean =>
  wanted !== undefined && (wanted === name || (wanted.startsWith('/') && (wanted.split('/').at(-1) ?? '') === encodeName(name)))

function one<T extends { readonly name: string }>(kind: string, wanted: string, all: readonly T[], label: (item: T) => string): T {
  const fitting = all.filter((item) => item.name === wanted || label(item) === wanted)
  const [first, second] = fitting
  if (first === undefined) throw unknown(kind, wanted, all.map(label))
  if (second !== undefined) {
    throw new AgentError('USAGE', `Several ${kind}s are named ${wanted}: ${fitting.map(label).join(', ')}.`, {
      subject: wanted,
      next: 'Give the whole path.',
    })
  }
  return first
}

function unknown(kind: string, wanted: string, choices: readonly string[]): AgentError {
  const listed = [...new Set(choices)].sort()
  const shown = listed.slice(0, 10).join(', ') + (listed.length > 10 ? `, and ${listed.length - 10} more` : '')
  return new AgentError('NOT_FOUND', `There is no ${kind} ${JSON.stringify(wanted)}; there is ${shown === '' ? 'none' : shown}.`, {
    subject: wanted,
  })
}
