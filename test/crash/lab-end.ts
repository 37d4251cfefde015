import type { Lab } from '../../src/lab/index.ts'
import type { Flow } from './flows.ts'
import { markedVms, type Observation, type SeenVm } from './observation.ts'
import { leftover, type Problem, wrongDigest } from './problems.ts'
import type { DiskDigests } from './repository-end.ts'

/**
 * Compares the lab after recovery (`after`) with what it was, with what the guests wrote meanwhile already in `before`. `points`: what the last point of
 * each VM has on its disks, for a VM that was restored.
 */
export async function judgeLab(
  lab: Lab,
  flow: Flow,
  before: Observation,
  after: Observation,
  points: ReadonlyMap<string, DiskDigests>,
): Promise<Problem[]> {
  const problems: Problem[] = []
  const { restoresVm } = flow
  const old = restoresVm?.replaces === true ? before.vms.find((vm) => vm.name === restoresVm.name) : undefined

  for (const was of before.vms) {
    const now = after.vms.find((vm) => vm.moref === was.moref)
    if (now !== undefined) problems.push(...compareVm(was, now), ...(await judgeRecords(lab, now)))
    else if (was !== old) problems.push(leftover(`${was.name} is gone`))
  }
  const made = after.vms.filter((vm) => !before.vms.some((was) => was.moref === vm.moref))
  for (const vm of made) {
    if (restoresVm === undefined || vm.name !== restoresVm.name) problems.push(leftover(`a VM ${vm.name} (${vm.moref}) is left`))
    else problems.push(...compareRestored(vm, points.get(restoresVm.of)))
  }
  if (restoresVm !== undefined) {
    const count = after.vms.filter((vm) => vm.name === restoresVm.name).length
    if (count > 1) problems.push(leftover(`there are ${count} VMs named ${restoresVm.name}`))
    if (restoresVm.replaces && count === 0) problems.push(leftover(`no VM is named ${restoresVm.name} any more`))
  }
  problems.push(...after.leases.map(leftover), ...after.tasks.map(leftover))

  const ours = new Set(made.filter((vm) => vm.name === restoresVm?.name).flatMap((vm) => vm.disks.map((disk) => homeOf(disk.fileName))))
  const oldHomes = new Set(
    old === undefined || after.vms.some((vm) => vm.moref === old.moref) ? [] : old.disks.map((disk) => homeOf(disk.fileName)),
  )
  const within = (homes: ReadonlySet<string>, path: string): boolean =>
    [...homes].some((home) => path === home || path.startsWith(`${home}/`))
  for (const file of after.files)
    if (!before.files.has(file) && !within(ours, file) && !changeTrackingFile(file)) problems.push(leftover(`datastore file ${file}`))
  for (const file of before.files)
    if (!after.files.has(file) && !within(oldHomes, file)) problems.push(leftover(`the datastore file ${file} is gone`))
  const lockedBefore = new Set(before.locks)
  for (const lock of after.locks) {
    if (
      !lockedBefore.has(lock) &&
      !/-ctk\.vmdk /.test(lock) &&
      !made.some((vm) => lock.includes(vm.name) || vm.disks.some((disk) => lock.includes(disk.fileName)))
    )
      problems.push(leftover(`lock ${lock}`))
  }
  for (const file of await markedVms(lab, after.files)) problems.push(leftover(`${file} is or has the mark of a restore`))
  return problems
}

function compareVm(was: SeenVm, now: SeenVm): Problem[] {
  const problems: Problem[] = []
  const same = (what: string, a: string, b: string): void => {
    if (a !== b) problems.push(leftover(`${was.name}: ${what} is ${b}, not ${a}`))
  }
  same('its name', was.name, now.name)
  same('its power state', was.powerState, now.powerState)
  same('the list of snapshots', namesOf(was), namesOf(now))
  same('the list of disks', linksOf(was), linksOf(now))
  same('what its guest sees', guestOf(was), guestOf(now))
  if (now.frozen) problems.push(leftover(`${was.name} is frozen`))
  if (now.consolidationNeeded) problems.push(leftover(`${was.name} needs consolidation`))
  for (const { method, source } of now.disabledMethods) problems.push(leftover(`${was.name}: ${method} is disabled by ${source}`))
  for (const [key, digest] of was.digests)
    if (now.digests.get(key) !== digest) problems.push(wrongDigest(`${was.name} disk ${key} is not what its guest wrote`))
  return problems
}

/** The guest's own view: every numbered record it wrote is there and whole. */
async function judgeRecords(lab: Lab, vm: SeenVm): Promise<Problem[]> {
  const report = await lab.control.fsck(vm.moref)
  return report.ok ? [] : [wrongDigest(`${vm.name}: ${report.disks.flatMap((disk) => disk.problems).join('; ')}`)]
}

function compareRestored(vm: SeenVm, point: DiskDigests | undefined): Problem[] {
  const wanted = [...(point?.values() ?? [])].sort()
  const found = [...vm.digests.values()].sort()
  const problems =
    wanted.length > 0 && wanted.join() === found.join() ? [] : [wrongDigest(`the restored VM ${vm.name} is not what the point has`)]
  return [...problems, ...compareVm({ ...vm, snapshots: [], digests: new Map(), disabledMethods: [], frozen: false }, vm)]
}

const namesOf = (vm: SeenVm): string => vm.snapshots.map((snapshot) => `${snapshot.name} (${snapshot.moref})`).join(', ') || 'none'
const linksOf = (vm: SeenVm): string => vm.disks.map((disk) => `${disk.label}=${disk.chain.join('<')}`).join(', ')

const guestOf = (vm: SeenVm): string => vm.guest?.disks.map((disk) => disk.name).join(', ') ?? 'nothing'

/** `[ds] dir/file` as `ds/dir`. */
const homeOf = (file: string): string => file.replace(/^\[([^\]]+)\] ?/, '$1/').replace(/\/[^/]*$/, '')

/** Change tracking that was switched on stays on, with a file for each disk. */
const changeTrackingFile = (file: string): boolean => file.endsWith('-ctk.vmdk')
