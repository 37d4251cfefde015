import { expect, test } from 'vitest'
import { fileSchema } from './config.ts'
import { JOB_SETTINGS } from './job-settings.ts'
import { jobDefaultKeys } from './jobs.ts'
import { formatDuration, parseDuration } from './duration.ts'
import { leavesOf } from './schema-keys.ts'
import { SETTINGS } from './settings.ts'

test('every key of the file has its line in what is explained, and no line a key that is not there', () => {
  const keys = SETTINGS.flatMap((setting) => setting.keys)
  const isAt = (leaf: string, key: string): boolean => leaf === key || leaf.startsWith(`${key}.`)
  const leaves = leavesOf(fileSchema).filter((leaf) => leaf !== 'jobs' && !leaf.startsWith('jobDefaults.'))
  expect(leaves.length).toBeGreaterThan(50)
  expect(leaves.filter((leaf) => keys.filter((key) => isAt(leaf, key)).length !== 1)).toEqual([])
  expect(keys.filter((key) => !leaves.some((leaf) => isAt(leaf, key)))).toEqual([])
})

test('every key of a job has its line too', () => {
  expect(JOB_SETTINGS.map(({ key }) => key).toSorted()).toEqual(['name', 'select', ...Object.keys(jobDefaultKeys)].toSorted())
  const keys = SETTINGS.flatMap((setting) => setting.keys)
  for (const { general } of JOB_SETTINGS) if (general !== undefined) expect(keys).toContain(general)
})

test.each([500, 1000, 90_000, 120_000, 5_400_000, 86_400_000, 93_600_000, 604_800_000, 691_200_000])(
  'a time of %d ms is written as it is read',
  (ms) => {
    expect(parseDuration('--x', formatDuration(ms))).toBe(ms)
  },
)
