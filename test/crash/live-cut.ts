import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import type { PointSummary } from '../../src/core/index.ts'
import type { Lab } from '../../src/lab/index.ts'
import { type Cut, cutText, type Ended, type Recorded, recordEffects, runChild, runInside } from './commands.ts'
import { type Flow, newKeyFile } from './flows.ts'
import { environmentFor, killedWorld } from './killed-world.ts'
import { judgeLab } from './lab-end.ts'
import { type Observation, observe } from './observation.ts'
import { loadWorld, openLab, type Place } from './place.ts'
import { leftover, type Problem } from './problems.ts'
import { judgeProxy } from './proxy-end.ts'
import { judgeDirectory, judgeKeys, judgeRepository, type RepositoryEnd } from './repository-end.ts'
import { factsOf, makeTemplate } from './templates.ts'

const run = promisify(execFile)

/** One life: the flow killed at `cut`, and for a double kill the recovery killed at `second` as well. */
export type CutTask = {
  readonly flow: string
  readonly cut: Cut
  /** Nothing can be different outside just before the next effect: this kill is that one too. */
  readonly both?: boolean | undefined
  readonly second?: Cut | undefined
  /** Second kills at the same cut follow: what the first left is kept for them. */
  readonly more?: boolean | undefined
  /** Also run the next backup, and stock `restic check`. */
  readonly next: boolean
  readonly restic: boolean
  /** Nobody recovers: for the test that the judges see what is left. */
  readonly abandon?: true
}

export type CutResult = {
  readonly task: CutTask
  /** Whether the kill came; a run with several VMs may have fewer effects than the recorded one. */
  readonly reached: boolean
  readonly secondReached: boolean
  readonly problems: readonly Problem[]
  /** Effects of the recovery that ran to its end. */
  readonly recovery: readonly string[]
  readonly seconds: number
}

export const taskText = (task: CutTask): string =>
  `${task.flow} ${cutText(task.cut)}${task.second === undefined ? '' : ` recovery ${cutText(task.second)}`}`

/** Runs a flow to its end and gives the list of its effects. */
export async function recordFlow(place: Place, flow: Flow): Promise<Recorded> {
  const template = await makeTemplate(place, flow.template, flow.scheme)
  await loadWorld(place, template)
  await using lab = flow.lab ? await openLab(place) : undefined
  const facts = await factsOf(place, template)
  const environment = await environmentFor(place, lab, flow)
  const { effects, settled, ended } = await recordEffects(place, flow.argv(place), environment, join(place.root, 'effects.jsonl'))
  if (ended.exit !== 0) throw new Error(`The flow ${flow.name} ended with ${ended.exit}: ${textOf(ended)}`)
  const { problems, points } = await judge(place, flow, lab, facts.seen)
  if (!(await achieved(place, flow, lab, facts.points.length, points.length, ended.out)))
    throw new Error(`The flow ${flow.name} did not do what it is for: ${textOf(ended)}`)
  if (problems.length > 0)
    throw new Error(`The flow ${flow.name} leaves something without any kill: ${problems.map((each) => each.what).join('; ')}`)
  return { effects, settled: flow.anyOrder === true ? [] : settled }
}

/** Whether the command did its work when nobody killed it: a flow that does nothing leaves nothing either. */
async function achieved(
  place: Place,
  flow: Flow,
  lab: Lab | undefined,
  pointsBefore: number,
  pointsAfter: number,
  out: string,
): Promise<boolean> {
  const { restoresVm, restoresDirectory } = flow
  const [command] = flow.argv(place)
  if (restoresDirectory !== undefined) return (await readdir(place.restored)).includes(restoresDirectory.name)
  if (flow.forgets === true) return pointsAfter < pointsBefore
  if (command === 'prune') return /Freed [1-9]/u.test(out)
  if (command === 'mount') return out.includes('is shown in')
  if (command === 'backup' || command === 'agent') return pointsAfter > pointsBefore
  if (command === 'init') return (await readdir(place.repository)).includes('config')
  if (flow.addsKey === true) return existsSync(newKeyFile(place))
  if (lab === undefined) return true
  const { vms } = await lab.control.state()
  if (flow.again === true) return vms.every((vm) => vm.snapshots.every(({ name }) => !name.startsWith('vcb-proxy')))
  return (
    restoresVm === undefined ||
    vms.some((vm) => vm.name === restoresVm.name && vm.powerState === (restoresVm.replaces ? 'poweredOn' : 'poweredOff'))
  )
}

