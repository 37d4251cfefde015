import { mkdtemp, readdir, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { FakeClock } from '../../test/lab/fake-clock.ts'
import { A_NIGHT, runOf, vmNamed } from '../../test/notices-world.ts'
import { AgentError, silentLog } from '../core/index.ts'
import type { NoticeChannel } from './channel.ts'
import { Delivery } from './delivery.ts'
import type { Notice } from './notice.ts'
import type { Occurrence } from './occurrence.ts'
import { MOST_BYTES, Outbox } from './outbox.ts'
import { createReport } from './report.ts'

let directory: string
const clock = new FakeClock()
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'vcb-outbox-'))
})
afterEach(() => rm(directory, { recursive: true, force: true }))

/** Keeps what it is told; refuses while `away`. */
class Receiver implements NoticeChannel {
  readonly told: Notice[] = []
  attempts = 0
  away = false
  async send(notice: Notice): Promise<void> {
    this.attempts++
    if (this.away) throw new AgentError('UNAVAILABLE', 'It is away.')
    this.told.push(notice)
  }
}

let number = 0
const occurrence = (vm: string): Occurrence => ({
  version: 1,
  id: (++number).toString(16).padStart(8, '0'),
  at: clock.now().toISOString(),
  kind: 'run',
  event: 'success',
  record: runOf(vmNamed(vm, number)),
})
const outbox = (mostWaiting?: number) => new Outbox(directory, { clock, log: silentLog, mostWaiting })
const deliveryTo = (receivers: Readonly<Record<string, NoticeChannel>>, gatherMs = 0, mostWaiting?: number) =>
  new Delivery({
    outbox: outbox(mostWaiting),
    channels: Object.entries(receivers).map(([name, channel]) => ({ name, channel, gatherMs, timeZone: 'UTC' })),
    clock,
    log: silentLog,
    proxy: 'proxy01',
  })

/** Runs `body` beside a delivery, which has ended when this resolves. */
async function beside(delivery: Delivery, body: () => Promise<void>): Promise<void> {
  const stop = new AbortController()
  const running = delivery.run({ signal: stop.signal })
  try {
    await body()
  } finally {
    stop.abort()
    await running
  }
}

async function until(true_: () => boolean): Promise<void> {
  for (let turn = 0; !true_(); turn++) {
    if (turn > 3000) throw new Error('it never came')
    await new Promise((resolve) => setTimeout(resolve, 1))
    clock.advance(2000)
  }
}
const vmsOf = (receiver: Receiver): readonly string[][] => receiver.told.map(({ report }) => report.succeeded.map(({ vm }) => vm.name))

