import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { type ConsistencyLevel, isAgentError, type PointId, type PointSummary } from '../../src/core/index.ts'
import type { ForgetRequest, ForgetResult } from '../../src/flow/index.ts'
import { createCalendar, planRetention, type RetentionPolicy } from '../../src/schedule/index.ts'
import { type Faults, ForgetWorld, type Health, type StoredPoint } from './forget-world.ts'

/* Retention can never hurt: backups, forgetting with everything that can go wrong, restores and clock steps, in any order. */
const calendar = createCalendar('Europe/Berlin')
const VMS = ['web01', 'web02', 'db01'] as const
const LEVELS: readonly ConsistencyLevel[] = ['crash', 'filesystem', 'application']

/** What the test knows beside the world: which point a restore has open now. */
type Model = { open: { readonly point: PointId; readonly close: () => Promise<void> } | undefined }
type Command = fc.AsyncCommand<Model, ForgetWorld>

const sameVm = (a: PointSummary, b: PointSummary): boolean => a.instanceUuid === b.instanceUuid
const isListed = ({ health }: StoredPoint): boolean => health !== 'unlisted'

/** Written apart from the code it judges: nothing of the VM that is listed is both newer (or as new) and at least as good. */
function isLastOfItsWorth(point: StoredPoint, among: readonly StoredPoint[]): boolean {
  const { summary } = point
  return !among.some(
    ({ summary: other }) =>
      other.id !== summary.id &&
      sameVm(other, summary) &&
      (other.time > summary.time || (other.time === summary.time && other.id > summary.id)) &&
      (other.missingDisks ?? []).every((disk) => summary.missingDisks?.includes(disk) === true) &&
      LEVELS.indexOf(other.consistency) >= LEVELS.indexOf(summary.consistency),
  )
}

function lastReadable(points: readonly StoredPoint[], vm: string): PointId | undefined {
  const own = points.filter(({ summary, health }) => summary.vmName === vm && health === 'sound')
  return own.toSorted((a, b) =>
    a.summary.time < b.summary.time || (a.summary.time === b.summary.time && a.summary.id < b.summary.id) ? 1 : -1,
  )[0]?.summary.id
}

/** What the policy removes of a VM when everything is known and nothing fails. */
function allowed(points: readonly StoredPoint[], vm: string, policy: RetentionPolicy, now: number): readonly PointId[] {
  const own = points.filter((point) => point.summary.vmName === vm && isListed(point))
  return planRetention(
    own.map(({ summary: { id, time, consistency, missingDisks } }) => ({
      id,
      time,
      complete: true,
      consistency,
      missing: missingDisks ?? [],
    })),
    policy,
    { calendar, now },
  )
    .filter(({ keep }) => !keep)
    .map(({ point }) => point.id)
}

class Backup implements Command {
  readonly vm: string
  readonly facts: { readonly consistency: ConsistencyLevel; readonly missing: readonly string[]; readonly health: Health }
  constructor(vm: string, facts: Backup['facts']) {
    this.vm = vm
    this.facts = facts
  }
  check = (): boolean => true
  async run(_model: Model, world: ForgetWorld): Promise<void> {
    world.nowMs += 3_600_000
    world.add(this.vm, this.facts)
  }
  toString = (): string => `backup(${this.vm}, ${JSON.stringify(this.facts)})`
}

class StepClock implements Command {
  readonly hours: number
  constructor(hours: number) {
    this.hours = hours
  }
  check = (): boolean => true
  async run(_model: Model, world: ForgetWorld): Promise<void> {
    world.nowMs += this.hours * 3_600_000
  }
  toString = (): string => `clock(${this.hours} h)`
}

/** A restore begins on some point, or the one that runs ends. */
class Restore implements Command {
  readonly pick: number
  constructor(pick: number) {
    this.pick = pick
  }
  check = (): boolean => true
  async run(model: Model, world: ForgetWorld): Promise<void> {
    const ids = [...world.points.keys()]
    const point = ids[this.pick % Math.max(1, ids.length)]
    if (model.open !== undefined) await model.open.close()
    model.open = model.open !== undefined || point === undefined ? undefined : { point, close: await world.openForRestore(point) }
  }
  toString = (): string => `restore(${this.pick})`
}

