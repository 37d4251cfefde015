import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { parse } from 'yaml'
import { formatProblem, loadConfig } from '../../src/agent/index.ts'
import { inspectConfig } from '../../src/agent/config/config.ts'
import { jobDefaultKeys } from '../../src/agent/config/jobs.ts'
import { STAGES } from '../../src/core/index.ts'
import { rowsUnder } from './markdown-table.ts'

const PAGE = await readFile(join(import.meta.dirname, '..', '..', 'docs', 'jobs.md'), 'utf8')

it('the example is understood as it stands, and is the cycle it says it is', async () => {
  const [, example = ''] = /```yaml\n(repositories:[^]*?)```/.exec(PAGE) ?? []
  expect(Object.keys(parse(example) as object)).toEqual(['repositories', 'jobDefaults', 'jobs'])
  const directory = await mkdtemp(join(tmpdir(), 'vcb-jobs-page-'))
  try {
    const config = join(directory, 'vcb.yaml')
    await writeFile(config, example)
    expect((await inspectConfig({ config }, {})).problems.map(formatProblem)).toEqual([])
    const [production, files] = (await loadConfig({ config }, {})).jobs
    expect(production?.schedule).toMatchObject({ cron: ['0 22 * * 0-5'], full: { cron: ['0 22 * * 6'] }, timeZone: 'Europe/Berlin' })
    expect(files?.schedule).toMatchObject({ rpoMs: 93_600_000, full: 'first' })
  } finally {
    await rm(directory, { recursive: true, force: true })
  }
})

it('the tables name every key of a job and every stage, and no other', () => {
  const listed = rowsUnder(PAGE, 'Keys of a job').flatMap(([keys = '']) => keys.replaceAll('`', '').split(', '))
  expect(listed.toSorted()).toEqual(['name', 'select', ...Object.keys(jobDefaultKeys)].toSorted())
  expect(rowsUnder(PAGE, 'Programs at stages').map(([stage = '']) => stage.replaceAll('`', ''))).toEqual([...STAGES])
})
