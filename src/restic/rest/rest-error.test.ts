import { expect, it } from 'vitest'
import { BusyError } from '../tries.ts'
import { restError, retryAfterMs } from './rest-error.ts'

const NOW = Date.parse('2026-11-26T22:00:00Z')
const of = (status: number, text = '', retryAfter?: string) =>
  restError({ host: 'nas:8000', what: 'save data/ab', status, text, retryAfter, now: NOW })

it.each([
  [401, 'AUTH', 'never'],
  [403, 'CONFIG', 'never'],
  [400, 'CONFIG', 'never'],
  [301, 'CONFIG', 'never'],
  [413, 'CAPACITY', 'later'],
  [507, 'CAPACITY', 'later'],
  [429, 'UNAVAILABLE', 'later'],
  [503, 'UNAVAILABLE', 'later'],
  [500, 'UNAVAILABLE', 'later'],
  [502, 'UNAVAILABLE', 'later'],
])('status %d is %s, to be tried again %s', (status, code, retry) => {
  expect(of(status)).toMatchObject({ code, retry })
})

it('says what the server said, on one line and not endlessly', () => {
  expect(of(500, `disk\n\u001b[31m  broken${'!'.repeat(500)}`).message).toMatch(
    /^nas:8000 answered save data\/ab with status 500: disk \[31m broken!{100,190}\.$/u,
  )
})

it('a pause that is asked for is in seconds, or until a date', () => {
  expect(retryAfterMs('12', NOW)).toBe(12_000)
  expect(retryAfterMs('Thu, 26 Nov 2026 22:00:30 GMT', NOW)).toBe(30_000)
  expect(retryAfterMs('Thu, 26 Nov 2026 21:00:00 GMT', NOW)).toBe(0)
  for (const odd of ['soon', '-1', '1e9', undefined]) expect(retryAfterMs(odd, NOW)).toBeUndefined()
  const busy = of(429, '', '7')
  expect(busy instanceof BusyError && busy.afterMs).toBe(7000)
})
