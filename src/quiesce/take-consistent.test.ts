import { describe, expect, it } from 'vitest'
import { AgentError, type DiskRef, silentLog, systemClock, type VmConfig } from '../core/index.ts'
import { faultOf, type GuestQuiesce, VimFault } from '../vsphere/index.ts'
import { guestLevel } from './guest-level.ts'
import type { Quiescer } from './quiescer.ts'
import { takeConsistent } from './take-consistent.ts'
import { noQuiescer, toolsQuiescer } from './tools-quiescer.ts'

const disk = (label: string): DiskRef => ({ label }) as DiskRef
const vm = (more: Partial<VmConfig> = {}): VmConfig =>
  ({
    vm: { name: 'web' },
    powerState: 'poweredOn',
    toolsRunning: true,
    guestId: 'debian12_64Guest',
    encrypted: false,
    extraConfig: {},
    disks: [disk('scsi0:0')],
    ...more,
  }) as unknown as VmConfig
const around = { clock: systemClock, log: silentLog, pauseMs: 0 }
const guestFault = (name: string): AgentError => new AgentError('GUEST', `${name}.`, { cause: new VimFault(name, '') })

/** Takes that record what they were asked for and throw what is given, in order. */
function taker(...outcomes: readonly (Error | boolean)[]) {
  const asked: (GuestQuiesce | undefined)[] = []
  return {
    asked,
    take: (request: GuestQuiesce | undefined): Promise<{ quiesced: boolean }> => {
      const outcome = outcomes[asked.push(request) - 1] ?? false
      return outcome instanceof Error ? Promise.reject(outcome) : Promise.resolve({ quiesced: outcome })
    },
  }
}

