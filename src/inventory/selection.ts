import { type Abortable, AgentError, type VmRef } from '../core/index.ts'
import { encodeName, findTaggedVms, findVms, type Vsphere } from '../vsphere/index.ts'
import { parseExpressions, parseUuid, type Term } from './expression.ts'
import { globMatcher, hasWildcard, unescape } from './pattern.ts'
import { byPath, type ScannedVm, scanVms } from './vm-scan.ts'

/**
 * The VMs the expressions name, in order of path, each once. Exclusions count last, whatever their place; with exclusions only, everything else
 * is selected. Templates only when named by an exact term. NOT_FOUND when a positive term matches nothing; USAGE listing the paths when a plain
 * name is borne by several VMs and `bulk` is not set. A few calls, whatever the number of VMs.
 */
export async function selectVms(
  vsphere: Vsphere,
  expressions: readonly string[],
  options?: Abortable & { readonly bulk?: boolean | undefined },
): Promise<readonly VmRef[]> {
  const terms = parseExpressions(expressions)
  if (terms.length === 0) throw new AgentError('USAGE', 'No VM is named.', { next: 'Name a VM, or use a pattern such as "*".' })
  const matchers = await Promise.all(
    terms.map(async (term) => ({ term, test: await matcher(vsphere, term, options), found: [] as VmRef[] })),
  )
  const wanted = new Map<string, VmRef>()
  const unwanted = new Set<string>()
  const onlyExclusions = terms.every(({ exclude }) => exclude)
  for await (const scanned of scanVms(vsphere, [], options)) {
    if (onlyExclusions && !scanned.isTemplate) wanted.set(scanned.vm.moref, scanned.vm)
    for (const { term, test, found } of matchers) {
      if (!test(scanned)) continue
      if (term.exclude) unwanted.add(scanned.vm.moref)
      else if (!scanned.isTemplate || EXACT.has(term.kind)) {
        found.push(scanned.vm)
        wanted.set(scanned.vm.moref, scanned.vm)
      }
    }
  }
  for (const { term, found } of matchers) if (!term.exclude) checkFound(vsphere, term, found, unwanted, options?.bulk ?? false)
  return [...wanted.values()].filter(({ moref }) => !unwanted.has(moref)).sort(byPath)
}

const EXACT: ReadonlySet<Term['kind']> = new Set(['name', 'uuid', 'moref', 'ip'])

function checkFound(vsphere: Vsphere, term: Term, found: readonly VmRef[], unwanted: ReadonlySet<string>, bulk: boolean): void {
  if (found.length === 0) {
    throw new AgentError('NOT_FOUND', `${JSON.stringify(term.source)} matches no VM at ${vsphere.host}.`, {
      subject: term.source,
      next: 'List the VMs with "vcb vms" and name one of those.',
    })
  }
  const left = found.filter(({ moref }) => !unwanted.has(moref))
  if (bulk || left.length < 2 || !EXACT.has(term.kind)) return
  const paths = left
    .toSorted(byPath)
    .slice(0, 20)
    .map(({ path, moref }) => `${path} (moref:${moref})`)
  throw new AgentError('USAGE', `${JSON.stringify(term.source)} names ${left.length} VMs: ${paths.join(', ')}.`, {
    subject: term.source,
    next: 'Name one of them by moref: or uuid:, or ask for all of them in bulk.',
  })
}

/** A test for one term. Terms that only the server can decide are asked for once. */
async function matcher(vsphere: Vsphere, term: Term, options?: Abortable): Promise<(vm: ScannedVm) => boolean> {
  switch (term.kind) {
    case 'name':
      return ({ vm }) => vm.name === term.value
    case 'glob': {
      const matches = globMatcher(term.value)
      return ({ vm }) => matches(vm.name)
    }
    case 'folder':
      return folderMatcher(term.value)
    case 'uuid':
      return ({ vm }) => parseUuid(vm.instanceUuid) === term.value || parseUuid(vm.biosUuid) === term.value
    case 'moref':
      return ({ vm }) => vm.moref === term.value
    case 'power':
      return ({ powerState }) => powerState === term.value
    case 'ip':
      return among(await findVms(vsphere, { by: 'ip', ip: term.value }, options))
    case 'tag':
      return among(await findTaggedVms(vsphere, term.value, options))
  }
}

const among = (refs: readonly { readonly value: string }[]): ((vm: ScannedVm) => boolean) => {
  const ids = new Set(refs.map(({ value }) => value))
  return ({ vm }) => ids.has(vm.moref)
}

/** Everything below a folder. `/DC/prod` is taken as `/DC/vm/prod` too, because that is how people write it. */
function folderMatcher(folder: string): (vm: ScannedVm) => boolean {
  const steps = splitPath(folder)
  return ({ vm }) => {
    const path = vm.path.split('/').slice(1, -1)
    return (
      startsWith(path, steps) ||
      startsWith(
        path.filter((step, index) => !(index > 0 && step === 'vm' && path.indexOf('vm') === index)),
        steps,
      )
    )
  }
}

function startsWith(path: readonly string[], steps: readonly ((step: string) => boolean)[]): boolean {
  return path.length >= steps.length && steps.every((matches, index) => matches(path[index] ?? ''))
}

/** Steps of a folder pattern; `/` inside a name is written %2f as in inventory paths. */
function splitPath(folder: string): readonly ((step: string) => boolean)[] {
  return folder
    .split('/')
    .filter((step) => step !== '')
    .map((step) => {
      if (hasWildcard(step)) return globMatcher(step)
      const wanted = encodeName(unescape(step)).toLowerCase()
      return (one: string) => one.toLowerCase() === wanted
    })
}
