import { createHash } from 'node:crypto'
import { AgentError } from '../core/index.ts'
import { type Coverage, type CoveredVm, isOverdue, type JobProblem } from './coverage.ts'
import type { Occurrence } from './occurrence.ts'
import { overdueVm } from './report.ts'
import type { Teller } from './teller.ts'
import type { ToldMarks } from './told-marks.ts'

export type CoverageWatchOptions = {
  /** The channel it tells. */
  readonly channel: string
  readonly marks: ToldMarks
  readonly teller: Teller
  readonly post: (channel: string, occurrence: Occurrence) => Promise<void>
}

/** What is wrong now: since when, so that the same thing is told again when it was mended in between. */
type Alarm = { readonly key: string; readonly since: string; readonly tells: (id: string, at: string) => Occurrence }

/**
 * Tells each VM that misses its RPO, and each job that has no VM or never ran, once; and once more when it was well in between. Whom it told is remembered across
 * restarts and agents.
 */
export class CoverageWatch {
  readonly #options: CoverageWatchOptions

  constructor(options: CoverageWatchOptions) {
    this.#options = options
  }

  /** Looks at the VMs and jobs that this channel is told of; how many things were told. */
  async look({ at, covered, problems }: Pick<Coverage, 'at' | 'covered' | 'problems'>): Promise<number> {
    const { channel, marks, teller, post } = this.#options
    const name = `late ${channel}`
    if (!(await teller.isMine(name))) return 0
    const before = await marks.get(name)
    const told = toldOf(before)
    const next = new Map<string, string>()
    let count = 0
    for (const { key, since, tells } of [...lateVms(covered, at), ...badJobs(problems, told, at)]) {
      next.set(key, since)
      if (told.get(key) === since) continue
      await post(channel, tells(createHash('sha256').update(`${key} ${since}`).digest('hex').slice(0, 24), at.toISOString()))
      count++
    }
    // The VMs of a job whose selection names none for a while are not well for that.
    if (problems.length > 0) {
      const known = new Set(covered.map(keyOf))
      for (const [key, since] of told) if (key.startsWith('vm ') && !known.has(key)) next.set(key, since)
    }
    const text = JSON.stringify(Object.fromEntries(next))
    if (text !== (before ?? '{}') && !(await marks.change(name, before, text)))
      throw new AgentError('CONFLICT', `Another agent tells the notice ${channel} which VMs are late.`)
    return count
  }
}

const keyOf = ({ vm }: Pick<CoveredVm, 'vm'>): string => `vm ${vm.vcenterUuid}/${vm.instanceUuid}`

const lateVms = (covered: readonly CoveredVm[], at: Date): readonly Alarm[] =>
  covered
    .filter((each) => each.hasRpo && isOverdue(each, at))
    .map((each) => ({
      key: keyOf(each),
      since: each.lastGoodAt?.toISOString() ?? 'none',
      tells: (id, moment) => ({ version: 1, id, at: moment, kind: 'missedRpo', vm: overdueVm(each) }),
    }))

const badJobs = (problems: readonly JobProblem[], told: ReadonlyMap<string, string>, at: Date): readonly Alarm[] =>
  problems.map((problem) => {
    const key = `job ${problem.job} ${problem.what}`
    return {
      key,
      since: told.get(key) ?? at.toISOString(),
      tells: (id, moment) => ({ version: 1, id, at: moment, kind: 'job', problem }),
    }
  })

/** Forgotten, or not to be understood: everything is told once more. */
function toldOf(text: string | undefined): ReadonlyMap<string, string> {
  try {
    return new Map(Object.entries(JSON.parse(text ?? '{}') as Record<string, string>))
  } catch (error) {
    if (error instanceof SyntaxError) return new Map()
    throw error
  }
}
