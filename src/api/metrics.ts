import { formatMetric, type Metric } from './metric-text.ts'
import type { MetricFacts, RepositoryFacts, VmFacts } from './metric-facts.ts'

/** What the process says of itself. */
export type ProcessFacts = {
  readonly residentBytes: number
  readonly heapBytes: number
  readonly cpuSeconds: number
  readonly uptimeSeconds: number
  /** Of the last whole minute, seconds. */
  readonly loopDelay: { readonly mean: number; readonly p50: number; readonly p99: number; readonly max: number }
}

/** VMs of more than this are left out, and counted: what a scrape costs must not grow without an end. */
const MOST_VMS = 10_000

/** The text of `/metrics`, format version 0.0.4. */
export function renderMetrics(facts: MetricFacts, own: ProcessFacts, now: Date, version: string): string {
  const vms = facts.vms.slice(0, MOST_VMS)
  const nowS = now.getTime() / 1000
  const metrics: Metric[] = [
    gauge('vcb_info', 'The agent, as labels.', [[{ version }, 1]]),
    gauge('vcb_draining', '1 while nothing new begins.', [[{}, facts.draining ? 1 : 0]]),
    perVm(
      'vcb_vm_last_good_point_timestamp_seconds',
      'When the newest good restore point of a VM was taken; absent without one.',
      vms,
      (vm) => (vm.lastGoodAt === undefined ? undefined : vm.lastGoodAt / 1000),
    ),
    perVm('vcb_vm_last_good_point_age_seconds', 'Age of the newest good restore point of a VM; +Inf without one.', vms, (vm) =>
      vm.lastGoodAt === undefined ? Number.POSITIVE_INFINITY : Math.max(0, nowS - vm.lastGoodAt / 1000),
    ),
    perVm('vcb_vm_rpo_seconds', 'How old the newest good restore point of a VM may get.', vms, (vm) =>
      vm.rpoMs === undefined ? undefined : vm.rpoMs / 1000,
    ),
    perVm('vcb_vm_rpo_kept', '1 while the newest good restore point of a VM is not older than its RPO allows.', vms, (vm) =>
      vm.rpoMs === undefined ? undefined : vm.lastGoodAt !== undefined && now.getTime() - vm.lastGoodAt <= vm.rpoMs ? 1 : 0,
    ),
    perVm('vcb_vm_last_run_succeeded', '1 when the last run of a VM succeeded.', vms, ({ last }) =>
      last === undefined ? undefined : last.result === 'succeeded' ? 1 : 0,
    ),
    perVm('vcb_vm_last_run_seconds', 'How long the last run of a VM took.', vms, ({ last }) => seconds(last?.tookMs)),
    perVm('vcb_vm_last_run_read_bytes', 'What the last run of a VM read.', vms, ({ last }) => last?.readBytes),
    perVm('vcb_vm_last_run_stored_bytes', 'What the repository grew by in the last run of a VM.', vms, ({ last }) => last?.storedBytes),
    perVm('vcb_vm_last_snapshot_lifetime_seconds', 'How long the snapshot of the last run of a VM existed.', vms, ({ last }) =>
      seconds(last?.snapshotLifetimeMs),
    ),
    perVm('vcb_vm_last_frozen_seconds', 'How long the guest was frozen in the last run of a VM.', vms, ({ last }) =>
      seconds(last?.frozenMs),
    ),
    gauge('vcb_vms_left_out', 'VMs that are not shown, because there are more than a scrape holds.', [[{}, facts.vms.length - vms.length]]),
    {
      name: 'vcb_runs_total',
      type: 'counter',
      help: 'Runs that ended since the agent began.',
      samples: facts.jobs.flatMap(({ job, runs }) =>
        Object.entries(runs).map(([result, value]) => [{ job: job ?? '', result }, value] as const),
      ),
    },
    perJob('vcb_read_bytes_total', 'Bytes read from disks since the agent began.', facts, ({ readBytes }) => readBytes),
    perJob('vcb_stored_bytes_total', 'Bytes that repositories grew by since the agent began.', facts, ({ storedBytes }) => storedBytes),
    gauge('vcb_queue_runs', 'Runs that wait for their turn, and that run.', [
      [{ state: 'waiting' }, facts.queue.waiting],
      [{ state: 'running' }, facts.queue.running],
    ]),
    gauge(
      'vcb_limit',
      'Places of a limit.',
      facts.limits.map(({ name, limit }) => [{ name }, limit]),
    ),
    gauge(
      'vcb_limit_used',
      'Places of a limit that are taken.',
      facts.limits.map(({ name, used }) => [{ name }, used]),
    ),
    gauge(
      'vcb_limit_waiting',
      'Who waits for a place of a limit.',
      facts.limits.map(({ name, waiting }) => [{ name }, waiting]),
    ),
    perRepository('vcb_repository_bytes', 'Size of a repository, when it was last measured.', facts, ({ bytes }) => bytes),
    perRepository(
      'vcb_repository_unused_bytes',
      'What no restore point needs, when it was last measured.',
      facts,
      (each) => each.unusedBytes,
    ),
    perRepository(
      'vcb_repository_unknown_bytes',
      'Packs that no index names, when it was last measured.',
      facts,
      (each) => each.unknownBytes,
    ),
    perRepository('vcb_repository_points', 'Restore points in a repository.', facts, ({ points }) => points),
    perRepository(
      'vcb_repository_check_structure_timestamp_seconds',
      'When the structure of a repository was last checked.',
      facts,
      (each) => seconds(each.structureAt),
    ),
    perRepository(
      'vcb_repository_check_data_timestamp_seconds',
      'Since when all data of a repository were read at least once.',
      facts,
      (each) => seconds(each.dataSince),
    ),
    perRepository('vcb_repository_check_problems', 'What checks found and did not find sound since.', facts, ({ problems }) => problems),
    perRepository(
      'vcb_repository_lock_renewal_timestamp_seconds',
      'When the Object Locks of what points need were last renewed.',
      facts,
      (each) => seconds(each.renewedAt),
    ),
    perRepository(
      'vcb_repository_short_locked_points',
      'Restore points that were not protected as long as they are to be after the last renewal.',
      facts,
      ({ shortPoints }) => shortPoints,
    ),
    gauge('vcb_event_loop_delay_seconds', 'Delay of the event loop in the last whole minute.', [
      [{ of: 'mean' }, own.loopDelay.mean],
      [{ of: 'p50' }, own.loopDelay.p50],
      [{ of: 'p99' }, own.loopDelay.p99],
      [{ of: 'max' }, own.loopDelay.max],
    ]),
    gauge('process_resident_memory_bytes', 'Resident memory size in bytes.', [[{}, own.residentBytes]]),
    gauge('vcb_heap_bytes', 'JavaScript heap in use.', [[{}, own.heapBytes]]),
    {
      name: 'process_cpu_seconds_total',
      type: 'counter',
      help: 'Total user and system CPU time spent in seconds.',
      samples: [[{}, own.cpuSeconds]],
    },
    gauge('process_start_time_seconds', 'Start time of the process since unix epoch in seconds.', [[{}, nowS - own.uptimeSeconds]]),
  ]
  return metrics.map(formatMetric).join('')
}

