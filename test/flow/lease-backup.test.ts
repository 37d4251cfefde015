import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from 'vitest'
import { MIB } from '../../src/core/index.ts'
import type { FaultRule } from '../../src/lab/index.ts'
import { FROM_SOURCES, runChild } from '../crash/commands.ts'
import { type Json, type LabSession, openLabSession } from './lab-session.ts'

vi.setConfig({ testTimeout: 120_000 })

const scenario = {
  taskMs: 0,
  recordDigests: true,
  leaseTimeoutSeconds: 4,
  datacenters: [
    {
      name: 'DC',
      hosts: [{ name: 'esx1' }],
      datastores: [
        { name: 'v6', type: 'VMFS6' },
        { name: 'v5', type: 'VMFS5' },
      ],
      vms: [
        {
          name: 'web',
          datastore: 'v6',
          changeTracking: true,
          disks: [{ size: '16MiB', content: 'random' }, { size: '24MiB' }, { size: '12MiB', datastore: 'v5', content: 'random' }],
        },
        { name: 'off', datastore: 'v6', power: 'poweredOff', disks: [{ size: '8MiB', content: 'random' }] },
        // More data than the window of the transport holds.
        { name: 'big', datastore: 'v6', changeTracking: true, disks: [{ size: '80MiB', content: 'random' }] },
      ],
    },
  ],
}

let session: LabSession
beforeAll(async () => {
  session = await openLabSession({ scenario })
})
afterAll(() => session[Symbol.asyncDispose]())
afterEach(async () => {
  await session.lab.control.clearFaults()
})

const run = (...argv: readonly string[]) => session.vcbWith({ VCB_DATASTORES: undefined }, 'backup', ...argv, '--init', '--json')

async function backup(...argv: readonly string[]): Promise<Json> {
  const result = await run(...argv)
  expect({ exit: result.exit, err: result.err, out: result.exit === 0 ? '' : result.out }).toEqual({ exit: 0, err: '', out: '' })
  return result.json().vms[0]
}