class Forget implements Command {
  readonly policy: RetentionPolicy
  readonly expressions: readonly string[]
  readonly faults: Faults
  constructor(policy: RetentionPolicy, expressions: readonly string[], faults: Faults) {
    this.policy = policy
    this.expressions = expressions
    this.faults = faults
  }
  check = (): boolean => true
  async run(model: Model, world: ForgetWorld): Promise<void> {
    const before = [...world.points.values()]
    const listed = before.filter(isListed)
    const request: ForgetRequest = { by: 'policy', policy: this.policy, calendar, expressions: this.expressions }
    const result = await world.forget(request, this.faults)

    const gone = before.filter(({ summary }) => !world.points.has(summary.id))
    const elsewhere = gone.filter(({ summary }) => summary.id === theirRemoval)
    theirRemoval = undefined
    const ours = gone.filter((point) => !elsewhere.includes(point))
    for (const point of ours) {
      const { id, vmName } = point.summary
      const words = `${id} of ${vmName}`
      expect(isLastOfItsWorth(point, listed), `${words} was the last of its worth`).toBe(false)
      expect(id, `${words} was the last readable one`).not.toBe(lastReadable(before, vmName))
      expect(allowed(before, vmName, this.policy, world.nowMs), `${words} is kept by the policy`).toContain(id)
      expect([model.open?.point, theirRestore?.point], `${words} is in use`).not.toContain(id)
      expect(isListed(point), `${words} is not complete`).toBe(true)
      const known = listed.filter(({ summary }) => summary.vmName === vmName)
      expect(
        known.every(({ summary }) => world.lastListing.has(summary.id)),
        `${words} went although the list was not whole`,
      ).toBe(true)
      expect(this.expressions.length === 0 || this.expressions.includes(vmName), `${words} was not selected`).toBe(true)
    }
    expect(await world.left()).toEqual([])
    await theirRestore?.close()
    theirRestore = undefined
    if (world.brokenOff) expect(ours).toEqual([])
    if (Object.values(this.faults).every((fault) => fault === undefined) && !isAgentError(result))
      this.#expectAll(result, before, model, world)
  }

  /** Without faults it removes exactly what the policy says, of every VM whose points that must stay can be read. */
  #expectAll(result: ForgetResult | undefined, before: readonly StoredPoint[], model: Model, world: ForgetWorld): void {
    for (const { vm, error, forgotten } of result?.vms ?? []) {
      const own = before.filter((point) => point.summary.vmName === vm.name && isListed(point))
      const guards = own.filter((point) => isLastOfItsWorth(point, own))
      const wanted = allowed(before, vm.name, this.policy, world.nowMs).filter((id) => id !== model.open?.point)
      const future = own.some(({ summary }) => Date.parse(summary.time) > world.nowMs)
      if (!future && wanted.length > 0 && guards.some(({ health }) => health === 'unopenable')) {
        expect(error?.code).toBe('INTEGRITY')
        expect(forgotten).toEqual([])
      } else if (error === undefined) {
        expect([...forgotten].sort()).toEqual([...wanted].sort())
        expect(wanted.every((id) => !world.points.has(id) && !world.catalog.has(id))).toBe(true)
      }
    }
  }

  toString = (): string => `forget(${JSON.stringify(this.policy)}, [${this.expressions.join()}], ${describeFaults(this.faults)})`
}

const describeFaults = (faults: Faults): string => `${JSON.stringify(faults)}${faults.meanwhile === undefined ? '' : ' and somebody else'}`

/** The point that somebody else removed between the two listings of the run under way. */
let theirRemoval: PointId | undefined
/** The restore that somebody began between them. */
let theirRestore: Model['open']