const gauge = (name: string, help: string, samples: Metric['samples']): Metric => ({ name, type: 'gauge', help, samples })

/** VMs of one name are told apart by their uuid. */
function perVm(name: string, help: string, vms: readonly VmFacts[], value: (vm: VmFacts) => number | undefined): Metric {
  const samples = vms.flatMap((each) => {
    const known = value(each)
    return known === undefined ? [] : [[{ vm: each.vm.name, uuid: each.vm.instanceUuid, job: each.job ?? '' }, known] as const]
  })
  return gauge(name, help, samples)
}

const perJob = (name: string, help: string, { jobs }: MetricFacts, value: (job: MetricFacts['jobs'][number]) => number): Metric => ({
  name,
  type: 'counter',
  help,
  samples: jobs.map((each) => [{ job: each.job ?? '' }, value(each)]),
})

function perRepository(
  name: string,
  help: string,
  { repositories }: MetricFacts,
  value: (repository: RepositoryFacts) => number | undefined,
): Metric {
  const samples = repositories.flatMap((each) => {
    const known = value(each)
    return known === undefined ? [] : [[{ repository: each.name }, known] as const]
  })
  return gauge(name, help, samples)
}

const seconds = (ms: number | undefined): number | undefined => (ms === undefined ? undefined : ms / 1000)
