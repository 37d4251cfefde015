import { describe, expect, test } from 'vitest'
import {
  AgentError,
  type BlockSource,
  type DiskRef,
  MIB,
  silentLog,
  systemClock,
  type TransportName,
  type VmConfig,
} from '../core/index.ts'
import { faulty, memorySource } from '../disk/index.ts'
import type { ReopenPolicy } from './planned-disk.ts'
import type { TargetDisk, Transport } from './transport.ts'
import { writePlanned } from './write-planned.ts'

const SIZE = 10 * MIB
const NO_REOPEN: ReopenPolicy = { attempts: 0, lastAttempts: 0, delayMs: 1, maxDelayMs: 1 }
const AROUND = { log: silentLog, clock: systemClock, reopen: NO_REOPEN }
const image = Buffer.alloc(SIZE)
for (let at = MIB; at < 9 * MIB; at += 8) image.writeUInt32LE((at * 31) % 65_521, at)
const disk = { key: 2000, label: 'scsi0:0', capacityBytes: SIZE, fileName: '[ds] a/a.vmdk' } as DiskRef
const target: TargetDisk = { disk, config: { vm: { name: 'a' } } as VmConfig }
const source = (): BlockSource => memorySource(image)

type Behaviour = {
  readonly refuse?: string
  /** Breaks with it at the n-th write of each opening, as long as the function gives one. */
  readonly fault?: (write: number, opening: number) => AgentError | undefined
  readonly flushFault?: (opening: number) => AgentError | undefined
  readonly readsOnly?: boolean
}

/** Writes into `datastore`, the one disk that all transports of a test reach; what was not flushed is lost when it is closed. */
function transport(name: TransportName, datastore: Buffer, behaviour: Behaviour = {}) {
  const state = { openings: 0, writes: 0, closed: 0 }
  const made: Transport = {
    name,
    handles: () => ({ ok: true }),
    probe: () => Promise.reject(new Error('nothing is read')),
    open: () => Promise.reject(new Error('nothing is read')),
    writing:
      behaviour.readsOnly === true
        ? undefined
        : {
            probe: async () =>
              behaviour.refuse === undefined ? { ok: true, note: `by ${name}` } : { ok: false, reason: behaviour.refuse },
            open: async () => {
              const opening = ++state.openings
              const cached = Buffer.from(datastore)
              let writes = 0
              return {
                size: SIZE,
                write: async (offset, data) => {
                  state.writes++
                  const error = behaviour.fault?.(++writes, opening)
                  if (error !== undefined) throw error
                  cached.set(data, offset)
                },
                zero: () => Promise.reject(new Error('nothing is zeroed')),
                flush: async () => {
                  const error = behaviour.flushFault?.(opening)
                  if (error !== undefined) throw error
                  cached.copy(datastore)
                },
                [Symbol.asyncDispose]: async () => {
                  state.closed++
                },
              }
            },
          },
  }
  return Object.assign(made, { state })
}

const gone = (text = 'gone'): AgentError => new AgentError('UNAVAILABLE', `${text}.`)

