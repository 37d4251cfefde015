import { COUNTED_RULES, formatSpan, type FullRule, type RetentionPolicy } from '../../schedule/index.ts'
import type { AgentConfig } from './config.ts'
import type { JobConfig } from './jobs.ts'
import { formatDuration } from './duration.ts'
import { formatWindow } from './windows.ts'

export type JobSetting = {
  readonly key: string
  /** The key of the general setting that a job leaves as it is. */
  readonly general?: string | undefined
  readonly value: (job: JobConfig, config: AgentConfig) => string
}

/** Every key of a job, and what it comes to. A test holds it to the schema. */
export const JOB_SETTINGS: readonly JobSetting[] = [
  { key: 'name', value: ({ name }) => name },
  { key: 'select', value: ({ select }) => select.join(' ') },
  { key: 'cron', value: ({ schedule }) => list(schedule.cron, 'none') },
  { key: 'timeZone', value: ({ schedule }) => schedule.timeZone },
  { key: 'rpo', value: ({ schedule: { rpoMs } }) => (rpoMs === undefined ? 'none' : formatDuration(rpoMs)) },
  { key: 'full', value: ({ schedule }) => fullText(schedule.full) },
  { key: 'windows', value: ({ schedule }) => list(schedule.windows.map(formatWindow), 'always') },
  {
    key: 'blackouts',
    value: ({ schedule }) =>
      list(
        schedule.blackouts.map(({ from, to }) => `${from} to ${to}`),
        'none',
      ),
  },
  { key: 'priority', value: ({ schedule }) => String(schedule.priority) },
  {
    key: 'retry',
    value: ({ schedule: { retry } }) =>
      retry.attempts === 0
        ? 'none'
        : `${retry.attempts} times, first after ${formatDuration(retry.delayMs)}, on ${list(retry.on, 'nothing')}`,
  },
  {
    key: 'repository',
    value: ({ repository }, { repositories }) => `${repository} = ${repositories.find(({ name }) => name === repository)?.url ?? ''}`,
  },
  { key: 'copyTo', value: ({ copyTo }) => list(copyTo, 'none') },
  { key: 'quiesce', general: 'quiesce', value: ({ quiesce }, config) => quiesce ?? config.quiesce },
  { key: 'guestScripts', general: 'guestScripts', value: ({ guestScripts }, config) => scriptsText(guestScripts, config) },
  { key: 'transports', general: 'transports', value: ({ transports }, config) => (transports ?? config.transports).join(':') },
  { key: 'excludeDisks', value: ({ excludeDisks }) => list(excludeDisks, 'none') },
  { key: 'retention', value: ({ retention }) => (retention === undefined ? 'nothing is forgotten' : retentionText(retention)) },
  {
    key: 'stages',
    value: ({ stages }) =>
      list(
        stages.map(({ at, command, policy, timeoutMs }) => `${at} ${command.join(' ')} (${policy}, at most ${formatDuration(timeoutMs)})`),
        'none',
      ),
  },
  { key: 'notices', value: ({ notices }) => list(notices, 'nobody') },
  {
    key: 'apart',
    value: ({ apart }) =>
      list(
        apart.map((group) => `[${group.join(', ')}]`),
        'none',
      ),
  },
]

const list = (parts: readonly string[], none: string): string => (parts.length === 0 ? none : parts.join(', '))

function fullText(full: FullRule): string {
  if (full === 'first') return 'first: incremental for ever'
  if (full === 'always') return 'always'
  return 'cron' in full ? full.cron.join(', ') : `every ${formatDuration(full.everyMs)}`
}

function scriptsText(own: JobConfig['guestScripts'], { guestScripts }: AgentConfig): string {
  if (own === false) return 'none are run'
  const policy = typeof own === 'string' ? `, all ${own}` : ''
  return guestScripts.length === 0 ? 'there are none' : `${guestScripts.map(({ name }) => name).join(', ')}${policy}`
}

function retentionText(policy: RetentionPolicy): string {
  const counts = COUNTED_RULES.flatMap((rule) => (policy[rule] === undefined ? [] : [`${rule} ${policy[rule]}`]))
  const within = policy.within === undefined ? [] : [`within ${formatSpan(policy.within)}`]
  const tags = (policy.keepTags ?? []).map((tags) => `tag ${tags.join('+')}`)
  return [...counts, ...within, ...tags].join(', ')
}
