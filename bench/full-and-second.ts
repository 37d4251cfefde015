import { execFileSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { join } from 'node:path'
import type { Contestant, Places, Vcb } from './contestants.ts'
import type { Figures } from './figures.ts'
import { changeImage, makeImage } from './image.ts'
import { inTurns } from './in-turns.ts'
import { type Cost, measure, median } from './measure.ts'

export type BenchOptions = {
  /** Of the disk, bytes. */
  readonly size: number
  readonly rounds: number
  /** Share of the disk. */
  readonly changed: number
  readonly places: Places
  readonly figures: Figures
  readonly vcb: Vcb
  readonly others: readonly Contestant[]
  readonly verify: boolean
}

const MIB = 1024 * 1024
const RSS_GOAL = 300e6
const total = (ranges: readonly { readonly length: number }[]): number => ranges.reduce((sum, range) => sum + range.length, 0)

/** A full backup, and one more when a part of the disk has changed. */
export async function fullAndSecond(options: BenchOptions): Promise<void> {
  const { size, rounds, changed, places, figures, vcb, others } = options
  const all = [vcb, ...others]
  const allocated = total(makeImage(places.flat, size))
  figures.title(`disk of ${size / MIB} MiB, ${Math.round(allocated / MIB)} MiB allocated; ${rounds} rounds in turns, medians, warm cache`)
  for (const each of all) for (let round = 0; round < rounds; round++) await each.prepare(round)

  figures.title('full')
  const reads = (): string => places.flat
  for (const [each, costs] of await inTurns(all, rounds, (contestant, round) => contestant.full(round), reads))
    figures.add({ part: 'full', tool: each.name, costs, repositoryBytes: each.repositoryBytes(0) })
  judgeFull(figures)

  const changes = changeImage(places.flat, changed)
  vcb.changed = join(places.work, 'changed.json')
  writeFileSync(vcb.changed, JSON.stringify(changes))
  figures.title(`incremental, ${(changed * 100).toFixed(1)} % changed in ${changes.length} places`)
  let read = 0
  const again = all.filter((each) => each.second !== undefined)
  const second = async (contestant: Contestant, round: number): Promise<Cost> => {
    const cost = await contestant.second?.(round)
    if (cost === undefined) throw new Error(`${contestant.name} has no second backup`)
    if (contestant === vcb) read = vcb.last[round]?.readBytes ?? 0
    return cost
  }
  const seconds = await inTurns(again, rounds, second, reads)
  for (const [each, costs] of seconds)
    figures.add({ part: 'incremental', tool: each.name, costs, repositoryBytes: each.repositoryBytes(0) })
  judgeSecond(figures, read, total(changes))

  figures.title('incremental in which nothing changed')
  writeFileSync(vcb.changed, '[]')
  const nothing = await inTurns([vcb], rounds, (contestant, round) => contestant.second(round))
  figures.add({ part: 'unchanged', tool: vcb.name, costs: nothing.get(vcb) ?? [] })
  const fixed = median((nothing.get(vcb) ?? []).map(({ wallSeconds }) => wallSeconds))
  figures.goal(`what an incremental costs but for what changed stays within 1.5 s (${fixed.toFixed(2)})`, fixed, fixed <= 1.5)
  const typed = await inTurns([vcb], rounds, (contestant, round) => contestant.secondWithPassword(round))
  figures.add({ part: 'unchanged, with a password', tool: vcb.name, costs: typed.get(vcb) ?? [] })
  const derived = median((typed.get(vcb) ?? []).map(({ wallSeconds }) => wallSeconds))
  figures.goal(`the same with a password of somebody (${derived.toFixed(2)})`, derived, derived <= 1.5)
  if (options.verify) await verify(options)
}

function judgeFull(figures: Figures): void {
  const restic = figures.ratio('full', 'vcb', 'restic')
  const borg = figures.ratio('full', 'vcb', 'borg')
  figures.ratio('full', 'vcb', 'restic', 'cpuSeconds')
  figures.ratio('full', 'vcb', 'qemu-img')
  figures.goal(`a full is 3 times as fast as stock restic's (${(1 / restic).toFixed(2)})`, restic, restic <= 1 / 3)
  figures.goal(`a full is twice as fast as borg's (${(1 / borg).toFixed(2)})`, borg, borg <= 1 / 2)
  const stored = (tool: string): number => figures.of('full', tool)?.repositoryBytes ?? Number.NaN
  const more = stored('vcb') / stored('restic')
  figures.ratios['full: vcb/restic, stored'] = Number(more.toFixed(4))
  figures.goal(`a full takes no more room than restic's (${more.toFixed(3)})`, more, more <= 1)
  const costs = figures.of('full', 'vcb')?.costs ?? []
  const busy = median(costs.map(({ cpuSeconds, wallSeconds }) => cpuSeconds / wallSeconds / availableParallelism()))
  figures.goal(`the processor is busy for 85 % of a full (${(busy * 100).toFixed(0)} %)`, busy, busy >= 0.85)
  const resident = Math.max(...costs.map(({ rssBytes }) => rssBytes))
  figures.goal(`resident memory stays within ${RSS_GOAL / 1e6} MB (${Math.round(resident / 1e6)})`, resident, resident <= RSS_GOAL)
}

function judgeSecond(figures: Figures, read: number, changed: number): void {
  const restic = figures.ratio('incremental', 'vcb', 'restic')
  figures.ratio('incremental', 'vcb', 'borg')
  figures.ratio('incremental', 'vcb', 'restic', 'cpuSeconds')
  figures.goal(`an incremental is 15 times as fast as restic's second backup (${(1 / restic).toFixed(1)})`, restic, restic <= 1 / 15)
  const share = read / changed
  figures.goal(`an incremental reads at most twice what changed (${share.toFixed(2)})`, share, read > 0 && share <= 2)
}

/** Stock restic reads everything of our repository, and gives back the disk as it is now. */
async function verify({ places, figures, vcb, rounds }: BenchOptions): Promise<void> {
  const repository = vcb.repository(rounds - 1)
  const asRestic = {
    RESTIC_REPOSITORY: repository,
    RESTIC_PASSWORD_FILE: vcb.passwordFile(rounds - 1),
    RESTIC_CACHE_DIR: join(places.work, 'cache'),
  } satisfies Record<string, string>
  await measure('restic', ['check', '--read-data', '--quiet'], asRestic)
  const { output } = await measure('restic', ['ls', '--json', 'latest'], asRestic)
  const files = output.split('\n').flatMap((text) => (text.includes('-flat.vmdk"') ? [(JSON.parse(text) as { path: string }).path] : []))
  const digest = (command: string): string =>
    execFileSync('bash', ['-o', 'pipefail', '-c', command], { encoding: 'utf8', env: { ...process.env, ...asRestic } }).slice(0, 64)
  const same = files.length === 1 && digest(`restic dump latest '${files[0]}' | sha256sum`) === digest(`sha256sum <'${places.flat}'`)
  figures.goal('stock restic finds the repository sound and gives back the same disk', 1, same)
}
