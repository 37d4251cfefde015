import { readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { deserialize, serialize } from 'node:v8'
import type { Lab } from '../../src/lab/index.ts'
import { cutText, type Ended, runChild } from './commands.ts'
import type { Flow } from './flows.ts'
import type { CutTask } from './live-cut.ts'
import { letGuestsWrite, type Observation } from './observation.ts'
import { configureJobs, environmentOf, hostEnvironmentOf, loadWorld, openLab, type Place, saveWorld } from './place.ts'
import { repositoryUrl } from './repository-end.ts'
import { factsOf, makeTemplate, type TemplateFacts } from './templates.ts'

/** A world in which a command was killed and its guests wrote once more; the lab runs until it is disposed. */
export type KilledWorld = AsyncDisposable & {
  /** Undefined for a flow without vSphere. */
  readonly lab: Lab | undefined
  readonly environment: Readonly<Record<string, string>>
  readonly facts: TemplateFacts
  /** What was there before the command, with what the guests wrote after its death. */
  readonly before: Observation
  readonly ended: Ended
}

type Kept = { readonly of: string; readonly before: Observation; readonly ended: Ended }

const KEPT = 'killed'

/** What the command of a flow gets as its environment, with this lab. */
export async function environmentFor(place: Place, lab: Lab | undefined, flow: Flow): Promise<Readonly<Record<string, string>>> {
  const repository = repositoryUrl(place, flow.scheme)
  if (flow.jobs !== undefined) await configureJobs(place, flow.jobs(place))
  return flow.toHost === true && lab !== undefined ? hostEnvironmentOf(place, lab, repository) : environmentOf(place, lab, repository)
}

/**
 * Kills the flow at the task's cut in a fresh copy of its template. For a second kill the world that the single kill at the same cut left is taken,
 * when it was kept: where the lab had nothing under way then, a lab started from a copy of it is no other than the one that went on.
 */
export async function killedWorld(place: Place, flow: Flow, task: CutTask): Promise<KilledWorld> {
  const template = await makeTemplate(place, flow.template, flow.scheme)
  const facts = await factsOf(place, template)
  const of = `${task.flow} ${cutText(task.cut)}`
  const kept = task.second === undefined ? undefined : await readKept(place, of)
  await loadWorld(place, kept === undefined ? template : KEPT)
  await using stack = new AsyncDisposableStack()
  const lab = flow.lab ? stack.use(await openLab(place)) : undefined
  const environment = await environmentFor(place, lab, flow)
  const open = { lab, environment, facts }
  if (kept !== undefined) return dispose({ ...open, before: kept.before, ended: kept.ended }, stack.move())

  const ended = await runChild(place, flow.argv(place), environment, { kill: task.cut })
  // Whatever became of the agent, its guests go on writing.
  const before = lab === undefined ? facts.seen : await letGuestsWrite(lab, facts.seen)
  // A mount is no file that could be copied.
  if (task.more === true && flow.mounts !== true) await keep(place, lab, { of, before, ended })
  return dispose({ ...open, before, ended }, stack.move())
}

const dispose = (world: Omit<KilledWorld, keyof AsyncDisposable>, stack: AsyncDisposableStack): KilledWorld => ({
  ...world,
  [Symbol.asyncDispose]: () => stack.disposeAsync(),
})

const keptFile = (place: Place): string => join(place.root, `${KEPT}.facts`)

async function keep(place: Place, lab: Lab | undefined, kept: Kept): Promise<void> {
  await rm(keptFile(place), { force: true })
  if (lab !== undefined) {
    const { leases, tasks } = await lab.control.state()
    const busy = tasks.some(({ state }) => state === 'running' || state === 'queued')
    if (busy || leases.some(({ state }) => state === 'ready' || state === 'initializing')) return
  }
  await saveWorld(place, KEPT)
  // The copy's lab is not the one that runs.
  await rm(join(place.root, KEPT, 'lab', 'lab.pid'), { force: true })
  await writeFile(keptFile(place), serialize(kept))
}

async function readKept(place: Place, of: string): Promise<Kept | undefined> {
  const bytes = await readFile(keptFile(place)).catch(() => undefined)
  if (bytes === undefined) return undefined
  const kept = deserialize(bytes) as Kept
  return kept.of === of ? kept : undefined
}
