import type { Clock, TransportName, VmRef } from '../core/index.ts'
import { globMatcher, locateVms } from '../inventory/index.ts'
import { listDatastores, listHosts, type Vsphere } from '../vsphere/index.ts'
import type { SiteConfig } from './config/sites.ts'

/** Where a VM lies, by name. */
export type NamedPlace = { readonly host: string | undefined; readonly datastores: readonly string[] }

/** The first site that a VM is of: its host is one of the site's, or one of its disks is on a datastore of it. Names as vSphere compares them. */
export function siteOf(sites: readonly SiteConfig[], { host, datastores }: NamedPlace): string | undefined {
  const fits = (patterns: readonly string[], names: readonly string[]): boolean =>
    patterns.map(globMatcher).some((matches) => names.some((name) => matches(name)))
  return sites.find((site) => fits(site.hosts, host === undefined ? [] : [host]) || fits(site.datastores, datastores))?.name
}

/** Asks whether this proxy may back up a VM. */
export interface ServedVms {
  /**
   * True when the VM is of a site that this proxy serves, or of none, and one of `transports` (those of its job; undefined = the general ones) is one that this
   * proxy has. Asked before each run; vCenter is asked once a minute. Errors: those of the connection.
   */
  serves(vm: VmRef, transports: readonly TransportName[] | undefined): Promise<boolean>
}

export type ServedVmsParts = {
  readonly clock: Clock
  readonly vsphere: () => Promise<Vsphere>
  readonly sites: readonly SiteConfig[]
  /** Sites of this proxy; undefined = all. */
  readonly served: readonly string[] | undefined
  readonly transports: readonly TransportName[]
}

/** VMs move; their place is looked at anew after this. Milliseconds. */
const FRESH_MS = 60_000

export function createServedVms({ clock, vsphere, sites, served, transports }: ServedVmsParts): ServedVms {
  let known: { readonly at: number; readonly places: Promise<ReadonlyMap<string, NamedPlace>> } | undefined
  const places = (): Promise<ReadonlyMap<string, NamedPlace>> => {
    const now = clock.monotonicMs()
    if (known !== undefined && now - known.at < FRESH_MS) return known.places
    const asked = { at: now, places: namedPlaces(vsphere) }
    known = asked
    asked.places.catch(() => {
      if (known === asked) known = undefined
    })
    return asked.places
  }
  return Object.freeze({
    serves: async (vm: VmRef, wanted: readonly TransportName[] | undefined) => {
      if (wanted !== undefined && !wanted.some((name) => transports.includes(name))) return false
      if (served === undefined || sites.length === 0) return true
      const site = siteOf(sites, (await places()).get(vm.moref) ?? { host: undefined, datastores: [] })
      return site === undefined || served.includes(site)
    },
  })
}

async function namedPlaces(connect: () => Promise<Vsphere>): Promise<ReadonlyMap<string, NamedPlace>> {
  const vsphere = await connect()
  const [places, hosts, datastores] = await Promise.all([locateVms(vsphere), listHosts(vsphere), listDatastores(vsphere)])
  const hostNames = new Map(hosts.map(({ moref, name }) => [moref.value, name]))
  const datastoreNames = new Map(datastores.map(({ moref, name }) => [moref, name]))
  return new Map(
    [...places].map(([moref, place]): [string, NamedPlace] => [
      moref,
      {
        host: place.host === undefined ? undefined : hostNames.get(place.host),
        datastores: place.datastores.map((each) => datastoreNames.get(each)).filter((name) => name !== undefined),
      },
    ]),
  )
}
