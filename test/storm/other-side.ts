import type { SnapshotDigests } from '../../src/lab/index.ts'
import { type Ended, runCommand, type Strike } from './command.ts'
import { Draw } from './draw.ts'
import { type Before, checkPoints, checkRecovered, remember } from './end-state.ts'
import { explains } from './explains.ts'
import { Findings } from './findings.ts'
import { openPlace, type Place } from './place.ts'

/** One command during which the other side dies. */
type Flow = {
  readonly name: string
  readonly argv: (place: Place, cut: string) => readonly string[]
  /** The VM whose last point is restored. */
  readonly restores?: string
  /** The first run has something to do that later ones have not. */
  readonly twice?: boolean
}

const FLOWS: readonly Flow[] = [
  { name: 'full', argv: () => ['backup', 'web01', 'app01', '--mode', 'full', '--json'] },
  { name: 'incremental', argv: () => ['backup', 'db01', '--json'] },
  { name: 'https', argv: () => ['backup', 'mail01', '--transport', 'https', '--mode', 'full', '--json'] },
  {
    name: 'restore-lease',
    argv: (_place, cut) => ['restore', 'web02@latest', '--to-vcenter', '--name', cut, '--json'],
    restores: 'web02',
  },
  {
    name: 'restore-folder',
    argv: (_place, cut) => ['restore', 'web02@latest', '--to-vcenter', '--name', cut, '--via', 'folder', '--json'],
    restores: 'web02',
  },
  {
    name: 'restore-nbdssl',
    argv: (_place, cut) => ['restore', 'web02@latest', '--to-vcenter', '--name', cut, '--transport', 'nbdssl', '--json'],
    restores: 'web02',
  },
  {
    name: 'restore-replace',
    argv: () => ['restore', 'old01@latest', '--to-vcenter', '--name', 'replaced', '--overwrite', '--json'],
    restores: 'old01',
    twice: true,
  },
]

/** Effects at the other side. */
const KINDS = ['call', 'upload']
/** When within an effect: before its request leaves, while it is on its way, when it has been answered. ms */
const WHEN = [
  { phase: 'before', delayMs: 0 },
  { phase: 'before', delayMs: 12 },
  { phase: 'after', delayMs: 0 },
] as const
/** How long the lab is away, ms. */
const AWAY = 1000
/** A command that has lost its lab ends within this, ms. */
const BOUND = 180_000

export type OtherSideOptions = {
  /** So many cuts of each flow, drawn from the seed; all of them when undefined. */
  readonly sample: number | undefined
  readonly seed: number
  /** Only this effect, in all its moments. */
  readonly cut: number | undefined
  /** Also every piece of every upload. */
  readonly every: boolean
  /** Only these flows; all when empty. */
  readonly flows: readonly string[]
  readonly keep: boolean
  readonly say: (line: string) => void
}

export type OtherSideResult = {
  readonly cuts: number
  readonly succeeded: number
  readonly failed: number
  /** The longest command, ms. */
  readonly longestMs: number
  readonly wrongDigests: number
  readonly passed: number
  readonly problems: readonly string[]
  readonly directory: string
}

/**
 * The lab is killed at every effect of every flow that changes something there, and comes back a second later: the command ends by itself, well or
 * with a documented status and one sentence, and after `vcb recover` nothing is left on either side.
 */
export async function otherSide(options: OtherSideOptions): Promise<OtherSideResult> {
  const place = await openPlace()
  const findings = new Findings()
  const count = { cuts: 0, succeeded: 0, failed: 0, longestMs: 0 }
  try {
    const before = await remember(place)
    const first = await plain(place, ['backup', '*', '--json'])
    findings.expect(first.exit === 0, () => `the first backup ended with ${first.exit}: ${first.out}${first.err}`)
    const records = new Map<string, SnapshotDigests>()
    for (const flow of FLOWS.filter(({ name }) => options.flows.length === 0 || options.flows.includes(name)))
      await cutFlow(place, flow, before, options, findings, count)
    for (const { name } of before.vms) for (const each of await place.lab.digests(name)) records.set(`${name} ${each.createdAt}`, each)
    const { wrongDigests } = await checkPoints(place, records, findings)
    const { passed, failed } = findings
    return { ...count, wrongDigests, passed, problems: failed, directory: place.directory }
  } finally {
    await place.close(options.keep && findings.failed.length > 0)
  }
}

