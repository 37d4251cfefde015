import { expect, test } from 'vitest'
import { readSection } from '../../../test/config-section.ts'
import { limitsKeys, limitsOf } from './limits.ts'

const read = (...rest: [text?: string, over?: Parameters<typeof readSection>[3]]) => readSection(limitsKeys, limitsOf, ...rest).limits

test('limits are read, and have defaults where they have to', () => {
  expect(read()).toEqual({ nfc: {}, disksPerVm: 1, bandwidth: [] })
  const text = 'limits: { nfcMemoryPerHost: 8MiB, snapshotsPerDatastore: 2, latency: 20ms, bandwidth: 1MiB/s }'
  expect(read(text, { flags: { bandwidth: '2MiB/s' } })).toMatchObject({
    nfc: { memoryPerHost: 8 * 2 ** 20 },
    snapshotsPerDatastore: 2,
    latencyMs: 20,
    bandwidth: [{ bytesPerSecond: 2 * 2 ** 20 }],
  })
  expect(() => read('limits: { streamsPerDatastore: 0 }')).toThrow(/streamsPerDatastore/)
})
