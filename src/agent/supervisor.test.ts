import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { requirePeer } from '../../test/peer.ts'
import { openSupervisorSocket } from '../../test/supervisor-socket.ts'
import { silentLog, systemClock } from '../core/index.ts'
import { createSupervisor } from './supervisor.ts'

let directory: string
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'vcb-supervisor-'))
})
afterEach(() => rm(directory, { recursive: true, force: true }))

const until = async (condition: () => boolean): Promise<void> => {
  while (!condition()) await systemClock.sleep(5)
}

test('systemd hears in order what the agent does, and that it is alive', async () => {
  requirePeer('systemd-notify')
  await using socket = await openSupervisorSocket(requirePeer('python3'), join(directory, 'notify'))
  const environment = { NOTIFY_SOCKET: socket.path, WATCHDOG_USEC: '100000', WATCHDOG_PID: String(process.ppid) }
  const supervisor = createSupervisor({ environment, clock: systemClock, log: silentLog })
  supervisor.ready('It runs,\n  with two lines.')
  supervisor.reloading()
  supervisor.ready('It runs again.')
  await until(() => socket.heard.filter((line) => line === 'WATCHDOG=1').length >= 2)
  supervisor.stopping('x'.repeat(1000))
  await supervisor[Symbol.asyncDispose]()
  await until(() => socket.heard.some((line) => line.startsWith('STOPPING=1')))
  expect(socket.heard.filter((line) => line !== 'WATCHDOG=1')).toEqual([
    'READY=1 STATUS=It runs, with two lines.',
    'RELOADING=1',
    'READY=1 STATUS=It runs again.',
    `STOPPING=1 STATUS=${'x'.repeat(200)}`,
  ])
})

test('who is not listened to goes on, and says so once', async () => {
  requirePeer('systemd-notify')
  const errors: unknown[] = []
  const log = { ...silentLog, error: (message: string, fields?: object) => void errors.push([message, fields]) }
  const supervisor = createSupervisor({ environment: { NOTIFY_SOCKET: join(directory, 'nobody') }, clock: systemClock, log })
  supervisor.ready('one')
  supervisor.reloading()
  await supervisor[Symbol.asyncDispose]()
  expect(errors).toEqual([['systemd could not be told', { what: 'READY=1 STATUS=one', error: expect.any(String) }]])
})

test('outside a unit nothing is told, and the watchdog of another process is not ours', async () => {
  const told: unknown[] = []
  const clock = { ...systemClock, every: (ms: number) => (told.push(ms), { [Symbol.dispose]: () => undefined }) }
  await createSupervisor({ environment: { WATCHDOG_USEC: '1000000' }, clock, log: silentLog })[Symbol.asyncDispose]()
  expect(told).toEqual([])
  const environment = { NOTIFY_SOCKET: join(directory, 'nobody'), WATCHDOG_USEC: '1000000', WATCHDOG_PID: '1' }
  await createSupervisor({ environment, clock, log: silentLog })[Symbol.asyncDispose]()
  expect(told).toEqual([30_000])
})