async function cutFlow(
  place: Place,
  flow: Flow,
  before: Before,
  options: OtherSideOptions,
  findings: Findings,
  count: { cuts: number; succeeded: number; failed: number; longestMs: number },
): Promise<void> {
  if (flow.twice === true) await plain(place, flow.argv(place, `${flow.name}-a`))
  const whole = await plain(place, flow.argv(place, `${flow.name}-b`), [never])
  findings.expect(whole.exit === 0, () => `${flow.name} undisturbed ended with ${whole.exit}: ${whole.out}${whole.err}`)
  const effects = whole.counted[0] ?? []
  const cuts = (options.every ? effects.map((_what, index) => index + 1) : worthCutting(effects)).flatMap((at) =>
    WHEN.map((when) => ({ at, ...when })),
  )
  const draw = new Draw(options.seed)
  const drawn = options.sample === undefined ? cuts : Array.from({ length: options.sample }, () => draw.of(cuts))
  const chosen = options.cut === undefined ? drawn : cuts.filter(({ at }) => at === options.cut)
  options.say(`${flow.name}: ${effects.length} effects at the other side, ${cuts.length} cuts, ${chosen.length} tried`)
  for (const cut of chosen) {
    const name = `${flow.name}-${cut.at}-${cut.phase}-${cut.delayMs}`
    const ended = await cutAt(place, flow, name, cut)
    const what = `${flow.name} with the lab killed ${cut.phase} effect ${cut.at}${cut.delayMs > 0 ? ` +${cut.delayMs} ms` : ''}`
    count.cuts++
    count.longestMs = Math.max(count.longestMs, ended.ms)
    if (ended.exit === 0) count.succeeded++
    else count.failed++
    const wrong = findings.failed.length
    findings.expect(!ended.hung, () => `${what} did not end within ${BOUND / 1000} s`)
    if (!ended.hung) findings.check(explains(ended).map((sentence) => `${what}: ${sentence}`))
    const here = new Findings()
    await checkRecovered(place, before, here)
    if (flow.restores !== undefined) await checkRestored(place, flow.restores, name, here)
    findings.passed += here.passed
    findings.check(here.failed.map((sentence) => `${what}: ${sentence}`))
    options.say(`${what} (${ended.struck}) → exit ${ended.exit} (${ended.ms} ms)`)
    for (const sentence of findings.failed.slice(wrong)) options.say(`WRONG  ${sentence}`)
  }
}

/** All effects but the inner ones of a long row of the same, as the pieces of an upload: of a row, the first two, one in the middle and the last. */
function worthCutting(effects: readonly string[]): readonly number[] {
  return effects.flatMap((what, index) => {
    const start = effects.findLastIndex((other, at) => at < index && other !== what) + 1
    const next = effects.findIndex((other, at) => at > index && other !== what)
    const end = (next < 0 ? effects.length : next) - 1
    const middle = Math.floor((start + end) / 2)
    return index <= start + 1 || index === middle || index === end ? [index + 1] : []
  })
}

const never: Strike = { at: Number.MAX_SAFE_INTEGER, phase: 'before', delayMs: 0, what: 'self', kinds: KINDS }

const plain = (place: Place, argv: readonly string[], strikes: readonly Strike[] = []): Promise<Ended> =>
  runCommand(argv, place.environment, { strikes, boundMs: BOUND })

/** The command kills the lab itself, inside the effect, so that the moment is exact; the watcher brings it back. */
async function cutAt(
  place: Place,
  flow: Flow,
  name: string,
  cut: { readonly at: number; readonly phase: 'before' | 'after'; readonly delayMs: number },
): Promise<Ended & { readonly struck: string }> {
  const { lab } = place
  let struck = 'not reached'
  const ended = await runCommand(flow.argv(place, name), place.environment, {
    strikes: [{ ...cut, what: 'lab', kinds: KINDS, pid: lab.pid }],
    boundMs: BOUND,
    onLab: ({ what }) => {
      struck = what ?? ''
      lab.backAfter(AWAY)
    },
  })
  await lab.settled()
  return { ...ended, struck }
}

/** A restored VM that is there is complete, however the command ended. */
async function checkRestored(place: Place, vm: string, name: string, findings: Findings): Promise<void> {
  const made = (await place.lab.state()).vms.find((each) => each.name === name)
  if (made === undefined) return
  const images = (disks: readonly { readonly sha256: string }[]): string => JSON.stringify(disks.map(({ sha256 }) => sha256).sort())
  const wanted = (await place.lab.digests(vm)).map(({ disks }) => images(disks))
  const content = images(await place.lab.sha256(name))
  findings.expect(wanted.includes(content), () => `the restored VM ${name} has another content than any snapshot of ${vm}`)
}
