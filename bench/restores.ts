import { execFileSync } from 'node:child_process'
import { mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { type Contestant, Copy } from './contestants.ts'
import type { BenchOptions } from './full-and-second.ts'
import { inTurns } from './in-turns.ts'
import type { Cost } from './measure.ts'

/**
 * The disk as it was last stored into a raw file: in memory, where the processor is the limit, and on the disk, with the time until it is there. All rounds out of the first repository: those
 * of all rounds are more than memory holds, and what is measured then is how a kernel makes room.
 */
export async function restores(options: BenchOptions & { readonly memory: string }): Promise<void> {
  const { rounds, places, figures, vcb, others, memory } = options
  const all = [vcb, ...others].filter((each) => each.restore !== undefined)
  for (const each of all) for (let round = 1; round < rounds; round++) rmSync(each.repository(round), { recursive: true, force: true })
  const reads = (each: Contestant): string => (each instanceof Copy ? places.flat : each.repository(0))
  for (const [part, parent, synced] of [
    ['restore into memory', memory, false],
    ['restore onto the disk', places.work, true],
  ] as const) {
    figures.title(part)
    const restore = async (contestant: Contestant, round: number): Promise<Cost> => {
      const directory = mkdtempSync(join(parent, 'restored-'))
      try {
        const cost = await contestant.restore?.(0, directory, synced)
        if (cost === undefined) throw new Error(`${contestant.name} restores nothing`)
        if (options.verify && contestant === vcb && round === 0) refuseAnother(places.flat, directory)
        return cost
      } finally {
        rmSync(directory, { recursive: true, force: true })
      }
    }
    const costs = await inTurns(all, rounds, restore, reads)
    for (const [each, its] of costs) figures.add({ part, tool: each.name, costs: its })
    const restic = figures.ratio(part, 'vcb', 'restic')
    const copy = figures.ratio(part, 'vcb', 'cp')
    figures.ratio(part, 'vcb', 'borg')
    figures.ratio(part, 'vcb', 'restic', 'cpuSeconds')
    if (!synced) figures.goal(`a restore is 2.2 times as fast as restic's (${(1 / restic).toFixed(2)})`, restic, restic <= 1 / 2.2)
    const [share, where] = synced ? [0.8, 'onto the disk'] : [0.6, 'in memory']
    figures.goal(`a restore has ${share * 100} % of the speed of cp ${where} (${(100 / copy).toFixed(0)} %)`, copy, copy <= 1 / share)
  }
}

/** The restored disk is the one that was stored. */
function refuseAnother(flat: string, directory: string): void {
  const restored = readdirSync(directory).find((name) => name.endsWith('-flat.vmdk'))
  execFileSync('cmp', [flat, join(directory, restored ?? 'restored-flat.vmdk')])
}