/** Points named one by one: never the last of its worth, unless it was said so. */
class ForgetNamed implements Command {
  readonly pick: number
  readonly evenTheLast: boolean
  readonly faults: Faults
  constructor(pick: number, evenTheLast: boolean, faults: Faults) {
    this.pick = pick
    this.evenTheLast = evenTheLast
    this.faults = faults
  }
  check = (): boolean => true
  async run(model: Model, world: ForgetWorld): Promise<void> {
    const before = [...world.points.values()]
    const named = before[this.pick % Math.max(1, before.length)]
    if (named === undefined) return
    await world.forget({ by: 'points', points: [named.summary.id], evenTheLast: this.evenTheLast }, this.faults)
    const gone = before.filter(({ summary }) => !world.points.has(summary.id) && summary.id !== theirRemoval)
    theirRemoval = undefined
    await theirRestore?.close()
    for (const point of gone) {
      expect(point.summary.id).toBe(named.summary.id)
      expect([model.open?.point, theirRestore?.point]).not.toContain(point.summary.id)
      if (!this.evenTheLast) expect(isListed(point) && !isLastOfItsWorth(point, before.filter(isListed))).toBe(true)
    }
    theirRestore = undefined
    expect(await world.left()).toEqual([])
  }
  toString = (): string => `forgetNamed(${this.pick}, ${this.evenTheLast}, ${describeFaults(this.faults)})`
}

const health = fc.oneof(
  { weight: 8, arbitrary: fc.constant<Health>('sound') },
  { weight: 1, arbitrary: fc.constantFrom<Health>('unopenable', 'unlisted') },
)
const facts = fc.record({
  consistency: fc.oneof(
    { weight: 4, arbitrary: fc.constant<ConsistencyLevel>('filesystem') },
    { weight: 1, arbitrary: fc.constantFrom(...LEVELS) },
  ),
  missing: fc.oneof({ weight: 3, arbitrary: fc.constant([]) }, { weight: 1, arbitrary: fc.subarray(['scsi0:1', 'scsi0:2']) }),
  health,
})
const policy = fc.constantFrom<RetentionPolicy>(
  { last: 1 },
  { last: 2 },
  { daily: 2 },
  { hourly: 3, daily: 1 },
  { last: 1, weekly: 1 },
  { within: { years: 0, months: 0, days: 0, hours: 5 } },
  { keepTags: [['none']] },
)
const faults: fc.Arbitrary<Faults> = fc.oneof(
  { weight: 2, arbitrary: fc.constant({}) },
  {
    weight: 3,
    arbitrary: fc.record(
      {
        stop: fc.record({ step: fc.integer({ min: 1, max: 60 }), after: fc.boolean() }),
        stopRecovery: fc.integer({ min: 1, max: 8 }),
        listing: fc.record({ nth: fc.constantFrom(1, 2), after: fc.nat(8), silent: fc.boolean() }),
      },
      { requiredKeys: [] },
    ),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      removal: fc.record({ nth: fc.integer({ min: 1, max: 4 }), done: fc.boolean(), code: fc.constantFrom('UNAVAILABLE', 'CONFIG') }),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.constantFrom(...VMS).map((vm) => ({
      meanwhile: (world: ForgetWorld) => void world.add(vm, { consistency: 'crash', missing: ['scsi0:1'], health: 'sound' }),
    })),
  },
  {
    weight: 1,
    arbitrary: fc.nat(30).map((pick) => ({
      meanwhile: async (world: ForgetWorld) => {
        const point = [...world.points.keys()][pick % Math.max(1, world.points.size)]
        if (point === undefined) return
        theirRestore = { point, close: await world.openForRestore(point) }
      },
    })),
  },
  {
    weight: 1,
    arbitrary: fc.nat(30).map((pick) => ({
      meanwhile: (world: ForgetWorld) => {
        theirRemoval = [...world.points.keys()][pick % Math.max(1, world.points.size)]
        if (theirRemoval !== undefined) world.points.delete(theirRemoval)
      },
    })),
  },
)
const backup = fc.tuple(fc.constantFrom(...VMS), facts).map(([vm, its]) => new Backup(vm, its))
const commands = [
  backup,
  backup,
  backup,
  fc
    .tuple(policy, fc.constantFrom<readonly string[]>([], ['web01'], ['web01', 'db01']), faults)
    .map(([its, expressions, wrong]) => new Forget(its, expressions, wrong)),
  fc.tuple(fc.nat(50), fc.boolean(), faults).map(([pick, even, wrong]) => new ForgetNamed(pick, even, wrong)),
  fc.constantFrom(24, 24, 7 * 24, -3, -48, 20_000).map((hours) => new StepClock(hours)),
  fc.nat(50).map((pick) => new Restore(pick)),
]

