import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { loadConfig } from './config.ts'
import { duration, spaceAmount } from './quantity.ts'

describe('a time', () => {
  const time = duration(100, 3_600_000)
  test.each([
    ['500ms', 500],
    ['90s', 90_000],
    ['90', 90_000],
    [2, 2000],
    ['1.5 m', 90_000],
    ['2min', 120_000],
    ['1h', 3_600_000],
  ] as const)('%s is %d ms', (text, ms) => expect(time.parse(text)).toBe(ms))
  test.each(['', '99ms', '2h', '-1s', '1 week', 'soon', '1e3s', null, {}])('%j is refused', (text) =>
    expect(time.safeParse(text).success).toBe(false),
  )
})

describe('an amount of space', () => {
  test.each([
    ['5GiB', { bytes: 5 * 2 ** 30 }],
    ['500M', { bytes: 500 * 2 ** 20 }],
    ['1.5 TiB', { bytes: 1.5 * 2 ** 40 }],
    ['0', { bytes: 0 }],
    [1024, { bytes: 1024 }],
    ['5%', { percent: 5 }],
  ] as const)('%s', (text, amount) => expect(spaceAmount.parse(text)).toEqual(amount))
  test.each(['', '95%', '-5GiB', '5 GBit', 'some', '9999999PiB', []])('%j is refused', (text) =>
    expect(spaceAmount.safeParse(text).success).toBe(false),
  )
})

describe('the settings of the guards', () => {
  const load = async (text: string, flags: object = {}, environment: Record<string, string> = {}) => {
    const directory = await mkdtemp(join(tmpdir(), 'vcb-quantity-'))
    try {
      await writeFile(join(directory, 'vcb.yaml'), text)
      return await loadConfig({ config: join(directory, 'vcb.yaml'), ...flags }, environment)
    } finally {
      await rm(directory, { recursive: true })
    }
  }

  test('have defaults that protect', async () => {
    expect(await load('')).toMatchObject({
      freezeLimitMs: 120_000,
      space: { guard: true, reserve: undefined, intervalMs: 20_000 },
      resume: { attempts: 4, lastAttempts: 24, delayMs: 1000, maxDelayMs: 30_000 },
    })
  })

  test('are read from the file, the environment and the flags, in rising order', async () => {
    const text = 'freezeLimit: 30s\nspace:\n  reserve: 10%\n  interval: 5s\n  guard: false\nresume:\n  attempts: 0\n  delay: 10ms\n'
    expect(await load(text)).toMatchObject({
      freezeLimitMs: 30_000,
      space: { guard: false, reserve: { percent: 10 }, intervalMs: 5000 },
      resume: { attempts: 0, delayMs: 10 },
    })
    const environment = { VCB_FREEZE_LIMIT: '40s', VCB_SPACE_RESERVE: '1GiB' }
    expect(await load(text, {}, environment)).toMatchObject({ freezeLimitMs: 40_000, space: { reserve: { bytes: 2 ** 30 } } })
    expect(await load('', { freezeLimit: '50s', spaceReserve: '2%', spaceGuard: false }, environment)).toMatchObject({
      freezeLimitMs: 50_000,
      space: { guard: false, reserve: { percent: 2 } },
    })
  })

  test('say what is wrong with them', async () => {
    await expect(load('freezeLimit: never\n')).rejects.toMatchObject({ code: 'CONFIG', message: expect.stringContaining('freezeLimit') })
    await expect(load('', { spaceReserve: 'much' })).rejects.toMatchObject({
      code: 'USAGE',
      message: expect.stringContaining('--space-reserve is wrong: "much" is not an amount of space'),
    })
  })
})
