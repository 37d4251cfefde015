import type { ApiClient, JobView, PlanView } from '../api/index.ts'
import type { Abortable } from '../core/index.ts'
import { type Output, printable, renderTable } from './io.ts'
import { formatLength, formatMoment } from './moments.ts'

type Shown = { readonly output: Output; readonly zone: string }

/** `vcb jobs` of an agent elsewhere. */
export async function showRemoteJobs(
  client: ApiClient,
  names: readonly string[],
  { output, zone }: Shown,
  options: Abortable,
): Promise<void> {
  const { askJobs } = await import('../api/index.ts')
  const jobs: readonly JobView[] = (await askJobs(client, options)).filter(({ name }) => names.length === 0 || names.includes(name))
  output.result({ jobs }, () =>
    renderTable(
      ['JOB', 'SELECTS', 'VMS', 'NEXT', 'RPO', 'LAST', 'REPOSITORY'],
      jobs.map(({ name, select, vms, next, rpoMs, last, repository, copyTo }) => [
        name,
        select.join(' '),
        vms === undefined ? '-' : String(vms.length),
        next === undefined ? '-' : formatMoment(new Date(next), zone),
        rpoMs === undefined ? '-' : formatLength(rpoMs),
        last === undefined ? '-' : `${last.result} ${formatMoment(new Date(last.at), zone)}`,
        [repository, ...copyTo].join(' > '),
      ]),
    ),
  )
}

/** Rows shown of each table. */
const SHOWN = 100

/** `vcb plan` of an agent elsewhere: what goes wrong first. */
export async function showRemotePlan(
  client: ApiClient,
  query: { readonly from: Date; readonly to: Date; readonly job: string | undefined },
  { output, zone }: Shown,
  options: Abortable,
): Promise<void> {
  const { askPlan } = await import('../api/index.ts')
  const { from, to, job } = query
  const plan = await askPlan(client, { from: from.toISOString(), to: to.toISOString(), job }, options)
  output.result(plan, (shown) => planText(shown, (at) => formatMoment(new Date(at), zone)))
}

function planText({ from, to, runs, misses, overruns, left, empty, assumed }: PlanView, at: (moment: string) => string): string {
  const parts = [`${at(from)} to ${at(to)}: ${runs.length} runs, ${misses.length} RPOs missed`]
  const add = (title: string, head: readonly string[], rows: readonly (readonly string[])[]): void => {
    if (rows.length === 0) return
    const more = rows.length > SHOWN ? `\n… and ${rows.length - SHOWN} more; --json has them` : ''
    parts.push(`${title}\n${renderTable(head, rows.slice(0, SHOWN))}${more}`)
  }
  for (const { job, error } of empty) parts.push(`NO VM: ${job}: ${printable(error.message)}`)
  add(
    'RPO MISSED',
    ['JOB', 'VM', 'FROM', 'UNTIL A GOOD POINT'],
    misses.map((miss) => [miss.job, miss.vm.name, at(miss.from), at(miss.to)]),
  )
  const row = ({ begunAt, endedAt, job, vm, mode, reason }: PlanView['runs'][number]): readonly string[] => [
    at(begunAt),
    at(endedAt),
    job,
    vm.name,
    mode,
    reason,
  ]
  const head = ['BEGINS', 'ENDS', 'JOB', 'VM', 'MODE', 'WHY']
  add('DOES NOT FIT ITS WINDOW', head, overruns.map(row))
  add(
    'NEVER RUN: no window or no place comes for',
    ['JOB', 'VM'],
    left.map(({ job, vm }) => [job, vm.name]),
  )
  add('RUNS', head, runs.map(row))
  if (assumed.length > 0) parts.push(`Assumed: ${assumed.join('; ')}.`)
  return parts.join('\n\n')
}