describe('a disk written by the first transport that can', () => {
  test('refusals are recorded, and the next one does it', async () => {
    const datastore = Buffer.alloc(SIZE)
    const transports = [
      transport('san', datastore, { readsOnly: true }),
      transport('hotadd', datastore, { refuse: 'the proxy is no VM' }),
      transport('nbdssl', datastore),
      transport('nbd', datastore),
    ] as const
    const progress: number[] = []
    const result = await writePlanned(source(), target, transports, { ...AROUND, onProgress: ({ doneBytes }) => progress.push(doneBytes) })
    expect(result).toEqual({
      transport: 'nbdssl',
      reason: 'by nbdssl, after san, hotadd',
      refused: [
        { transport: 'san', reason: 'it only reads' },
        { transport: 'hotadd', reason: 'the proxy is no VM' },
      ],
      resumed: 0,
      writtenBytes: 8 * MIB,
    })
    expect(datastore.equals(image)).toBe(true)
    expect(progress.at(-1)).toBe(SIZE)
    expect([transports[2].state.closed, transports[3].state.openings]).toEqual([1, 0])
  })

  test('one that breaks is opened again and writes everything that was not durable again', async () => {
    const datastore = Buffer.alloc(SIZE)
    const nbdssl = transport('nbdssl', datastore, { fault: (write, opening) => (opening === 1 && write === 5 ? gone() : undefined) })
    const reopen = { attempts: 1, lastAttempts: 1, delayMs: 1, maxDelayMs: 1 }
    const result = await writePlanned(source(), target, [nbdssl], { ...AROUND, reopen })
    expect(result).toMatchObject({ resumed: 1, refused: [], reason: 'by nbdssl, first choice; opened again once after: gone.' })
    expect(result.writtenBytes).toBeGreaterThan(8 * MIB)
    expect(datastore.equals(image)).toBe(true)
    expect(nbdssl.state.closed).toBe(2)
  })

  test('goes on behind what is durable, also by another transport; nothing before is written again', async () => {
    const datastore = Buffer.alloc(SIZE)
    const first = transport('hotadd', datastore, { fault: (_write, opening) => (opening === 3 ? gone() : undefined) })
    const second = transport('nbdssl', datastore)
    const result = await writePlanned(source(), target, [first, second], { ...AROUND, durableEvery: 2 * MIB })
    expect(result).toMatchObject({
      transport: 'nbdssl',
      refused: [{ transport: 'hotadd', reason: 'failed while writing: gone.' }],
    })
    expect(datastore.equals(image)).toBe(true)
    expect(second.state.writes).toBeLessThan(8)
  })

  test('a failed flush is a failed write: what was sent is sent again', async () => {
    const datastore = Buffer.alloc(SIZE)
    const first = transport('nbdssl', datastore, { flushFault: () => gone('not durable') })
    const result = await writePlanned(source(), target, [first, transport('nbd', datastore)], AROUND)
    expect(result).toMatchObject({ transport: 'nbd', refused: [{ reason: 'failed while writing: not durable.' }] })
    expect(datastore.equals(image)).toBe(true)
  })

  test('a lock that a broken connection left is waited for, one of somebody else is not', async () => {
    const datastore = Buffer.alloc(SIZE)
    const locked = new AgentError('CONFLICT', 'The disk is locked.')
    const reopen = { attempts: 3, lastAttempts: 3, delayMs: 1, maxDelayMs: 1 }
    const own = transport('nbdssl', datastore, { fault: (_write, opening) => [gone(), locked][opening - 1] })
    expect(await writePlanned(source(), target, [own], { ...AROUND, reopen })).toMatchObject({ resumed: 2 })
    const others = transport('nbdssl', datastore, { fault: () => locked })
    await expect(writePlanned(source(), target, [others], { ...AROUND, reopen })).rejects.toMatchObject({ code: 'UNAVAILABLE' })
    expect(others.state.openings).toBe(1)
  })

  test.each(['CAPACITY', 'INTEGRITY', 'CANCELED'] as const)('%s ends it at once: no other way would make that right', async (code) => {
    const datastore = Buffer.alloc(SIZE)
    const second = transport('nbd', datastore)
    const first = transport('nbdssl', datastore, { fault: () => new AgentError(code, 'no.') })
    await expect(writePlanned(source(), target, [first, second], AROUND)).rejects.toMatchObject({ code, message: 'no.' })
    expect([first.state.closed, second.state.openings]).toEqual([1, 0])
  })

  test('an error of the repository is nobody’s refusal', async () => {
    const datastore = Buffer.alloc(SIZE)
    const broken = faulty(source(), ({ kind, count }) => {
      if (kind === 'read' && count === 4) throw gone('the repository is away')
    })
    const transports = [transport('nbdssl', datastore), transport('nbd', datastore)]
    await expect(writePlanned(broken, target, transports, AROUND)).rejects.toThrow('the repository is away')
    expect(transports[1]?.state.openings).toBe(0)
  })

  test('when none can, every reason is told', async () => {
    const datastore = Buffer.alloc(SIZE)
    const transports = [transport('hotadd', datastore, { refuse: 'no VM' }), transport('nbdssl', datastore, { fault: () => gone() })]
    await expect(writePlanned(source(), target, transports, AROUND)).rejects.toMatchObject({
      code: 'UNAVAILABLE',
      message: 'No transport can write scsi0:0 of a (hotadd: no VM; nbdssl: gone.).',
      refused: [{ transport: 'hotadd' }, { transport: 'nbdssl' }],
    })
  })
})
