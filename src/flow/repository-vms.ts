import { AgentError, type PointSummary } from '../core/index.ts'
import { globMatcher, parseExpressions, parseUuid, type Term } from '../inventory/index.ts'

/** A VM as its restore points know it; vCenter may have forgotten it. */
export type RepositoryVm = {
  /** Of its newest point: a VM that was renamed goes by its last name. */
  readonly name: string
  readonly instanceUuid: string
  readonly vcenterUuid: string
  /** Newest first. */
  readonly points: readonly PointSummary[]
}

/** The VMs of a listing, in order of name. A VM is its instanceUuid in its vCenter, whatever it was called. */
export function vmsOf(points: readonly PointSummary[]): readonly RepositoryVm[] {
  const byVm = Map.groupBy(points, (point) => `${point.vcenterUuid}/${point.instanceUuid}`)
  return [...byVm.values()]
    .flatMap((all): RepositoryVm[] => {
      const newestFirst = all.toSorted((a, b) => (Date.parse(b.time) || 0) - (Date.parse(a.time) || 0) || (a.id < b.id ? 1 : -1))
      const [newest] = newestFirst
      if (newest === undefined) return []
      return [{ name: newest.vmName, instanceUuid: newest.instanceUuid, vcenterUuid: newest.vcenterUuid, points: newestFirst }]
    })
    .sort((a, b) => (a.name < b.name ? -1 : a.name > b.name ? 1 : a.instanceUuid < b.instanceUuid ? -1 : 1))
}

/**
 * The VMs that expressions name: `web01`, `web*`, `uuid:…`, `!web02`; none = all. Several VMs of one name are all meant, each for itself.
 * NOT_FOUND when a term names no VM; USAGE for terms that only vCenter could answer (folder, tag, ip, …).
 */
export function chooseVms(vms: readonly RepositoryVm[], expressions: readonly string[], where: string): readonly RepositoryVm[] {
  const terms = parseExpressions(expressions)
  if (terms.length === 0) return vms
  const matchers = terms.map((term) => ({ term, test: matcher(term) }))
  for (const { term, test } of matchers) {
    if (term.exclude || vms.some(test)) continue
    throw new AgentError('NOT_FOUND', `${JSON.stringify(term.source)} names no VM that has restore points in ${where}.`, {
      subject: term.source,
      next: 'List them with "vcb points".',
    })
  }
  const wanted = matchers.filter(({ term }) => !term.exclude)
  const unwanted = matchers.filter(({ term }) => term.exclude)
  return vms.filter((vm) => (wanted.length === 0 || wanted.some(({ test }) => test(vm))) && !unwanted.some(({ test }) => test(vm)))
}

function matcher(term: Term): (vm: RepositoryVm) => boolean {
  switch (term.kind) {
    case 'name':
      return (vm) => vm.name === term.value
    case 'glob': {
      const matches = globMatcher(term.value)
      return (vm) => matches(vm.name)
    }
    case 'uuid':
      return (vm) => vm.instanceUuid === term.value || parseUuid(vm.instanceUuid) === term.value
    default:
      throw new AgentError('USAGE', `The selection ${JSON.stringify(term.source)} cannot be answered from a repository.`, {
        subject: term.source,
        next: 'Select by name, pattern or uuid:; a repository knows neither folders nor tags nor addresses.',
      })
  }
}
