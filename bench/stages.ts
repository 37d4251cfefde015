import { availableParallelism } from 'node:os'
import { join } from 'node:path'
import type { BenchOptions } from './full-and-second.ts'
import { measure, median } from './measure.ts'

/** What `test/bench/stages.ts` prints of a stage. */
type Stage = { readonly of: readonly string[]; readonly name: string; readonly bytes: number; readonly cpuSeconds: number }

/** What a full and a restore into memory must do at least, stage by stage in one thread, and how near those measured come. */
export async function stages({ places, figures, memory }: BenchOptions & { readonly memory: string }): Promise<void> {
  const script = join(import.meta.dirname, '..', 'test', 'bench', 'stages.ts')
  const { output } = await measure(process.execPath, [script, places.flat, memory], {})
  const found = JSON.parse(output.trim().split('\n').at(-1) ?? '[]') as readonly Stage[]
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
}
