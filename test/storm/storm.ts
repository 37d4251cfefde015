import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { systemClock } from '../../src/core/index.ts'
import type { DiskDigest, SnapshotDigests } from '../../src/lab/index.ts'
import { type Ended, runCommand, type Strike } from './command.ts'
import { checkEndState, checkPoints, checkWithRestic, remember } from './end-state.ts'
import { explains } from './explains.ts'
import { exportedDigests } from './exported-digests.ts'
import { Findings } from './findings.ts'
import { openPlace, type Place } from './place.ts'
import { type CommandKind, describeStep, LANES, schedule, type Step } from './schedule.ts'

export type StormOptions = {
  readonly seed: number
  /** SIGKILLs of the agent. */
  readonly kills: number
  readonly labKills: number
  /** Path of stock restic; undefined leaves its judgement out. */
  readonly restic: string | undefined
  /** Keep the directory when something is wrong. */
  readonly keep: boolean
  readonly say: (line: string) => void
}

export type StormResult = {
  readonly kills: number
  readonly labKills: number
  readonly run: number
  readonly succeeded: number
  readonly refused: number
  readonly failed: number
  readonly points: number
  readonly leftovers: number
  readonly wrongDigests: number
  readonly passed: number
  /** One sentence each. */
  readonly problems: readonly string[]
  readonly directory: string
  readonly ms: number
}

/** A command that is neither killed nor without its lab ends well, or with one of these: another job has the VM, or the point is gone. */
const REFUSALS = new Set([5, 6, 12])
/** Longest a command may take before it counts as hung, ms. */
const BOUND = 180_000
/** Share of commands that are to be killed, while kills are left. */
const KILLED = 0.8
/** Of three moments of the lab one is missed: the command was killed or done before, or the lab was away already. */
const LAB_MISSED = 1.5

/** So many failures without one success end the storm. */
const HOPELESS = 10

type Known = { readonly id: string; readonly vm: string; readonly time: string }

/** Six VMs are backed up and restored without a pause while agent and lab are killed at random; then both run, and nothing may be left. */
export async function storm(options: StormOptions): Promise<StormResult> {
  const began = systemClock.monotonicMs()
  const place = await openPlace()
  let good = false
  try {
    const result = await new Storm(place, options).run(began)
    good = result.problems.length === 0
    return result
  } finally {
    await place.close(options.keep && !good)
  }
}

class Storm {
  readonly #place: Place
  readonly #options: StormOptions
  readonly #findings = new Findings()
  readonly #records = new Map<string, SnapshotDigests>()
  readonly #known: Known[] = []
  /** The newest point each VM is known to have. */
  readonly #last = new Map<string, Known>()
  /** What each VM made by a restore is to be, by name; of one that is replaced again and again, any of them. */
  readonly #restored = new Map<string, Known[]>()
  readonly #count = { kills: 0, labKills: 0, run: 0, succeeded: 0, refused: 0, failed: 0 }
  #forgets = false
  /** Commands under way that are to be killed. */
  #armed = 0
  /** Of the lab: counts its deaths and returns, so that a command can tell whether it had one. */
  #labTurns = 0

  constructor(place: Place, options: StormOptions) {
    this.#place = place
    this.#options = options
  }