describe('retention can never hurt', () => {
  it('no policy, failure or crash removes the last complete point of a VM, or one that the policy keeps', async () => {
    await fc.assert(
      fc.asyncProperty(fc.commands(commands, { maxCommands: 50, size: 'max' }), async (sequence) => {
        theirRemoval = undefined
        theirRestore = undefined
        await fc.asyncModelRun(() => ({ model: { open: undefined }, real: new ForgetWorld() }), sequence)
      }),
      { seed: 20_261_122, numRuns: 400 },
    )
  })

  it('a destination that takes no removals ends the run at the first refusal: nothing else is tried', async () => {
    const world = new ForgetWorld()
    for (let night = 0; night < 3; night++) {
      world.nowMs += 86_400_000
      for (const vm of VMS) world.add(vm, { consistency: 'filesystem', missing: [], health: 'sound' })
    }
    const result = await world.forget(
      { by: 'policy', policy: { last: 1 }, calendar, expressions: [] },
      { removal: { nth: 1, done: false, code: 'CONFIG' } },
    )
    if (result === undefined || isAgentError(result)) throw new Error('the run has results of its VMs')
    expect(result.vms.map(({ error, forgotten }) => [error?.code, forgotten])).toEqual(VMS.map(() => ['CONFIG', []]))
    expect(result.vms[0]?.error?.message).toContain('does not let restore points be removed')
    expect(world.removals).toBe(1)
    expect(world.points.size).toBe(9)
    expect(world.catalog.size).toBe(9)
    expect(await world.left()).toEqual([])
  })

  it('the failure of one VM does not stop the others', async () => {
    const world = new ForgetWorld()
    for (const health of ['sound', 'unopenable'] as const) {
      world.nowMs += 86_400_000
      world.add('web01', { consistency: 'filesystem', missing: [], health })
      for (const vm of ['db01', 'web02']) world.add(vm, { consistency: 'filesystem', missing: [], health: 'sound' })
    }
    world.vmLocks.set('vc/uuid-db01', 'a backup')
    const result = await world.forget({ by: 'policy', policy: { last: 1 }, calendar, expressions: [] }, {})
    if (result === undefined || isAgentError(result)) throw new Error('the run has results of its VMs')
    expect(result.vms.map(({ vm, error, forgotten }) => [vm.name, error?.code, forgotten.length])).toEqual([
      ['db01', 'CONFLICT', 0],
      ['web01', 'INTEGRITY', 0],
      ['web02', undefined, 1],
    ])
  })

  it('stopped at every step of one run, it leaves every point whole or gone, and nothing held', async () => {
    const policyOfTwo: RetentionPolicy = { last: 2 }
    const prepare = (): ForgetWorld => {
      const world = new ForgetWorld()
      for (let night = 0; night < 5; night++) {
        world.nowMs += 86_400_000
        for (const vm of VMS)
          world.add(vm, { consistency: 'filesystem', missing: night > 2 && vm === 'db01' ? ['scsi0:1'] : [], health: 'sound' })
      }
      return world
    }
    let cuts = 0
    for (let step = 1; ; step++) {
      let ended = false
      for (const after of [false, true]) {
        for (const stopRecovery of [undefined, 1, 3]) {
          const world = prepare()
          const before = [...world.points.values()]
          const result = await world.forget(
            { by: 'policy', policy: policyOfTwo, calendar, expressions: [] },
            { stop: { step, after }, stopRecovery },
          )
          ended = result !== undefined
          cuts++
          expect(await world.left()).toEqual([])
          for (const { summary } of before) {
            if (world.points.has(summary.id)) continue
            expect(allowed(before, summary.vmName, policyOfTwo, world.nowMs)).toContain(summary.id)
          }
          for (const vm of VMS) expect(world.points.has(lastReadable(before, vm) ?? ('' as PointId))).toBe(true)
          // What was begun is finished by running it again.
          await world.forget({ by: 'policy', policy: policyOfTwo, calendar, expressions: [] }, {})
          expect([...world.points.values()].filter(({ summary }) => summary.vmName === 'web01')).toHaveLength(2)
          expect([...world.points.values()].filter(({ summary }) => summary.vmName === 'db01')).toHaveLength(3)
        }
      }
      if (ended) break
    }
    expect(cuts).toBeGreaterThan(300)
  })
})
