import fc from 'fast-check'
import type { RunId, RunRecord, PointId, VmRef } from '../src/core/index.ts'
import type { Coverage } from '../src/notices/index.ts'

/** Text that a stranger may give a VM, for whoever shows it: markup, quotes, a second line, colours of a terminal, right-to-left override. */
export const HOSTILE = `<img src=x onerror="a()">&'\r\nOK\u001b[31m\u202e`

/** Any UTF-16 unit, halves of pairs too. */
export const ANY = fc.integer({ min: 0, max: 0xffff }).map((unit) => String.fromCharCode(unit))

export const vmNamed = (name: string, number = 1): VmRef => ({
  moref: `vm-${number}`,
  name,
  instanceUuid: `5000-${number}`,
  biosUuid: `4200-${number}`,
  vcenterUuid: 'vc-1',
  path: `/DC/vm/${name}`,
})

/** A run that succeeded, unless told otherwise. */
export const runOf = (vm: VmRef, over: Partial<RunRecord> = {}): RunRecord => ({
  run: 'aa00' as RunId,
  job: 'production',
  vm,
  mode: 'incremental',
  dueAt: '2026-11-25T21:00:00.000Z',
  begunAt: '2026-11-25T21:00:02.000Z',
  endedAt: '2026-11-25T21:14:02.000Z',
  result: 'succeeded',
  error: undefined,
  point: 'p1' as PointId,
  repository: 'restic:/backup',
  consistency: 'filesystem',
  totalBytes: 40 * 2 ** 30,
  readBytes: 3 * 2 ** 30,
  storedBytes: 1.5 * 2 ** 30,
  snapshotLifetimeMs: 125_000,
  frozenMs: 1400,
  notProtected: [],
  warnings: [],
  ...over,
})

/** A night in which everything happened that a report tells. */
export const A_NIGHT: { readonly records: readonly RunRecord[]; readonly coverage: Coverage } = {
  records: [
    runOf(vmNamed('db01', 1)),
    runOf(vmNamed('web01', 2), {
      mode: 'full',
      notProtected: [{ what: 'scsi0:2', reason: 'independent disks are in no snapshot' }],
      warnings: ['The guest was not quiesced: VMware Tools are not running.'],
      consistency: 'crash',
      frozenMs: undefined,
    }),
    runOf(vmNamed('web01', 2), {
      begunAt: '2026-11-25T20:00:00.000Z',
      endedAt: '2026-11-25T20:01:00.000Z',
      result: 'failed',
      point: undefined,
      mode: undefined,
      error: { code: 'UNAVAILABLE', message: 'vc.example.com did not answer.', next: 'Check the network and the host.' },
    }),
    runOf(vmNamed('app07', 3), {
      result: 'failed',
      point: undefined,
      error: { code: 'CAPACITY', message: 'The datastore ds1 has 1.0 GiB free.', next: 'Free space on it.' },
    }),
    runOf(vmNamed('app08', 4), {
      result: 'canceled',
      point: undefined,
      error: { code: 'CANCELED', message: 'Canceled by alice.', next: undefined },
    }),
    runOf(vmNamed(HOSTILE, 5)),
  ],
  coverage: {
    at: new Date('2026-11-26T06:00:00.000Z'),
    unselected: [vmNamed('test01', 9), vmNamed(HOSTILE, 10)],
    covered: [
      {
        vm: vmNamed('db01', 1),
        jobs: ['production'],
        lastGoodAt: new Date('2026-11-25T21:00:02.000Z'),
        allowedAgeMs: 86_400_000,
        hasRpo: true,
        knownSince: new Date('2026-01-01T00:00:00.000Z'),
      },
      {
        vm: vmNamed('app07', 3),
        jobs: ['production', 'weekly'],
        lastGoodAt: new Date('2026-11-20T21:00:02.000Z'),
        allowedAgeMs: 86_400_000,
        hasRpo: true,
        knownSince: new Date('2026-01-01T00:00:00.000Z'),
      },
      {
        vm: vmNamed('old01', 8),
        jobs: ['weekly'],
        lastGoodAt: undefined,
        allowedAgeMs: 8 * 86_400_000,
        hasRpo: false,
        knownSince: new Date('2026-01-01T00:00:00.000Z'),
      },
    ],
    problems: [{ job: 'lab', what: 'has no VM', reason: 'No VM is called "lab*".' }],
    unknown: ['Which VMs are in no job is not known: vc.example.com did not answer.'],
  },
}
