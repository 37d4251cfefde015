import { AgentError } from '../core/index.ts'
import type { VimNode } from './vim-node.ts'

/** Newest API this client was written against; a server is never asked to speak a newer one. */
export const NEWEST = '8.0.3.0'
/** Oldest API whose types are used here (ExportSnapshot, HttpNfcLease, HasPrivilegeOnEntities). */
const OLDEST = '5.5'

/** Negative when `a` is older than `b`; `6.7.1` < `7.0.0.0` < `8.0.3.0`. */
export function compareVersions(a: string, b: string): number {
  const left = a.split('.').map(Number)
  const right = b.split('.').map(Number)
  for (let part = 0; part < Math.max(left.length, right.length); part++) {
    const difference = (left[part] ?? 0) - (right[part] ?? 0)
    if (difference !== 0) return difference
  }
  return 0
}

const isVersion = (text: string): boolean => /^\d+(\.\d+){1,3}$/.test(text)

/** Versions of urn:vim25 in `vimServiceVersions.xml`, the current one and the prior ones. */
export function parseServiceVersions(root: VimNode): readonly string[] {
  const vim = root.all('namespace').find((entry) => entry.string('name') === 'urn:vim25')
  if (vim === undefined) return []
  const priors = vim.get('priorVersions')?.all('version') ?? []
  return [vim.string('version') ?? '', ...priors.map((prior) => prior.text)].filter(isVersion)
}

/** The newest version both sides speak: min(server, 8.0.3.0). UNAVAILABLE when the server is older than 5.5. */
export function chooseVersion(offered: readonly string[], host: string): string {
  const usable = offered.filter((version) => compareVersions(version, NEWEST) <= 0).sort(compareVersions)
  const chosen = usable.at(-1)
  if (chosen === undefined || compareVersions(chosen, OLDEST) < 0) {
    throw new AgentError(
      'UNAVAILABLE',
      `${host} speaks no vSphere API between ${OLDEST} and ${NEWEST} (it offers ${offered.join(', ') || 'none'}).`,
      {
        subject: host,
        next: 'Check that the address is that of a vCenter or ESXi 5.5 or later.',
        retry: 'never',
      },
    )
  }
  return chosen
}
