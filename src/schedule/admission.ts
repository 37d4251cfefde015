import type { Due } from './job-schedule.ts'

/** Where a VM lies, as far as runs get in each other's way. */
export type Place = {
  readonly vcenter: string
  readonly host: string | undefined
  readonly datastores: readonly string[]
  /** Names of groups of which never two members are backed up at once (cluster nodes, say). */
  readonly apart: readonly string[]
}

/** Runs at once at most; no limit when undefined. */
export type Room = {
  readonly proxy: number
  readonly vcenter?: number | undefined
  readonly host?: number | undefined
  readonly datastore?: number | undefined
}

export type Waiting = { readonly due: Due; readonly place: Place }

/** One VM for the dispatcher. */
export const vmOf = ({ vm }: Pick<Due, 'vm'>): string => `${vm.vcenterUuid}/${vm.instanceUuid}`

/** A run that no RPO hurries is pressed when it has waited so long, ms. */
const PATIENCE_MS = 24 * 3_600_000
/** Of who is pressed, one step of priority weighs as much as so much more lateness, ms. */
const PRIORITY_WEIGHS_MS = 60_000
/** Pressed is who has to begin within this to keep its RPO, ms. */
const NEAR_MS = 30 * 60_000

/** From when on a run is pressed: its RPO is about to be missed, or it waits for a day. */
const pressedFrom = ({ beginBy, since }: Due): number => (beginBy === undefined ? since + PATIENCE_MS : beginBy - NEAR_MS)

/**
 * Who begins first at a moment. Who is pressed comes before all others: first those whose RPO is at stake, then those that have waited long, each in the order of
 * lateness, in which a step of priority weighs a minute. So nobody waits for ever behind those that come again and again with a higher priority. The others as
 * `byPriority` says.
 */
export function byUrgency(now: number): (a: Waiting, b: Waiting) => number {
  const rank = (due: Due): number => (pressedFrom(due) > now ? 2 : due.beginBy === undefined ? 1 : 0)
  const weighed = (due: Due): number => pressedFrom(due) - due.priority * PRIORITY_WEIGHS_MS
  return (a, b) => {
    const [one, other] = [rank(a.due), rank(b.due)]
    if (one !== other) return one - other
    return (one === 2 ? 0 : weighed(a.due) - weighed(b.due)) || byPriority(a, b)
  }
}

/** In the order of `byUrgency`, of those that are in the order of `byPriority` already. */
export function pressedFirst<W extends Waiting>(waiting: readonly W[], now: number): readonly W[] {
  const pressed = waiting.filter(({ due }) => pressedFrom(due) <= now)
  if (pressed.length === 0) return waiting
  return [...pressed.sort(byUrgency(now)), ...waiting.filter(({ due }) => pressedFrom(due) > now)]
}

/** Who begins first while nobody is pressed: priority, then whose RPO is missed first, then who waits longest, then by name, so that the order is always the same. */
export function byPriority(a: Waiting, b: Waiting): number {
  const [one, other] = [a.due, b.due]
  if (one.priority !== other.priority) return other.priority - one.priority
  const late = (due: Due): number => due.deadline ?? Number.POSITIVE_INFINITY
  if (late(one) !== late(other)) return late(one) < late(other) ? -1 : 1
  if (one.dueAt !== other.dueAt) return one.dueAt - other.dueAt
  const [left, right] = [`${one.vm.name} ${one.job} ${vmOf(one)}`, `${other.vm.name} ${other.job} ${vmOf(other)}`]
  return left < right ? -1 : left > right ? 1 : 0
}

/**
 * Which of those that wait may begin beside those that run, most urgent first. Who does not fit holds up nobody but those who want what it waits for: its
 * places are kept for it, so that a VM on two busy datastores gets its turn. A VM never runs twice at once, whatever the jobs. Pure.
 *
 * `waiting` in the order of `byUrgency`.
 */
export function admit<W extends Waiting>(waiting: readonly W[], running: readonly Waiting[], room: Room): readonly W[] {
  const used = new Map<string, number>()
  const take = (names: readonly string[]): void => names.forEach((name) => used.set(name, (used.get(name) ?? 0) + 1))
  for (const each of running) take(placesOf(each))
  const admitted: W[] = []
  let free = room.proxy - running.length
  for (const each of waiting) {
    if (free <= 0) break
    const places = placesOf(each)
    if (places.every((name) => (used.get(name) ?? 0) < limitOf(name, room))) {
      admitted.push(each)
      free--
    }
    take(places)
  }
  return admitted
}

/** Who waits is looked at whenever a run ends. */
const known = new WeakMap<Waiting, readonly string[]>()

/** Everything of which one run takes one. */
function placesOf(of: Waiting): readonly string[] {
  const { due, place } = of
  const found = known.get(of) ?? [
    `vm ${vmOf(due)}`,
    `vcenter ${place.vcenter}`,
    ...(place.host === undefined ? [] : [`host ${place.host}`]),
    ...new Set(place.datastores.map((name) => `datastore ${name}`)),
    ...new Set(place.apart.map((name) => `apart ${name}`)),
  ]
  known.set(of, found)
  return found
}

function limitOf(place: string, room: Room): number {
  switch (place.slice(0, place.indexOf(' '))) {
    case 'vcenter':
      return room.vcenter ?? Number.POSITIVE_INFINITY
    case 'host':
      return room.host ?? Number.POSITIVE_INFINITY
    case 'datastore':
      return room.datastore ?? Number.POSITIVE_INFINITY
    default:
      return 1
  }
}
