import { chmod, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { isThere, type Stage, STAGES } from '../../src/core/index.ts'
import { type StageDocument, stageDocumentSchema } from '../../src/stages/index.ts'
import { FROM_SOURCES, runChild } from '../crash/commands.ts'
import { type Json, type LabSession, openLabSession } from './lab-session.ts'
import { type RunningAgent, startAgent, untilTrue } from './running-agent.ts'

/* Programs of the proxy at the stages of a job's runs: real ones, killed, hanging, failing, and made up for. */
let session: LabSession
const place = (name: string): string => join(session.directory, name)

/** Writes down what it is told, and does what a file of its stage's name says. */
const PROGRAM = '#!/bin/sh\ncd "$1" || exit 9\ncat >> told\nif [ -e "$VCB_STAGE" ]; then . "./$VCB_STAGE"; fi\n'

beforeAll(async () => {
  session = await openLabSession()
  await session.json(['init'])
  await writeFile(place('program'), PROGRAM)
  await chmod(place('program'), 0o755)
})
afterEach(async () => {
  for (const name of ['told', ...STAGES]) await rm(place(name), { force: true })
})
afterAll(async () => {
  await session[Symbol.asyncDispose]()
})

type Wish = { readonly at: Stage; readonly policy?: string; readonly timeout?: string }

async function configure(wishes: readonly Wish[], rest: object = {}): Promise<void> {
  const stages = wishes.map((wish) => ({ ...wish, command: [place('program'), session.directory] }))
  session.environment['VCB_CONFIG'] = place('vcb.yaml')
  const jobs = [{ name: 'nightly', select: 'web01', timeZone: 'UTC', quiesce: 'none', stages, ...rest }]
  await writeFile(place('vcb.yaml'), JSON.stringify({ jobs }))
}
const all: readonly Wish[] = STAGES.map((at) => ({ at }))

/** At a stage, the program does this. */
const does = (stage: Stage, script: string): Promise<void> => writeFile(place(stage), script)

async function told(): Promise<readonly StageDocument[]> {
  const lines = (await readFile(place('told'), 'utf8')).trim().split('\n')
  return lines.map((line) => stageDocumentSchema.strict().parse(JSON.parse(line)))
}

describe('of an agent that runs', () => {
  let agent: RunningAgent
  beforeAll(async () => {
    await configure(all)
    agent = await startAgent(session)
  })
  afterAll(async () => {
    await agent.end()
    await session.expectClean()
  })
  const run = async (): Promise<Json> => {
    await session.json(['reload'])
    await session.vcb('run', 'nightly', '--wait')
    return (await session.json(['history', '--limit', '1'])).runs[0]
  }

  it('each is told what is known by then, in their order', async () => {
    await configure(all)
    await does('postSnapshot', 'echo \'{"version":1,"warnings":["the batch had to wait"]}\'')
    const record = await run()
    expect(record).toMatchObject({
      job: 'nightly',
      result: 'succeeded',
      warnings: expect.arrayContaining([`The postSnapshot program ${place('program')}: the batch had to wait`]),
    })
    const documents = await told()
    expect(documents.map(({ stage }) => stage)).toEqual([...STAGES])
    const [first, , frozen, stored, last] = documents
    expect(first).toMatchObject({
      job: 'nightly',
      run: record.run,
      vm: { name: 'web01', instanceUuid: record.vm.instanceUuid },
      disks: [{ label: 'scsi0:0', capacityBytes: expect.any(Number) }, { label: 'scsi0:1' }],
    })
    expect(first).not.toHaveProperty('snapshot')
    expect(frozen).toMatchObject({ snapshot: { name: expect.stringContaining('vcb-proxy') }, result: 'succeeded' })
    expect(stored).toMatchObject({ point: record.point, mode: record.mode })
    expect(stored).not.toHaveProperty('result')
    expect(last).toMatchObject({ point: record.point, result: 'succeeded' })
    expect(JSON.stringify(documents)).not.toContain(session.repositoryPassword)
  })

  it('one before may skip the VM with its reason: no snapshot, no failure, no second try', async () => {
    await configure(all)
    await does('preRun', 'echo "the batch runs until four" >&2; exit 75')
    const tasks = (await session.lab.control.state()).tasks.length
    expect(await run()).toMatchObject({
      result: 'canceled',
      skipped: 'the batch runs until four',
      error: { code: 'CANCELED', message: expect.stringContaining('skipped VM web01: the batch runs until four') },
    })
    expect((await session.vcb('history', '--limit', '1')).out).toContain('skipped')
    expect((await session.lab.control.state()).tasks).toHaveLength(tasks)
    expect((await told()).map(({ stage, result }) => [stage, result])).toEqual([
      ['preRun', undefined],
      ['postRun', 'skipped'],
    ])
  })

  it('one before that fails ends the run, or is a warning: those after come either way', async () => {
    await configure(all)
    await does('preSnapshot', 'echo "cannot pause"; exit 3')
    expect(await run()).toMatchObject({
      result: 'failed',
      error: { code: 'UNAVAILABLE', message: `The preSnapshot program ${place('program')} failed: it ended with 3 (cannot pause).` },
    })
    const results = [
      ['preRun', undefined],
      ['preSnapshot', undefined],
      ['postSnapshot', 'failed'],
      ['postRun', 'failed'],
    ]
    expect((await told()).map(({ stage, result }) => [stage, result])).toEqual(results)
    await rm(place('told'))
    await configure([{ at: 'preSnapshot', policy: 'try' }, { at: 'postSnapshot', policy: 'require' }, { at: 'postRun' }])
    await does('postSnapshot', 'kill -9 $$')
    expect(await run()).toMatchObject({
      result: 'failed',
      error: { message: `The postSnapshot program ${place('program')} failed: a signal ended it.` },
      warnings: [`The preSnapshot program ${place('program')} failed: it ended with 3 (cannot pause).`],
    })
    expect((await told()).at(-1)).toMatchObject({ stage: 'postRun', result: 'failed', error: { code: 'UNAVAILABLE' } })
  })

  it('one that hangs is ended with what it started, and costs the snapshot no more than its time', async () => {
    await configure([{ at: 'postSnapshot', timeout: '300ms' }, { at: 'postRun' }])
    // Deaf to SIGTERM, and so is its child.
    await does('postSnapshot', "trap '' TERM; sleep 600 & echo $! > pid; wait")
    expect(await run()).toMatchObject({
      result: 'succeeded',
      warnings: [`The postSnapshot program ${place('program')} failed: it did not end within 0.3 s and was ended.`],
    })
    expect(await isThere(`/proc/${(await readFile(place('pid'), 'utf8')).trim()}`)).toBe(false)
  })

  it('a run that fails, or is canceled in the middle of a program, is told to those after', async () => {
    await configure(all)
    const fault = { on: 'CreateSnapshotEx_Task', object: 'web01', fault: 'NoPermission' } as const
    expect(await session.faulty(fault, run)).toMatchObject({ result: 'failed' })
    expect((await told()).map(({ stage, result }) => [stage, result])).toEqual([
      ['preRun', undefined],
      ['preSnapshot', undefined],
      ['postSnapshot', 'failed'],
      ['postRun', 'failed'],
    ])
    await rm(place('told'))
    await does('preRun', 'sleep 600')
    const running = run()
    await untilTrue(() => isThere(place('told')))
    await session.vcb('cancel', 'web01')
    const canceled = await running
    expect([canceled.result, canceled.skipped]).toEqual(['canceled', undefined])
    expect((await told()).map(({ stage, result }) => [stage, result])).toEqual([
      ['preRun', undefined],
      ['postRun', 'canceled'],
    ])
  })
})

describe('of one that was killed', () => {
  afterEach(() => session.expectClean())

  it('killed in the middle: recovery runs those that were to come, after what was left running has ended', async () => {
    await configure(all, { rpo: '24h', select: 'db01' })
    // The program outlives the agent that started it.
    await does('preRun', 'kill -9 $PPID; sleep 0.5; echo >> told; echo \'{"ended":"preRun"}\' >> told')
    const child = await runChild(FROM_SOURCES, ['agent', '--once'], session.environment)
    expect(child.killed, child.err + child.out).toBe(true)
    await rm(place('preRun'))
    const { recovered } = await session.json(['recover'])
    expect(recovered.flatMap(({ claims }: Json) => claims.map(({ kind, result }: Json) => `${kind} ${result}`))).toContain(
      'stagePrograms released',
    )
    const order = (await readFile(place('told'), 'utf8')).split('\n').filter((line) => line !== '')
    expect(order.map((line) => JSON.parse(line).stage ?? JSON.parse(line).ended)).toEqual(['preRun', 'preRun', 'postRun'])
    expect(JSON.parse(order.at(-1) ?? '')).toMatchObject({ stage: 'postRun', recovered: true, result: 'unknown' })
  })

  it('what is to come runs as the configuration has it by then; until it is there again it is told, and keeps no VM locked', async () => {
    await configure(all, { rpo: '24h', select: 'win01' })
    const child = await runChild(FROM_SOURCES, ['agent', '--once'], session.environment, { kill: 'before:process run postRun program' })
    expect(child.killed, child.err + child.out).toBe(true)
    expect((await told()).map(({ stage }) => stage)).toEqual(['preRun', 'preSnapshot', 'postSnapshot', 'postStore'])
    await writeFile(place('vcb.yaml'), '{}')
    const left = await session.vcb('recover')
    expect(left.out + left.err).toContain('The job nightly has no postRun programs any more, which are still to be run for VM win01.')
    expect((await session.vcb('backup', 'win01')).exit).toBe(0)
    await configure(all)
    expect((await session.vcb('recover')).exit).toBe(0)
    expect((await told()).at(-1)).toMatchObject({ stage: 'postRun', recovered: true, result: 'succeeded', point: expect.any(String) })
    expect(await told()).toHaveLength(5)
  })
})