/** Kill, recover, judge; from a fresh copy of the flow's template, or from what the last single kill at the same cut left. */
export async function liveCut(place: Place, flow: Flow, task: CutTask): Promise<CutResult> {
  const started = performance.now()
  await using killed = await killedWorld(place, flow, task)
  const { lab, environment, facts, before, ended: first } = killed
  const problems: Problem[] = []
  const mustSucceed = (what: string, ended: Pick<Ended, 'exit' | 'out' | 'err'>): void => {
    if (ended.exit !== 0) problems.push(leftover(`${what} ended with ${ended.exit}: ${textOf(ended)}`))
  }
  if (!first.killed) mustSucceed('the command', first)

  const second = task.second === undefined ? undefined : await runChild(place, ['recover'], environment, { kill: task.second })
  if (second !== undefined && !second.killed) mustSucceed('the recovery that was to be killed', second)
  const recovered = task.abandon === true ? undefined : await runInside(['recover', '--json'], environment)
  if (recovered !== undefined) mustSucceed('recovery', recovered)
  if (flow.again === true) mustSucceed('the command, run again,', await runInside(flow.argv(place), environment))

  const end = await judge(place, flow, lab, before)
  problems.push(...end.problems, ...missingPoints(flow, facts.points, end.points))
  if (task.restic && flow.scheme === undefined) problems.push(...(await resticCheck(place)))
  if (task.next && lab !== undefined) {
    mustSucceed('the next backup', await runInside(['backup', flow.next, '--init', '--quiesce', 'none'], environment))
    if (problems.length === 0) problems.push(...(await judgeProxy(place)))
  }
  return {
    task,
    reached: first.killed,
    secondReached: second?.killed === true,
    problems,
    recovery: recovered?.effects ?? [],
    seconds: (performance.now() - started) / 1000,
  }
}

async function judge(
  place: Place,
  flow: Flow,
  lab: Lab | undefined,
  before: Observation,
): Promise<Pick<RepositoryEnd, 'problems' | 'points'>> {
  const after = lab === undefined ? undefined : await observe(lab)
  const repository = await judgeRepository(place, flow, [...before.vms, ...(after?.vms ?? [])])
  const problems = [
    ...repository.problems,
    ...(await judgeDirectory(place, flow, repository.last)),
    ...(flow.addsKey === true ? await judgeKeys(place) : []),
    ...(lab === undefined || after === undefined ? [] : await judgeLab(lab, flow, before, after, repository.last)),
    ...(await judgeProxy(place)),
  ]
  return { problems, points: repository.points }
}

/** Points that were there and are not any more, and were not to be forgotten. */
function missingPoints(flow: Flow, before: readonly PointSummary[], after: readonly PointSummary[]): Problem[] {
  const isLast = (point: PointSummary): boolean =>
    before.every((other) => other.vmName !== point.vmName || Date.parse(other.time) <= Date.parse(point.time))
  return before
    .filter((point) => !after.some((other) => other.id === point.id) && (flow.forgets !== true || isLast(point)))
    .map((point) => leftover(`the point ${point.id} of ${point.vmName} is gone`))
}

/** The judge that is not ours. */
async function resticCheck(place: Place): Promise<Problem[]> {
  if (!existsSync(join(place.repository, 'config'))) return []
  try {
    await run('restic', [
      '-r',
      place.repository,
      '--password-file',
      join(place.world, 'repo-password'),
      '--no-cache',
      'check',
      '--read-data',
    ])
    return []
  } catch (error) {
    return [leftover(`restic check: ${error instanceof Error && 'stderr' in error ? String(error.stderr) : String(error)}`)]
  }
}

const textOf = (ended: Pick<Ended, 'out' | 'err'>): string =>
  `${ended.out.slice(0, 3000)} ${ended.err.slice(0, 3000)}`.replace(/\s+/g, ' ').trim()
