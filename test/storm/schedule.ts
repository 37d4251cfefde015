import { Draw } from './draw.ts'

/**
 * When something is killed: at the `at`-th effect of the command (`before` it starts or `after` it is done, see src/core/effect.ts), or, where
 * `at` is 0, counted from the start of the process; then `delayMs` later. Effects and not time alone, because they mean the same on a slow and
 * a fast machine and lie where something can be left behind; the delay reaches the moments between two of them.
 */
export type Moment = { readonly at: number; readonly phase: 'before' | 'after'; readonly delayMs: number }

export type CommandKind =
  | 'backup'
  | 'full'
  | 'https'
  | 'to-directory'
  | 'lease'
  | 'folder'
  | 'replace'
  | 'forget'
  | 'recover'
  | 'points'
  | 'check'

export type Step = {
  /** Counts within its lane, from 1. */
  readonly number: number
  readonly lane: number
  readonly kind: CommandKind
  /** Names; the first one is what a restore is of. */
  readonly vms: readonly string[]
  readonly quiesce: 'require' | 'try' | 'none'
  /** 0 ≤ x < 1: which of the known points a restore takes. */
  readonly point: number
  readonly kill: Moment | undefined
  readonly labKill: (Moment & { readonly awayMs: number }) | undefined
}

/** About how many effects an undisturbed command of each kind has; moments are drawn from 1 to this. */
const EFFECTS: Readonly<Record<CommandKind, number>> = {
  backup: 90,
  full: 48,
  https: 50,
  'to-directory': 90,
  lease: 50,
  folder: 60,
  replace: 60,
  forget: 16,
  recover: 12,
  points: 3,
  check: 5,
}

/** The two lanes run beside each other, each mostly on its own VMs and now and then on all of them. */
export const LANES: readonly (readonly string[])[] = [
  ['web01', 'db01', 'app01'],
  ['web02', 'mail01', 'old01'],
]

export type Rates = {
  /** Share of the commands that are to be killed. */
  readonly kills: number
  /** Share of the commands during which the lab is killed. */
  readonly labKills: number
}

/** The endless schedule of one lane: the same steps for the same seed, whatever happens in between. */
export function* schedule(seed: number, lane: number, rates: Rates): Generator<Step, never> {
  const draw = new Draw(Math.imul(seed + 1, 0x9e3779b1) ^ Math.imul(lane + 1, 0x85ebca6b))
  const own = LANES[lane] ?? []
  for (let number = 1; ; number++) {
    const kind = draw.weighted<CommandKind>([
      [34, 'backup'],
      [10, 'full'],
      [12, 'https'],
      [11, 'to-directory'],
      [7, 'lease'],
      [5, 'folder'],
      [6, 'replace'],
      [6, 'forget'],
      [5, 'recover'],
      [2, 'points'],
      [2, 'check'],
    ])
    const all = draw.fraction() < 0.12
    const first = draw.of(own)
    const second = draw.of(own)
    const several = first === second ? [first] : [first, second]
    const quiesce = draw.weighted<Step['quiesce']>([
      [6, 'try'],
      [2, 'none'],
      [2, 'require'],
    ])
    const point = draw.fraction()
    const killed = draw.fraction() < rates.kills
    const kill = moment(draw, kind)
    const labKilled = draw.fraction() < rates.labKills
    const labKill = { ...moment(draw, kind), awayMs: draw.whole(100, 2500) }
    yield {
      number,
      lane,
      kind,
      vms: kind === 'backup' ? (all ? LANES.flat() : several) : [first],
      quiesce: quiesce === 'require' && first === 'old01' ? 'try' : quiesce,
      point,
      kill: killed ? kill : undefined,
      labKill: labKilled ? labKill : undefined,
    }
  }
}

function moment(draw: Draw, kind: CommandKind): Moment {
  const early = draw.fraction() < 0.15
  const at = draw.whole(1, EFFECTS[kind])
  const phase = draw.fraction() < 0.5 ? 'before' : 'after'
  const edge = draw.fraction() < 0.5
  const between = draw.whole(1, 120)
  const fromStart = draw.whole(50, 1500)
  return early ? { at: 0, phase, delayMs: fromStart } : { at, phase, delayMs: edge ? 0 : between }
}

/** `backup web01,db01 kill before 12 +40 ms lab after 3 away 900 ms`: a step as it is printed. */
export function describeStep(step: Step): string {
  const when = ({ at, phase, delayMs }: Moment): string => (at === 0 ? `${delayMs} ms from the start` : `${phase} ${at} +${delayMs} ms`)
  return [
    `${step.lane}/${step.number} ${step.kind} ${step.vms.join(',')} ${step.quiesce}`,
    ...(step.kill === undefined ? [] : [`kill ${when(step.kill)}`]),
    ...(step.labKill === undefined ? [] : [`lab ${when(step.labKill)} away ${step.labKill.awayMs} ms`]),
  ].join('; ')
}
