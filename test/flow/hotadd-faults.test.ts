import { spawn } from 'node:child_process'
import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import { once } from 'node:events'
import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { type Effect, EFFECT_BEFORE, MIB, systemClock } from '../../src/core/index.ts'
import type { FaultRule } from '../../src/lab/index.ts'
import { runCommand } from '../storm/command.ts'
import { COMMAND } from '../storm/lab-process.ts'
import { type HotaddWorld, openHotaddWorld } from './hotadd-world.ts'
import { LabClient } from './lab-client.ts'
import type { Json } from './lab-session.ts'

/* What can go wrong between attaching a disk and detaching it; after each nothing of ours is left on the proxy VM, in its guest, or on the datastore. */
let world: HotaddWorld
beforeAll(async () => {
  world = await openHotaddWorld()
  await world.session.json(['init'])
})
afterAll(() => world[Symbol.asyncDispose]())
afterEach(async () => {
  await world.session.lab.control.clearFaults()
  // A failing test must not take the next ones down with what it left.
  await world.session.vcb('recover')
})

const attach = (rule: Omit<FaultRule, 'on'>): FaultRule => ({ on: 'hotadd:attach', ...rule })
/** A command as a process of its own, killed when `signal` aborts; the signal it ended by. */
async function runKillable(argv: readonly string[], environment: Readonly<Record<string, string>>, signal: AbortSignal): Promise<unknown> {
  const child = spawn(process.execPath, [COMMAND, ...argv], { env: { ...process.env, ...environment }, stdio: 'ignore' })
  signal.addEventListener('abort', () => child.kill('SIGKILL'))
  const [, by] = await once(child, 'close')
  return by
}

/** Packs there are, those that are being written too. */
const packsIn = async (repository: string): Promise<number> =>
  (await readdir(join(repository, 'data'), { recursive: true })).filter((name) => name.includes('/')).length

const onlyDisk = (run: Json): Json => run.vms[0].disks[0]

/** The calls that change something in vSphere while `work` runs, in order. */
async function callsOf(work: () => Promise<unknown>): Promise<string[]> {
  const calls: string[] = []
  const note = (message: unknown): void => {
    const { kind, what } = message as Effect
    if (kind === 'call' && !/^Log(in|out)$/.test(what)) calls.push(what)
  }
  subscribe(EFFECT_BEFORE, note)
  try {
    await work()
  } finally {
    unsubscribe(EFFECT_BEFORE, note)
  }
  return calls
}

describe('a disk that was attached', () => {
  test('and comes late, or only after a scan, is read all the same', async () => {
    for (const rule of [{ hotadd: 'late', value: 700 } as const, { hotadd: 'scan' } as const]) {
      const run = await world.faulty(attach(rule), () => world.backup(['one', '--mode', 'full']))
      expect(onlyDisk(run)).toMatchObject({ transport: 'hotadd', refused: [] })
      await world.expectRight('one', run.vms[0])
      await world.expectNothingLeft()
    }
  })

  test.each([
    ['never comes', { hotadd: 'never' } as const, /did not appear in this machine within 2 s/],
    [
      'is another',
      { hotadd: 'wrongDisk' } as const,
      /is not \[v6\] one\/one\.vmdk: sdb has the uuid [0-9a-f]{32}, vSphere says [0-9a-f]{32}/,
    ],
    ['has another size', { hotadd: 'wrongSize' } as const, /sdb has 6291968 bytes, vSphere says 6291456/],
    ['is there although the task failed', { hotadd: 'half' } as const, /half done|general system error/],
  ])('and %s is detached; the next transport reads, with the reason', async (_, rule, reason) => {
    const run = await world.faulty(attach(rule), () => world.backup(['one', '--mode', 'full', '--transport', 'hotadd:nbdssl']))
    expect(onlyDisk(run)).toMatchObject({
      transport: 'nbdssl',
      refused: [{ transport: 'hotadd', reason: expect.stringMatching(reason) }],
    })
    await world.expectRight('one', run.vms[0])
    await world.expectNothingLeft()
  })

  test('and is another makes no point where there is no other way: never a wrong byte', async () => {
    const before = (await world.session.json(['points'])).points.length
    const run = await world.faulty(attach({ hotadd: 'wrongDisk' }), () => world.backup(['one', '--mode', 'full'], 7))
    expect(run.vms[0].error.message).toMatch(/No transport can read .*hotadd: The disk that appeared in this machine is not/)
    expect((await world.session.json(['points'])).points).toHaveLength(before)
    await world.expectNothingLeft()
  })

  test('and that the guest does not let go is detached all the same', async () => {
    const run = await world.faulty(attach({ hotadd: 'stuck' }), () => world.backup(['one', '--mode', 'full']))
    expect(onlyDisk(run).transport).toBe('hotadd')
    await world.expectRight('one', run.vms[0])
    await world.expectNothingLeft()
  })

  test('is detached before its snapshot is removed', async () => {
    const calls = await callsOf(() => world.backup(['one', '--mode', 'full']))
    expect(calls.map((what) => what.replace('SnapshotEx_', 'Snapshot_'))).toEqual([
      'CreateSnapshot_Task',
      'ReconfigVM_Task',
      'ReconfigVM_Task',
      'RemoveSnapshot_Task',
    ])
    await world.expectNothingLeft()
  })
})