describe('delivery', () => {
  test('a server that is away holds up no other, and gets everything in order when it is back, after a restart too', async () => {
    const [office, chat] = [new Receiver(), new Receiver()]
    office.away = true
    const first = deliveryTo({ office, chat })
    await beside(first, async () => {
      for (const vm of ['a', 'b', 'c']) for (const name of ['office', 'chat']) await first.post(name, occurrence(vm))
      await until(() => chat.told.length === 3 && office.attempts > 3)
    })
    expect(vmsOf(chat)).toEqual([['a'], ['b'], ['c']])
    expect(office.told).toEqual([])
    office.away = false
    await beside(deliveryTo({ office, chat }), () => until(() => office.told.length === 3))
    expect(vmsOf(office)).toEqual([['a'], ['b'], ['c']])
    expect(chat.told).toHaveLength(3)
    expect(await outbox().size('office')).toBe(0)
  })

  test('what happens within the gathering time is one notice', async () => {
    const office = new Receiver()
    const delivery = deliveryTo({ office }, 60_000)
    for (const vm of ['a', 'b', 'c']) await delivery.post('office', occurrence(vm))
    await beside(delivery, () => until(() => office.told.length === 1))
    expect(vmsOf(office)).toEqual([['a', 'b', 'c']])
    expect(office.told[0]?.headline).toBe('vcb proxy01: 3 runs succeeded')
  })

  test('a report stands alone between runs', async () => {
    const office = new Receiver()
    const report = createReport({ title: 'Daily', proxy: 'proxy01', until: clock.now(), timeZone: 'UTC', ...A_NIGHT })
    const delivery = deliveryTo({ office }, 1)
    await delivery.post('office', occurrence('a'))
    await delivery.post('office', { version: 1, id: 'd1', at: clock.now().toISOString(), kind: 'digest', report })
    await delivery.post('office', occurrence('b'))
    await beside(delivery, () => until(() => office.told.length === 3))
    expect(office.told.map(({ kind }) => kind)).toEqual(['runs', 'digest', 'runs'])
    expect(office.told[1]).toMatchObject({ severity: 'error', report: { title: 'Daily', counts: { unselected: 2, overdue: 2 } } })
  })

  test('too many that wait: the oldest go, and the next notice says so, once', async () => {
    const office = new Receiver()
    const delivery = deliveryTo({ office }, 60_000, 10)
    for (let count = 0; count < 17; count++) await delivery.post('office', occurrence(`vm${count}`))
    expect(await outbox().size('office')).toBe(10)
    await beside(delivery, async () => {
      await until(() => office.told.length === 1)
      await delivery.post('office', occurrence('later'))
      await until(() => office.told.length === 2)
    })
    // The report has its own order; these are the oldest that were left.
    expect(vmsOf(office)[0]?.toSorted()).toEqual(Array.from({ length: 10 }, (_, index) => `vm${index + 7}`).toSorted())
    expect(office.told[0]?.report.unknown).toEqual(['7 notices before this one could not be delivered and were dropped.'])
    expect(office.told[1]?.report.unknown).toEqual([])
    expect(await outbox().dropped('office')).toBe(0)
  })

  test('what could not be told for three days is given up, and told as dropped', async () => {
    const office = new Receiver()
    const delivery = deliveryTo({ office })
    await delivery.post('office', occurrence('old'))
    clock.advance(4 * 86_400_000)
    const half = join(directory, 'office', `${'0'.repeat(15)}-000000-00000001-ff.json.77.tmp`)
    await writeFile(half, '{')
    await delivery.post('office', occurrence('new'))
    await beside(delivery, () => until(() => office.told.length === 1))
    expect(vmsOf(office)).toEqual([['new']])
    expect(office.told[0]?.report.counts.unknown).toBe(1)
    expect(await readdir(join(directory, 'office'))).toEqual([])
  })

  test('what waits stays within its bytes, whatever servers and guests say', async () => {
    const office = new Receiver()
    const delivery = deliveryTo({ office })
    const warnings = Array.from({ length: 5000 }, () => 'ö'.repeat(50_000))
    const report = createReport({
      title: 'Daily',
      proxy: 'proxy01',
      until: clock.now(),
      timeZone: 'UTC',
      records: Array.from({ length: 600 }, (_, index) => runOf(vmNamed(`vm${index}`, index), { warnings })),
    })
    // Each report alone may be kept; the third drives the oldest out.
    for (const id of ['d1', 'd2', 'd3']) {
      await delivery.post('office', { version: 1, id, at: clock.now().toISOString(), kind: 'digest', report })
      const sizes = await Promise.all(
        (await readdir(join(directory, 'office'))).map(async (name) => (await stat(join(directory, 'office', name))).size),
      )
      expect(sizes.reduce((sum, size) => sum + size, 0)).toBeLessThan(MOST_BYTES + 100)
    }
    const [kept] = await outbox().waiting('office', 10)
    expect(kept?.occurrence).toMatchObject({ id: 'd1', report: { counts: { succeeded: 600, warnings: 3_000_000 } } })
    for (let number_ = 0; number_ < 3; number_++) await delivery.post('office', occurrence(`vm${number_}`))
    expect(await outbox().size('office')).toBe(6)
  })

  test('the same occurrence is kept once; a file that nobody understands stops nobody', async () => {
    const office = new Receiver()
    const delivery = deliveryTo({ office })
    const same = occurrence('a')
    await delivery.post('office', same)
    await delivery.post('office', same)
    const begun = String(clock.now().getTime() - 5000).padStart(15, '0')
    for (let file = 10; file < 30; file++) {
      await writeFile(
        join(directory, 'office', `${begun}-000000-00000012-${file}.json`),
        ['{"version":1,', '{"version":9,"kind":"run"}'][file % 2] ?? '',
      )
    }
    await beside(delivery, () => until(() => office.told.length === 1))
    expect(vmsOf(office)).toEqual([['a']])
    expect((await readdir(join(directory, 'office'))).filter((name) => name.endsWith('.unreadable'))).toHaveLength(10)
  })
})
