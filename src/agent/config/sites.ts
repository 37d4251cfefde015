import { hostname } from 'node:os'
import { z } from 'zod'
import type { FileOf } from './given.ts'
import { listOf } from './list-of.ts'
import { jobName } from './repositories.ts'

/** A place with proxies of its own: the VMs on these hosts, or with a disk on these datastores. Names, with wildcards. */
export type SiteConfig = { readonly name: string; readonly hosts: readonly string[]; readonly datastores: readonly string[] }

/** Who this proxy is among several, and what it serves. */
export type SitesConfig = {
  readonly proxy: {
    /** Shown, and named by `vcb agents --drain`. */
    readonly name: string
    /** Names of sites whose VMs it backs up, beside those of no site; undefined: of all. */
    readonly sites: readonly string[] | undefined
  }
  /** In the order of the file: a VM is of the first that it fits. The same on all proxies. */
  readonly sites: readonly SiteConfig[]
}

const names = listOf(z.string().min(1).max(200)).optional()

export const sitesKeys = {
  proxy: z.strictObject({ name: jobName.optional(), sites: listOf(jobName).optional() }).optional(),
  sites: z.record(jobName, z.strictObject({ hosts: names, datastores: names })).optional(),
} as const

export function sitesOf({ proxy, sites }: FileOf<typeof sitesKeys>): SitesConfig {
  const named = Object.entries(sites ?? {}).map(([name, { hosts = [], datastores = [] }]) => Object.freeze({ name, hosts, datastores }))
  return {
    proxy: Object.freeze({ name: proxy?.name ?? hostname(), sites: proxy?.sites }),
    sites: Object.freeze(named),
  }
}