describe('attaching that is refused', () => {
  test('by the server: the next transport reads, with the reason', async () => {
    const run = await world.faulty({ on: 'ReconfigVM_Task', object: 'proxy', times: 1, taskError: 'InvalidDeviceBacking' }, () =>
      world.backup(['one', '--mode', 'full', '--transport', 'hotadd:nbdssl']),
    )
    expect(onlyDisk(run)).toMatchObject({ transport: 'nbdssl', refused: [{ transport: 'hotadd' }] })
    await world.expectNothingLeft()
  })

  test('because another change of the proxy VM came first: it is done again', async () => {
    const run = await world.faulty({ on: 'ReconfigVM_Task', object: 'proxy', times: 1, taskError: 'TaskInProgress' }, () =>
      world.backup(['one', '--mode', 'full']),
    )
    expect(onlyDisk(run)).toMatchObject({ transport: 'hotadd', refused: [] })
    await world.expectNothingLeft()
  })

  test('of the proxy VM itself, which is never attached to itself', async () => {
    const run = await world.backup(['proxy', '--mode', 'full', '--transport', 'hotadd:nbdssl'])
    expect(onlyDisk(run)).toMatchObject({
      transport: 'nbdssl',
      refused: [{ transport: 'hotadd', reason: 'proxy is this proxy itself' }],
    })
    await world.expectNothingLeft()
  })
})

test('two VMs at once: each disk is its own', async () => {
  const run = await world.backup(['web', 'one', '--mode', 'full', '--parallel', '2'])
  expect(run.vms.flatMap((vm: Json) => vm.disks.map((disk: Json) => disk.transport))).toEqual(Array(4).fill('hotadd'))
  const web = run.vms.find((vm: Json) => vm.disks.length === 3)
  await world.expectRight('web', web)
  await world.expectRight(
    'one',
    run.vms.find((vm: Json) => vm !== web),
  )
  await world.expectNothingLeft()
})