describe('takeConsistent', () => {
  it('tells the level really reached', async () => {
    const { take, asked } = taker(true)
    expect(await takeConsistent(vm(), 'require', take, around)).toMatchObject({
      level: 'filesystem',
      reason: expect.stringContaining('Linux'),
    })
    expect(asked).toEqual([{ timeoutMinutes: 5 }])
  })

  it.each(['require', 'try', 'none'] as const)('asks nothing of a powered-off VM under %s, which is at rest', async (policy) => {
    const { take, asked } = taker(false)
    const off = vm({ powerState: 'poweredOff', toolsRunning: false })
    expect(await takeConsistent(off, policy, take, around)).toMatchObject({
      level: 'application',
      reason: expect.stringContaining('powered off'),
    })
    expect(asked).toEqual([undefined])
  })

  it.each([
    [{ toolsRunning: false }, 'VMware Tools are not running'],
    [{ powerState: 'suspended' }, 'suspended'],
  ] as const)('%j: require fails before anything is taken, try says why not', async (state, words) => {
    const { take, asked } = taker(false)
    await expect(takeConsistent(vm(state), 'require', take, around)).rejects.toMatchObject({
      code: 'GUEST',
      message: expect.stringContaining(words),
    })
    expect(asked).toEqual([])
    expect(await takeConsistent(vm(state), 'try', take, around)).toMatchObject({ level: 'crash', reason: expect.stringContaining(words) })
    expect(asked).toEqual([undefined])
  })

  it('tries again after guest faults, then falls back or fails as the policy says', async () => {
    const faults = [guestFault('ApplicationQuiesceFault'), guestFault('FilesystemQuiesceFault'), guestFault('FilesystemQuiesceFault')]
    const second = taker(faults[0] ?? true, true)
    expect(await takeConsistent(vm(), 'require', second.take, around)).toMatchObject({ level: 'filesystem' })
    expect(second.asked).toHaveLength(2)
    const fallen = taker(...faults, false)
    expect(await takeConsistent(vm(), 'try', fallen.take, around)).toMatchObject({
      level: 'crash',
      reason: 'taken without quiescing: FilesystemQuiesceFault',
    })
    expect(fallen.asked.at(-1)).toBeUndefined()
    const failed: unknown = await takeConsistent(vm(), 'require', taker(...faults).take, around).catch((error: unknown) => error)
    expect(failed).toMatchObject({ code: 'GUEST' })
    expect(faultOf(failed)?.faultName).toBe('FilesystemQuiesceFault')
  })

  it('does not try again when the Tools are gone, and passes every other error on', async () => {
    const gone = taker(guestFault('ToolsUnavailable'), false)
    expect(await takeConsistent(vm(), 'try', gone.take, around)).toMatchObject({ level: 'crash' })
    expect(gone.asked).toHaveLength(2)
    const full = taker(new AgentError('CAPACITY', 'full'))
    await expect(takeConsistent(vm(), 'try', full.take, around)).rejects.toMatchObject({ code: 'CAPACITY' })
    expect(full.asked).toHaveLength(1)
  })

  it('notices a snapshot that came back unquiesced', async () => {
    expect(await takeConsistent(vm(), 'try', taker(false).take, around)).toMatchObject({
      level: 'crash',
      reason: expect.stringContaining('although it was asked'),
    })
    await expect(takeConsistent(vm(), 'require', taker(false).take, around)).rejects.toMatchObject({ code: 'GUEST' })
  })

  it('thaws after each attempt, also after a failed one', async () => {
    let frozen = 0
    let thawed = 0
    const scripts: Quiescer = {
      name: 'scripts',
      freezes: 'untilThawed',
      probe: () => Promise.resolve({ ok: true }),
      freeze: () => {
        frozen++
        return Promise.resolve({
          request: undefined,
          reached: () => ({ level: 'application', reason: 'scripts ran' }),
          [Symbol.asyncDispose]: () => {
            thawed++
            return Promise.resolve()
          },
        })
      },
    }
    const { take } = taker(guestFault('ApplicationQuiesceFault'), false)
    expect(await takeConsistent(vm(), 'require', take, { ...around, quiescer: scripts })).toMatchObject({ level: 'application' })
    expect([frozen, thawed]).toEqual([2, 2])
  })

  it('takes only time-outs that vSphere takes', async () => {
    for (const minutes of [4, 241, 7.5, Number.NaN]) expect(() => toolsQuiescer({ timeoutMinutes: minutes })).toThrow(/not possible/)
    await using five = await toolsQuiescer({ timeoutMinutes: 7 }).freeze(vm(), { limitMs: 120_000 })
    expect(five.request).toEqual({ timeoutMinutes: 7 })
    await using none = await noQuiescer().freeze(vm(), { limitMs: 120_000 })
    expect([none.request, none.reached({ quiesced: false }).level]).toEqual([undefined, 'crash'])
  })
})

describe('guestLevel', () => {
  const uuid = { extraConfig: { 'disk.enableuuid': 'true' } }
  it.each([
    ['winXPProGuest', uuid, 'filesystem'],
    ['windows9_64Guest', uuid, 'filesystem'],
    ['windows11_64Guest', uuid, 'filesystem'],
    ['winNetStandardGuest', uuid, 'application'],
    ['winLonghorn64Guest', uuid, 'application'],
    ['windows9Server64Guest', uuid, 'application'],
    ['windows2019srv_64Guest', uuid, 'application'],
    ['windows2019srv_64Guest', {}, 'filesystem'],
    ['windows2019srv_64Guest', { ...uuid, encrypted: true }, 'filesystem'],
    ['windows2019srv_64Guest', { ...uuid, disks: [disk('scsi0:0'), disk('sata0:0')] }, 'filesystem'],
    ['rhel9_64Guest', {}, 'filesystem'],
    ['otherLinux64Guest', {}, 'filesystem'],
    ['other5xLinux64Guest', {}, 'filesystem'],
    ['vmwarePhoton64Guest', {}, 'filesystem'],
    ['freebsd13_64Guest', {}, 'crash'],
    ['otherGuest', {}, 'crash'],
    ['', {}, 'crash'],
  ] as const)('%s %j: %s', (guestId, more, level) => {
    expect(guestLevel(vm({ guestId, ...more })).level).toBe(level)
  })
})
