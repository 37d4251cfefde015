import type { Command } from 'commander'
import { formatBytes, systemClock } from '../core/index.ts'
import type { PruneRun } from '../agent/index.ts'
import { type CliIo, printable, renderTable } from './io.ts'
import { type CommandFlags, examples, withCommon, withRepository } from './options.ts'
import { createProgress } from './progress.ts'

type PruneFlags = CommandFlags & { readonly maxUnused?: string; readonly maxRepackSize?: string; readonly dryRun?: boolean }

export function registerPrune(program: Command, io: CliIo): void {
  withCommon(withRepository(program.command('prune').description('free the space of forgotten restore points in a restic repository')))
    .option(
      '--max-unused <limit>',
      'what may stay that nobody needs: a share like 5%, an amount like 10GiB, or unlimited; 5% when not given',
    )
    .option('--max-repack-size <size>', 'write at most so much of packs partly in use anew; all that is worth it when not given')
    .option('--dry-run', 'show what would be freed, and change nothing')
    .addHelpText(
      'after',
      [
        '',
        'Nobody else can write to the repository, or restore from it, meanwhile. A prune that is cut off loses nothing; the next one goes on. Needs no',
        'stock restic, and does what its "prune" does. See docs/prune.md.',
        examples(['vcb prune --dry-run', 'vcb prune --repo /backup/vms --max-unused 0 --max-repack-size 100GiB --json']),
      ].join('\n'),
    )
    .action(async (flags: PruneFlags) => {
      const [{ withAgent }, { parseMostRepacked, parseMostUnused, runPrune }] = await Promise.all([
        import('./session.ts'),
        import('../agent/index.ts'),
      ])
      const request = {
        dryRun: flags.dryRun === true,
        mostUnused: flags.maxUnused === undefined ? undefined : await parseMostUnused('--max-unused', flags.maxUnused),
        mostRepackedBytes:
          flags.maxRepackSize === undefined ? undefined : await parseMostRepacked('--max-repack-size', flags.maxRepackSize),
      }
      await withAgent(io, flags, async ({ agent, output }) => {
        using progress = await createProgress(io, systemClock, flags.json !== true)
        const run = await runPrune(agent, { ...request, onProgress: (stage, done, total) => progress.update(stage, done, total) })
        output.result(run, () => describe(run))
      })
    })
}

function describe(run: PruneRun): string {
  const rows: string[][] = []
  const row = (what: string, packs: number | undefined, bytes: number): void => {
    rows.push([what, packs === undefined ? '' : String(packs), formatBytes(bytes)])
  }
  const [removed, rewritten] = run.dryRun ? ['would be removed', 'would be written anew'] : ['removed', 'written anew']
  row('before', run.before.packs, run.before.bytes)
  row(`needed by ${run.snapshots} snapshots`, undefined, run.usedBytes)
  row('needed by none', undefined, run.unusedBytes)
  row(`${removed}: in no index`, run.unreferenced.packs, run.unreferenced.bytes)
  row(`${removed}: nothing in use`, run.removed.packs, run.removed.bytes)
  row(`${rewritten}: partly in use`, run.repacked.packs, run.repacked.bytes)
  row('  of that in use', undefined, run.repacked.keptBytes)
  row('stays unused', undefined, run.unusedAfterBytes)
  if (run.kept.packs > 0)
    row(`kept by the server${run.kept.until === undefined ? '' : `, the first until ${run.kept.until}`}`, run.kept.packs, run.kept.bytes)
  const table = renderTable(['', 'PACKS', 'SIZE'], rows)
  return [table, `${run.dryRun ? 'Would free' : 'Freed'} ${formatBytes(run.freedBytes)} in ${printable(run.repository)}.`].join('\n')
}