describe('detaching that fails', () => {
  /** Every change of the proxy VM after the first. */
  const refuseDetaching = async (): Promise<void> => {
    for (let nth = 2; nth < 12; nth++)
      await world.session.lab.control.fault({ on: 'ReconfigVM_Task', object: 'proxy', nth, taskError: 'SystemError' })
  }
  const attached = async (): Promise<readonly string[]> =>
    (await world.vm('proxy')).disks.filter((disk) => disk.attached).map((disk) => disk.fileName)

  test('once is tried again, and the backup ends well', async () => {
    await world.faulty({ on: 'ReconfigVM_Task', object: 'proxy', nth: 2, taskError: 'FileLocked' }, () =>
      world.backup(['one', '--mode', 'full']),
    )
    await world.expectNothingLeft()
  })

  test('for good: the point is there, the disk and the snapshot below it stay listed with the next step, and recovery takes both', async () => {
    await refuseDetaching()
    const calls: string[] = []
    const result = await (async () => {
      let ended: Json
      calls.push(
        ...(await callsOf(async () => {
          ended = await world.session.vcbWith(
            { VCB_RELEASE_FOR: '0' },
            'backup',
            'one',
            '--mode',
            'full',
            '--transport',
            'hotadd',
            '--json',
          )
        })),
      )
      return ended
    })()
    expect(result.exit, result.out + result.err).toBe(12)
    const run = result.json()
    expect(run.vms[0].ok).toBe(true)
    // The snapshot must not go below a disk that is attached.
    expect(calls).not.toContain('RemoveSnapshot_Task')
    expect(JSON.stringify(run.vms[0])).toContain('attached to VM proxy')
    expect(await attached()).toEqual(['[v6] one/one.vmdk'])
    expect((await world.vm('one')).snapshots).toHaveLength(1)
    const status = await world.session.vcb('status')
    expect(status.exit).toBe(12)
    expect(status.out).toMatch(/the disk \[v6\] one\/one\.vmdk attached to VM proxy/)
    expect(status.out).toContain('vcb recover')
    await world.expectRight('one', run.vms[0])

    const kept = await world.session.json(['recover'], 12)
    const claims: Json[] = kept.recovered.flatMap((job: Json) => job.claims)
    expect(claims.filter(({ result: what }) => what === 'kept').map(({ kind }) => kind)).toEqual(
      expect.arrayContaining(['attachedDisk', 'snapshot']),
    )
    await world.session.lab.control.clearFaults()
    await world.session.json(['recover'])
    await world.expectNothingLeft()
  })

  test('the lab, as a host would, removes no snapshot below an attached disk', async () => {
    await refuseDetaching()
    expect((await world.session.vcbWith({ VCB_RELEASE_FOR: '0' }, 'backup', 'one', '--mode', 'full', '--transport', 'hotadd')).exit).toBe(
      12,
    )
    const [snapshot] = (await world.vm('one')).snapshots
    const client = await LabClient.login(world.session.lab)
    await expect(client.removeSnapshot(snapshot?.moref ?? '')).rejects.toThrow('FileLocked')
    await world.session.lab.control.clearFaults()
    // The snapshot is out of the tree and its redo log is not committed: what is ours of that is consolidated.
    await world.session.json(['recover'])
    await world.expectNothingLeft()
    expect((await world.session.lab.control.fsck('one')).ok).toBe(true)
  })
})

describe('a backup that is killed', () => {
  const environment = (): Record<string, string> => world.session.environment
  const argv = (vm: string): string[] => ['backup', vm, '--mode', 'full', '--transport', 'hotadd']
  /** Killed at the n-th call: the first logs in, the second makes the snapshot, 3 attaches, 4 detaches. */
  const killed = async (at: number, phase: 'before' | 'after'): Promise<void> => {
    const ended = await runCommand(argv('one'), environment(), {
      strikes: [{ at, phase, delayMs: 0, what: 'self', kinds: ['call'] }],
      boundMs: 60_000,
    })
    expect(ended.killed?.what, ended.out + ended.err).toBe('ReconfigVM_Task')
  }

  test.each([
    ['when its disk was attached', 3, 'after'],
    ['before its disk is detached', 4, 'before'],
    ['when its disk was detached', 4, 'after'],
  ] as const)('%s leaves nothing after recovery', async (_, at, phase) => {
    await killed(at, phase)
    await world.session.json(['recover'])
    await world.expectNothingLeft()
  })

  test('in the middle of reading: recovery detaches the disk, then removes the snapshot', async () => {
    const { session } = world
    await session.lab.control.write('big', { areas: [{ offset: 0, length: 72 * MIB }], seed: 9 })
    const before = await packsIn(session.repository)
    const over = new AbortController()
    const child = runKillable(argv('big'), environment(), over.signal)
    for (let waited = 0; (await packsIn(session.repository)) === before; waited += 5) {
      if (waited > 30_000) throw new Error('no pack was ever written')
      await systemClock.sleep(5)
    }
    over.abort()
    expect(await child).toBe('SIGKILL')
    expect((await world.vm('proxy')).disks.filter((disk) => disk.attached)).toHaveLength(1)
    const calls = await callsOf(() => session.json(['recover']))
    expect(calls).toEqual(['ReconfigVM_Task', 'RemoveSnapshot_Task'])
    await world.expectNothingLeft()
  })

  test('left-overs are found at the start of the next backup', async () => {
    await killed(3, 'after')
    const run = await world.backup(['web', '--mode', 'full'])
    expect(run.vms[0].disks.map((disk: Json) => disk.transport)).toEqual(['hotadd', 'hotadd', 'hotadd'])
    await world.expectNothingLeft()
  })
})
