import { seededRandom } from '../bench/random.ts'
import type { ErrorCode, VmRef } from '../src/core/index.ts'
import { type JobSchedule, simulate, type Simulated, type SimulatedJob, type Simulation, type Weekday } from '../src/schedule/index.ts'

/** 2026 in Berlin, with both changes of the clock. */
export const YEAR = { from: Date.parse('2025-12-31T23:00:00Z'), to: Date.parse('2026-12-31T23:00:00Z') } as const

const MINUTE = 60_000
const HOUR = 60 * MINUTE
const ALL: readonly Weekday[] = [1, 2, 3, 4, 5, 6, 7]
const CODES: readonly ErrorCode[] = ['UNAVAILABLE', 'UNAVAILABLE', 'GUEST', 'CAPACITY']

const base: JobSchedule = {
  timeZone: 'Europe/Berlin',
  cron: [],
  rpoMs: undefined,
  full: 'first',
  windows: [],
  blackouts: [],
  priority: 0,
  retry: { attempts: 2, delayMs: 10 * MINUTE, on: ['UNAVAILABLE'] },
}

/** Weekly full and nightly incremental for most, an RPO of a day inside a window, an RPO of four hours around the clock, another time zone. */
const SCHEDULES: readonly { readonly name: string; readonly vms: number; readonly schedule: JobSchedule }[] = [
  {
    name: 'nightly',
    vms: 700,
    schedule: {
      ...base,
      cron: ['0 22 * * *'],
      full: { cron: ['0 22 * * 5'] },
      windows: [{ days: ALL, from: 21 * 60, to: 7 * 60 }],
      blackouts: [{ from: '2026-12-24T00:00', to: '2026-12-28T00:00' }],
    },
  },
  {
    name: 'daily-target',
    vms: 200,
    schedule: { ...base, rpoMs: 26 * HOUR, windows: [{ days: ALL, from: 20 * 60, to: 6 * 60 }] },
  },
  { name: 'gold', vms: 40, schedule: { ...base, rpoMs: 4 * HOUR, priority: 10, full: { everyMs: 7 * 24 * HOUR } } },
  {
    name: 'overseas',
    vms: 60,
    schedule: {
      ...base,
      timeZone: 'America/New_York',
      cron: ['30 1 * * 2-6'],
      windows: [{ days: ALL, from: 60, to: 5 * 60 }],
      full: { everyMs: 14 * 24 * HOUR },
    },
  },
]

const ref = (job: string, index: number): VmRef => {
  const name = `${job}-${String(index).padStart(3, '0')}`
  return { moref: name, name, instanceUuid: name, biosUuid: name, vcenterUuid: 'vc', path: `/DC/vm/${name}` }
}

/** 1,000 VMs on 20 hosts and 25 datastores, seeded; runs of 2 to 22 minutes, one in 200 of which fails, and two days in May without an agent. */
export function simulatedYear(): Simulated &
  Pick<Simulation, 'room'> & { readonly jobs: readonly SimulatedJob[]; readonly away: NonNullable<Simulation['away']> } {
  const draw = seededRandom('a year')
  const unit = (): number => draw.bytes(4).readUInt32LE() / 2 ** 32
  let count = 0
  const jobs = SCHEDULES.map(
    ({ name, vms, schedule }): SimulatedJob => ({
      name,
      schedule,
      vms: Array.from({ length: vms }, (_none, index) => {
        const own = count++
        const apart = index % 50 < 2 ? [`${name} cluster ${Math.floor(index / 50)}`] : []
        return { vm: ref(name, index), place: { vcenter: 'vc', host: `esx${own % 20}`, datastores: [`ds${own % 25}`], apart } }
      }),
    }),
  )
  const room = { proxy: 32, host: 4, datastore: 3 } as const
  const away = [{ from: Date.parse('2026-05-11T20:10:00Z'), to: Date.parse('2026-05-13T09:00:00Z') }] as const
  const simulated = simulate(jobs, {
    ...YEAR,
    room,
    away,
    howLong: (_vm, mode) => (2 + 8 * unit() + (mode === 'full' ? 12 : 0)) * MINUTE,
    outcome: () => (unit() < 1 / 200 ? CODES[Math.floor(unit() * CODES.length)] : undefined),
  })
  return { ...simulated, jobs, room, away }
}
