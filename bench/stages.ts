import { availableParallelism } from 'node:os'
import { join } from 'node:path'
import type { BenchOptions } from './full-and-second.ts'
import type { Figures } from './figures.ts'
import { measure, median } from './measure.ts'

/** What `test/bench/stages.ts` prints of a stage. */
type Stage = { readonly of: readonly string[]; readonly name: string; readonly bytes: number; readonly cpuSeconds: number }

/** What makes a full as small as restic's: its level of zstd, on blocks that are about as long as its chunks. */
const AS_SMALL = { level: '3', block: '1048576' } as const

/** What a full and a restore into memory must do at least, stage by stage in one thread, and how near those measured come. */
export async function stages({ places, figures, memory }: BenchOptions & { readonly memory: string }): Promise<void> {
  const script = join(import.meta.dirname, '..', 'test', 'bench', 'stages.ts')
  const run = async (...how: readonly string[]): Promise<readonly Stage[]> => {
    const { output } = await measure(process.execPath, [script, places.flat, memory, ...how], {})
    return JSON.parse(output.trim().split('\n').at(-1) ?? '[]') as readonly Stage[]
  }
  const found = await run()
  figures.stages = found
  for (const { name, cpuSeconds } of found.filter(({ of }) => of.length === 0))
    figures.title(`${name}: ${cpuSeconds.toFixed(2)} CPU s, where there is no random key; in no figure`)
  for (const [of, part] of [
    ['full', 'full'],
    ['restore', 'restore into memory'],
  ] as const) {
    figures.title(`the stages of a ${of}, four blocks after the other four, in one thread`)
    const its = found.filter((stage) => stage.of.includes(of))
    for (const { name, bytes, cpuSeconds } of its) {
      const speed = bytes === 0 ? '' : `${Math.round(bytes / cpuSeconds / 1e6)} MB/s`
      figures.title(`  ${name.padEnd(28)} ${cpuSeconds.toFixed(2).padStart(8)} CPU s  ${speed.padStart(10)}`)
    }
    const least = its.reduce((sum, { cpuSeconds }) => sum + cpuSeconds, 0)
    const cores = availableParallelism()
    const took = figures.of(part, 'vcb')?.costs.map(({ cpuSeconds }) => cpuSeconds)
    const share = took === undefined ? '' : `, ${((least / median(took)) * 100).toFixed(0)} % of what it took`
    figures.title(
      `  ${'together'.padEnd(28)} ${least.toFixed(2).padStart(8)} CPU s: ${(least / cores).toFixed(2)} s of ${cores} cores${share}`,
    )
  }
  judgeAsSmall(figures, found, await run(AS_SMALL.level, AS_SMALL.block))
}

/** How fast a full could be at most that takes no more room than restic's: `small` are its stages, `usual` those of a full as it is. */
function judgeAsSmall(figures: Figures, usual: readonly Stage[], small: readonly Stage[]): void {
  const its = small.filter(({ of }) => of.includes('full'))
  const least = its.reduce((sum, { cpuSeconds }) => sum + cpuSeconds, 0)
  figures.stagesAsSmall = small
  const { level, block } = AS_SMALL
  const cores = availableParallelism()
  figures.title(
    `the stages of a full with level ${level} and blocks of ${Number(block) / 1024} KiB: ${least.toFixed(2)} CPU s, ${Math.round(storedBy(small) / 2 ** 20)} MiB stored`,
  )
  const restic = figures.of('full', 'restic')
  const more = figures.ratios['full: vcb/restic, stored']
  if (restic === undefined || more === undefined) return
  const times = median(restic.costs.map(({ wallSeconds }) => wallSeconds)) / (least / cores)
  // The disk has changed since restic stored it, so its room is reckoned from that of our own full.
  const room = (storedBy(small) / storedBy(usual)) * more
  figures.title(`  ${room.toFixed(3)} of restic's room, and ${times.toFixed(2)} times as fast as restic at most on ${cores} cores`)
}

const storedBy = (stages: readonly Stage[]): number =>
  stages.find(({ of, name }) => of.includes('full') && name === 'SHA-256 of packs')?.bytes ?? Number.NaN
