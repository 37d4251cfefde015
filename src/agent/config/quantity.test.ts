import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { loadConfig } from './config.ts'
import { bandwidth, bandwidthAt, byteSize, duration, spaceAmount } from './quantity.ts'

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

describe('an amount of bytes', () => {
  const size = byteSize(4 * 2 ** 20, 2 ** 30)
  test('48MiB', () => expect(size.parse('48MiB')).toBe(48 * 2 ** 20))
  test.each(['5%', '1MiB', '2GiB', 'much'])('%j is refused', (text) => expect(size.safeParse(text).success).toBe(false))
})

describe('a bandwidth', () => {
  const at = (hour: number, minute = 0): Date => new Date(2026, 0, 5, hour, minute)
  test('holds always, or in its hours, over midnight too', () => {
    const rules = bandwidth.parse('200MiB/s, 50 MiB/s 08:00-18:00,1G/s 23:30-1:00')
    const rates = [at(7, 59), at(8), at(17, 59), at(18), at(23, 30), at(0, 59), at(1)].map((now) => bandwidthAt(rules, now))
    expect(rates.map((rate) => (rate ?? 0) / 2 ** 20)).toEqual([200, 50, 50, 200, 1024, 1024, 200])
    expect(bandwidthAt(bandwidth.parse(['5M/s 8:00-9:00']), at(10))).toBeUndefined()
  })
  test.each(['', '200', '200MiB', '0MiB/s', '5M/s 8-9', '5M/s 25:00-26:00', '5M/s 08:00-08:00', '5M/s 08:70-09:00', [], 7])(
    '%j is refused',
    (text) => expect(bandwidth.safeParse(text).success).toBe(false),
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
