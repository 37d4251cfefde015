import type { BackupMode, ErrorCode, VmRef } from '../core/index.ts'
import { admit, byPriority, type Place, pressedFirst, type Room, type Waiting } from './admission.ts'
import { createDuePlanner, type DuePlanner } from './due.ts'
import type { Due, JobSchedule, PastRun, VmRecord } from './job-schedule.ts'
import { createTimeline } from './timeline.ts'

export type SimulatedJob = { readonly name: string; readonly schedule: JobSchedule; readonly vms: readonly SimulatedVm[] }

export type SimulatedVm = {
  readonly vm: VmRef
  readonly place: Place
  /** What the history says at the beginning. */
  readonly record?: Partial<Pick<VmRecord, 'knownSince' | 'lastGoodAt' | 'lastFullAt' | 'runs' | 'expectMs'>> | undefined
}

export type Simulation = {
  /** Both ms since 1970; runs begin in [from, to) and are followed to their end. */
  readonly from: number
  readonly to: number
  readonly room: Room
  /** How long a run takes, ms. */
  readonly howLong: (vm: VmRef, mode: BackupMode, begunAt: number) => number
  /** How a run ends; always well when absent. */
  readonly outcome?: ((vm: VmRef, begunAt: number, attempt: number) => ErrorCode | undefined) | undefined
  /** When nothing begins, because no agent runs. */
  readonly away?: readonly { readonly from: number; readonly to: number }[] | undefined
}

export type SimulatedRun = Due & PastRun

/** A stretch in which the last good point of a VM was older than its job allows. */
export type RpoMiss = { readonly job: string; readonly vm: VmRef; readonly from: number; readonly to: number }

export type Simulated = { readonly runs: readonly SimulatedRun[]; readonly misses: readonly RpoMiss[] }

/** As many of its last runs are known of a VM as count for another try. */
const RUNS_KEPT = 32
/** Of what a run will take, the last one says half. */
const EXPECT_SHARE = 0.5

type Vm = {
  readonly planner: DuePlanner
  readonly place: Place
  record: VmRecord
  running: boolean
  /** Of the looks at it that were planned only the last one counts. */
  planned: number
}
type Queued = Waiting & { readonly of: Vm }

/**
 * What a scheduler and dispatcher of these rules do from one moment to another, by the same code as the agent: `vcb plan` and the tests of whole years. Pure;
 * a year of 1,000 VMs takes seconds.
 */
export function simulate(jobs: readonly SimulatedJob[], options: Simulation): Simulated {
  const { from, to, room } = options
  const runs: SimulatedRun[] = []
  const misses: RpoMiss[] = []
  const waiting: Queued[] = []
  const running = new Set<Queued>()
  const line = createTimeline()
  const vms = jobs.flatMap(({ name, schedule, vms: members }) => {
    const planner = createDuePlanner(name, schedule)
    return members.map(({ vm, place, record }): Vm => {
      const known = { vm, knownSince: from, lastGoodAt: undefined, lastFullAt: undefined, runs: [], expectMs: undefined, ...record }
      return { planner, place, record: known, running: false, planned: 0 }
    })
  })
  const isAway = (at: number): number | undefined => options.away?.find((each) => each.from <= at && at < each.to)?.to
  const miss = ({ planner, record }: Vm, until: number): void => {
    const deadline = planner.deadline(record)
    if (deadline !== undefined && deadline < until) misses.push({ job: planner.job, vm: record.vm, from: deadline, to: until })
  }

  const lookAt = (vm: Vm, at: number): void => {
    const mine = ++vm.planned
    line.add(at, () => {
      if (vm.planned === mine) look(vm, at)
    })
  }

  /** Looks at a VM: it joins those that wait, or is looked at again later. */
  const look = (vm: Vm, now: number): void => {
    if (vm.running) return
    const index = waiting.findIndex(({ of }) => of === vm)
    if (index >= 0) waiting.splice(index, 1)
    const back = isAway(now)
    if (back !== undefined) return lookAt(vm, back)
    const due = vm.planner.due(vm.record, now)
    if (due === undefined) {
      const next = vm.planner.next(vm.record, now)
      if (next !== undefined && next < to) lookAt(vm, next)
      return
    }
    insert(waiting, { due, place: vm.place, of: vm })
    const { openUntil } = due
    if (openUntil !== undefined) lookAt(vm, openUntil)
  }

  const begin = (item: Queued, now: number): void => {
    waiting.splice(waiting.indexOf(item), 1)
    running.add(item)
    item.of.running = true
    item.of.planned++
    const { vm, mode, attempt } = item.due
    const endedAt = now + Math.max(1, Math.round(options.howLong(vm, mode, now)))
    line.add(endedAt, () => end(item, { begunAt: now, endedAt, error: options.outcome?.(vm, now, attempt) }))
  }

  const end = (item: Queued, run: PastRun): void => {
    const { of, due } = item
    running.delete(item)
    of.running = false
    runs.push({ ...due, ...run })
    const good = run.error === undefined
    if (good) miss(of, run.endedAt)
    const { record } = of
    const took = run.endedAt - run.begunAt
    of.record = {
      ...record,
      lastGoodAt: good ? run.begunAt : record.lastGoodAt,
      lastFullAt: good && due.mode === 'full' ? run.begunAt : record.lastFullAt,
      runs: [run, ...record.runs].slice(0, RUNS_KEPT),
      expectMs: good ? (record.expectMs ?? took) * (1 - EXPECT_SHARE) + took * EXPECT_SHARE : record.expectMs,
    }
    look(of, run.endedAt)
  }

  for (const vm of vms) lookAt(vm, from)
  // Whoever waits begins when the agent is back.
  for (const each of options.away ?? []) line.add(each.to, () => undefined)
  for (let now = line.step(); now !== undefined; now = line.step()) {
    if (now >= to || isAway(now) !== undefined) continue
    if (running.size >= room.proxy) continue
    for (const item of admit(pressedFirst(waiting, now), [...running], room)) begin(item, now)
  }
  for (const vm of vms) miss(vm, to)
  return { runs, misses }
}

/** Into its place in the order of `byPriority`. */
function insert(waiting: Queued[], item: Queued): void {
  let [low, high] = [0, waiting.length]
  while (low < high) {
    const middle = (low + high) >> 1
    const other = waiting[middle]
    if (other !== undefined && byPriority(other, item) <= 0) low = middle + 1
    else high = middle
  }
  waiting.splice(low, 0, item)
}