describe('a backup over an export lease', () => {
  test('of a running VM with several disks is what the guest had, and no lease is left', async () => {
    const vm = await backup('web', '--mode', 'full', '--transport', 'lease')
    expect(vm.disks.map((disk: Json) => [disk.mode, disk.transport, disk.refused, disk.resumed])).toEqual(
      vm.disks.map(() => ['full', 'lease', [], undefined]),
    )
    expect(vm.disks).toHaveLength(3)
    // The holes of the thin disk were not read.
    expect(vm.disks[1].readBytes).toBeLessThan(8 * MIB)
    await session.expectRight('web', vm.point)
    await session.expectClean()
  })

  test('of a VM that is off, and of a disk larger than what the transport keeps in memory', async () => {
    for (const name of ['off', 'big']) {
      const vm = await backup(name, '--mode', 'full', '--transport', 'lease')
      expect(vm.disks[0]).toMatchObject({ transport: 'lease', refused: [] })
      await session.expectRight(name, vm.point)
    }
    await session.expectClean()
  })

  test('an incremental goes another way, and is read in full only where there is no other', async () => {
    const full = await backup('web', '--mode', 'full', '--transport', 'lease')
    for (const disk of (await session.lab.control.sha256('web')).slice(0, 3))
      await session.lab.control.write('web', { percent: 3, unit: 65_536, disk: disk.key })
    const next = await backup('web', '--mode', 'incremental', '--transport', 'lease:nbdssl')
    for (const disk of next.disks)
      expect(disk).toMatchObject({
        mode: 'incremental',
        transport: 'nbdssl',
        refused: [{ transport: 'lease', reason: expect.stringContaining('only changed areas are wanted') }],
      })
    await session.expectRight('web', next.point)
    const whole = await backup('web', '--mode', 'incremental', '--transport', 'lease')
    for (const disk of whole.disks)
      expect(disk).toMatchObject({ mode: 'full', transport: 'lease', modeReason: 'only lease works, which reads whole disks' })
    expect(full.point).not.toBe(whole.point)
    await session.expectRight('web', whole.point)
    await session.expectClean()
  })

  test('a stream that is cut, ends early or loses its lease is asked for again', async () => {
    for (const rule of [
      { on: 'nfc:GET', times: 1, cutAfterBytes: MIB },
      { on: 'nfc:GET', times: 1, lease: 'endEarly', value: 20 },
      { on: 'nfc:GET', times: 1, lease: 'expire', value: 20 },
    ] as const satisfies readonly FaultRule[]) {
      const vm = await session.faulty(rule, () => backup('off', '--mode', 'full', '--transport', 'lease'))
      expect([rule, vm.disks[0].transport, vm.disks[0].refused, vm.disks[0].resumed]).toEqual([rule, 'lease', [], 1])
      await session.expectRight('off', vm.point)
    }
    await session.expectClean()
  })

  test('what the lease cannot give goes over the next transport, with the reason', async () => {
    for (const [rule, reason] of [
      [{ on: 'ExportSnapshot', lease: 'missingDisk' }, 'has no disk scsi0:0'],
      [{ on: 'ExportSnapshot', lease: 'wrongThumbprint' }, 'The certificate of'],
      [{ on: 'ExportSnapshot', fault: 'TaskInProgress' }, 'ExportSnapshot'],
      [{ on: 'ExportSnapshot', fault: 'NoPermission' }, 'ExportSnapshot'],
      [{ on: 'nfc:GET', status: 503 }, 'HTTP status 503'],
      [{ on: 'nfc:GET', lease: 'corruptGrain', value: 20 }, 'compressed data is damaged'],
    ] as const satisfies readonly (readonly [FaultRule, string])[]) {
      const vm = await session.faulty(rule, () => backup('off', '--mode', 'full', '--transport', 'lease:nbdssl'))
      expect([rule, vm.disks[0].transport, vm.disks[0].refused]).toEqual([
        rule,
        'nbdssl',
        [{ transport: 'lease', reason: expect.stringContaining(reason) }],
      ])
      await session.expectRight('off', vm.point)
    }
    await session.expectClean()
  })

  test('a stream that contradicts itself or its manifest makes no point, whatever else would work', async () => {
    for (const [rule, message] of [
      [{ on: 'nfc:GET', lease: 'dropGrain', value: 10 }, 'grains where its tables name'],
      [{ on: 'nfc:GET', lease: 'wrongDigest' }, 'the manifest says'],
      [{ on: 'nfc:GET', lease: 'wrongSize' }, 'the manifest says'],
    ] as const satisfies readonly (readonly [FaultRule, string])[]) {
      const before = (await session.json(['points'])).points.length
      const result = await session.faulty(rule, () => run('off', '--mode', 'full', '--transport', 'lease:nbdssl'))
      expect([rule, result.json().vms[0].error.code, result.json().vms[0].error.message]).toEqual([
        rule,
        'INTEGRITY',
        expect.stringContaining(message),
      ])
      expect((await session.json(['points'])).points).toHaveLength(before)
    }
    const vm = await session.faulty({ on: 'nfc:GET', lease: 'noManifest' }, () => backup('off', '--mode', 'full', '--transport', 'lease'))
    expect(vm.disks[0].transport).toBe('lease')
    await session.expectClean()
  })

  test('a slow transfer is kept alive beyond the lease’s time', async () => {
    // The GET itself waits longer than the lease would live without HttpNfcLeaseProgress.
    const vm = await session.faulty({ on: 'nfc:GET', delayMs: 7000 }, () => backup('off', '--mode', 'full', '--transport', 'lease'))
    expect(vm.disks[0]).toMatchObject({ transport: 'lease', refused: [] })
    await session.expectClean()
  })

  test('a killed process leaves a lease that recovery ends, or waits for', async () => {
    for (const kill of ['after:call ExportSnapshot', 'before:call HttpNfcLeaseSetManifestChecksumType']) {
      const ended = await runChild(FROM_SOURCES, ['backup', 'big', '--mode', 'full', '--transport', 'lease'], session.environment, { kill })
      expect(ended.killed).toBe(true)
      const { leases } = await session.lab.control.state()
      expect(leases.some(({ state }) => state === 'ready' || state === 'initializing')).toBe(true)
      await session.json(['recover'])
      await session.expectClean()
    }
  })
})