  async run(began: number): Promise<StormResult> {
    const { seed, kills, labKills, restic, say } = this.#options
    const before = await remember(this.#place)
    this.#forgets = (await this.#plain(['forget', '--help'])).out.includes('vcb forget')
    const rates = { kills: KILLED, labKills: Math.min(0.9, (labKills / Math.max(1, kills)) * KILLED * LAB_MISSED) }
    await Promise.all(LANES.map((_vms, lane) => this.#lane(schedule(seed, lane, rates))))
    await this.#place.lab.settled()
    await this.#collect()
    const odd = this.#findings.failed.length
    await checkEndState(this.#place, before, this.#findings)
    await this.#judgeVms()
    const leftovers = this.#findings.failed.length - odd
    const { points, wrongDigests } = await checkPoints(this.#place, this.#records, this.#findings)
    if (restic !== undefined) await checkWithRestic(this.#place, restic, points, this.#findings)
    for (const last of this.#last.values()) {
      const newest = points
        .filter(({ vmName }) => vmName === last.vm)
        .map(({ time }) => time)
        .sort()
        .at(-1)
      this.#findings.expect(
        newest !== undefined && newest >= last.time,
        () => `the last complete point of ${last.vm} (${last.id}, ${last.time}) is gone`,
      )
    }
    if (!this.#forgets) {
      const listed = new Set<string>(points.map(({ id }) => id))
      this.#findings.check(
        this.#known.filter(({ id }) => !listed.has(id)).map(({ id, vm }) => `the point ${id} of ${vm} was reported and is not listed`),
      )
    }
    say(`${points.length} points of ${new Set(points.map(({ vmName }) => vmName)).size} VMs`)
    return {
      ...this.#count,
      points: points.length,
      leftovers,
      wrongDigests,
      passed: this.#findings.passed,
      problems: this.#findings.failed,
      directory: this.#place.directory,
      ms: Math.round(systemClock.monotonicMs() - began),
    }
  }

  async #lane(steps: Iterator<Step, never>): Promise<void> {
    const { kills, labKills } = this.#options
    while (this.#count.kills < kills || this.#count.labKills < labKills) {
      // The command does not work at all: hundreds more would say the same.
      if (this.#count.failed > HOPELESS && this.#count.succeeded === 0) return
      const step = steps.next().value
      if (step.kind === 'forget' && !this.#forgets) continue
      await this.#step(step)
      // The lab keeps a hundred records a VM; they are fetched while it is there.
      if (step.number % 8 === 0 && !this.#place.lab.isDown) await this.#collect().catch(() => undefined)
    }
  }

  async #step(step: Step): Promise<void> {
    const { kills, labKills, say } = this.#options
    const { lab } = this.#place
    const strikes: Strike[] = []
    const armed = step.kill !== undefined && this.#count.kills + this.#armed < kills
    if (armed) this.#armed++
    if (armed && step.kill !== undefined) strikes.push({ ...step.kill, what: 'self' })
    if (step.labKill !== undefined && this.#count.labKills < labKills) strikes.push({ ...step.labKill, what: 'lab' })
    const target = join(this.#place.restores, `${step.lane}-${step.number}`)
    const point = this.#pointOf(step)
    if (point !== undefined && (step.kind === 'lease' || step.kind === 'folder' || step.kind === 'replace')) {
      this.#restored.set(restoredName(step), [...(this.#restored.get(restoredName(step)) ?? []), point])
    }
    const wasDown = lab.isDown
    const turns = this.#labTurns
    let labAt = ''
    const ended = await runCommand(argumentsOf(step, point?.id ?? `${step.vms[0] ?? ''}@latest`, target), this.#place.environment, {
      strikes,
      boundMs: BOUND,
      onLab: (at) => {
        if (this.#count.labKills >= labKills || !lab.strike(step.labKill?.awayMs ?? 500)) return
        this.#labTurns++
        this.#count.labKills++
        labAt = ` lab killed at ${at.n} ${at.what ?? 'start'}`
      },
    })
    const disturbed = wasDown || lab.isDown || turns !== this.#labTurns
    this.#count.run++
    const outcome = ended.hung
      ? 'HUNG'
      : ended.killed !== undefined
        ? `killed ${ended.killed.phase} ${ended.killed.n} ${ended.killed.what ?? ''}`
        : `exit ${ended.exit}`
    say(`${describeStep(step)} → ${outcome}${labAt} (${ended.ms} ms${ended.effects === undefined ? '' : `, ${ended.effects} effects`})`)
    this.#findings.expect(!ended.hung, () => `${describeStep(step)} did not end within ${BOUND / 1000} s`)
    if (armed) this.#armed--
    if (ended.hung) return
    if (ended.killed !== undefined) this.#count.kills++
    else await this.#judge(step, ended, disturbed, point)
    if (step.kind === 'to-directory') await this.#judgeDirectory(step, point, target, ended.exit === 0)
  }

  async #judge(step: Step, ended: Ended, disturbed: boolean, point: Known | undefined): Promise<void> {
    const what = describeStep(step)
    if (ended.exit === 0) this.#count.succeeded++
    else if (REFUSALS.has(ended.exit ?? 1)) this.#count.refused++
    else this.#count.failed++
    this.#findings.check(explains(ended).map((sentence) => `${what}: ${sentence}`))
    const allowed = disturbed ? [0, 5, 6, 7, 8, 11, 12] : [0, 6, ...(this.#mayMiss(step, point) ? [5] : [])]
    const lockedOut = ended.exit === 12 && onlyConflicts(ended)
    this.#findings.expect(
      allowed.includes(ended.exit ?? -1) || lockedOut,
      () =>
        `${what} ended with ${ended.exit}${disturbed ? ' (the lab was away)' : ''}: ${ended.out.slice(0, 1000)} … ${ended.out.slice(-1000)}${ended.err}`,
    )
    if (step.kind === 'backup' || step.kind === 'full' || step.kind === 'https') this.#note(ended)
    if (ended.exit === 0 && (step.kind === 'lease' || step.kind === 'folder' || step.kind === 'replace') && point !== undefined)
      await this.#judgeVm(step, point)
  }

  /** No point of this VM yet, or one that `vcb forget` may have taken. */
  #mayMiss(step: Step, point: Known | undefined): boolean {
    return /^(to-directory|lease|folder|replace)$/.test(step.kind) && (point === undefined || this.#forgets)
  }

  #note(ended: Ended): void {
    const run: { vms?: readonly { ok: boolean; point?: string; vm: { name: string }; time?: string }[] } =
      ended.out === '' ? {} : ended.json()
    for (const outcome of run.vms ?? []) {
      if (!outcome.ok || outcome.point === undefined || outcome.time === undefined) continue
      const known = { id: outcome.point, vm: outcome.vm.name, time: outcome.time }
      this.#known.push(known)
      const last = this.#last.get(known.vm)
      if (last === undefined || last.time < known.time) this.#last.set(known.vm, known)
    }
  }

  #pointOf(step: Step): Known | undefined {
    const points = this.#known.filter(({ vm }) => vm === step.vms[0])
    // With retention at work only the newest is sure to be there.
    return this.#forgets ? this.#last.get(step.vms[0] ?? '') : points[Math.floor(step.point * points.length)]
  }

  async #judgeDirectory(step: Step, point: Known | undefined, target: string, finished: boolean): Promise<void> {
    const digests = await exportedDigests(target)
    if (finished) this.#findings.expect(digests !== undefined, () => `${describeStep(step)} ended well without a directory`)
    // A command killed after the last rename has done its work: what is there under the final name is complete.
    if (digests !== undefined && point !== undefined) await this.#compare(step, point, digests)
    await rm(target, { recursive: true, force: true })
  }

  async #judgeVm(step: Step, point: Known): Promise<void> {
    if (this.#place.lab.isDown) return
    try {
      const disks = await this.#place.lab.sha256(restoredName(step))
      await this.#compare(
        step,
        point,
        disks.map((disk: DiskDigest) => disk.sha256),
      )
    } catch (error) {
      // The lab may be killed while it is asked.
      if (!this.#place.lab.isDown) throw error
    }
  }

  /** A restored VM that is there at the end is complete, however its command ended. */
  async #judgeVms(): Promise<void> {
    for (const { name } of (await this.#place.lab.state()).vms) {
      const points = this.#restored.get(name)
      if (points === undefined) continue
      const content = imagesOf(await this.#place.lab.sha256(name))
      const wanted = points.map((point) => imagesOf(this.#records.get(`${point.vm} ${point.time}`)?.disks ?? []))
      this.#findings.expect(
        wanted.includes(content),
        () => `the restored VM ${name} is none of the points ${points.map(({ id }) => id.slice(0, 8)).join(', ')}`,
      )
    }
  }

  async #compare(step: Step, point: Known, digests: readonly string[]): Promise<void> {
    const key = `${point.vm} ${point.time}`
    if (!this.#records.has(key)) await this.#collect().catch(() => undefined)
    const record = this.#records.get(key)
    if (record === undefined) return
    const wanted = record.disks.map((disk) => disk.sha256).sort()
    this.#findings.expect(
      JSON.stringify([...digests].sort()) === JSON.stringify(wanted),
      () => `${describeStep(step)} restored something else than ${point.id}`,
    )
  }

  async #collect(): Promise<void> {
    for (const vm of LANES.flat())
      for (const record of await this.#place.lab.digests(vm)) this.#records.set(`${vm} ${record.createdAt}`, record)
  }

  #plain(argv: readonly string[]): Promise<Ended> {
    return runCommand(argv, this.#place.environment, { strikes: [], boundMs: BOUND })
  }
}

const imagesOf = (disks: readonly DiskDigest[]): string => JSON.stringify(disks.map(({ sha256 }) => sha256).sort())

const restoredName = (step: Step): string => `restored-${step.lane}-${step.kind === 'replace' ? 'again' : step.number}`

function argumentsOf(step: Step, point: string, target: string): readonly string[] {
  const policy = ['--quiesce', step.quiesce]
  const [vm = ''] = step.vms
  const toVcenter = [
    'restore',
    point,
    '--to-vcenter',
    '--name',
    restoredName(step),
    '--to-datastore',
    step.lane === 0 ? 'vmfs1' : 'nfs1',
    '--host',
    'esx1.lab',
    '--json',
  ]
  const commands: Readonly<Record<CommandKind, readonly string[]>> = {
    backup: ['backup', ...step.vms, ...policy, '--json'],
    full: ['backup', vm, ...policy, '--mode', 'full', '--json'],
    https: ['backup', vm, ...policy, '--transport', 'https', '--json'],
    'to-directory': ['restore', point, '--to-dir', target, '--json'],
    lease: [...toVcenter, '--via', 'lease'],
    folder: [...toVcenter, '--via', 'folder'],
    replace: [...toVcenter, '--overwrite', '--via', step.point < 0.5 ? 'lease' : 'folder'],
    forget: ['forget', '--keep-last', '3', '--keep-hourly', '2', '--json'],
    recover: ['recover', '--json'],
    points: ['points', '--json'],
    check: ['check', '--json'],
  }
  return commands[step.kind]
}

/** 12 of a command whose failed VMs were all locked by another job. */
function onlyConflicts(ended: Ended): boolean {
  const run: { vms?: readonly { error?: { code: string } }[] } = ended.json()
  const errors = (run.vms ?? []).flatMap(({ error }) => (error === undefined ? [] : [error.code]))
  return errors.length > 0 && errors.every((code) => code === 'CONFLICT')
}
