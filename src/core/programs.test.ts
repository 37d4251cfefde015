import { describe, expect, it } from 'vitest'
import { systemClock as clock } from './clock.ts'
import { findProgram, runProgram, signalProcess, startProgram } from './programs.ts'

const shell = (script: string, options: Partial<Parameters<typeof runProgram>[2]> = {}) =>
  runProgram('sh', ['-c', script], { clock, patienceMs: 20_000, ...options })

describe('runProgram', () => {
  it('tells status, output and complaint, and gives the program no word of our environment', async () => {
    process.env['VCB_PASSWORD'] = 'secret'
    try {
      const ended = await shell('echo "[$VCB_PASSWORD]"; echo "no such library" >&2; exit 3')
      expect({ ...ended, output: ended.output.toString() }).toEqual({ exit: 3, output: '[]\n', complaint: 'no such library', late: false })
      const given = await shell('echo "$GIVEN"', { environment: { PATH: '/bin:/usr/bin', GIVEN: 'yes' } })
      expect(given.output.toString()).toBe('yes\n')
    } finally {
      delete process.env['VCB_PASSWORD']
    }
  })

  it('says which program is missing', () =>
    expect(runProgram('/nowhere/umount', [], { clock, patienceMs: 1000 })).rejects.toMatchObject({
      code: 'CONFIG',
      message: 'The program /nowhere/umount does not exist.',
    }))

  it('kills one that says nothing for too long, and one that was canceled', async () => {
    expect(await shell('exec sleep 60', { patienceMs: 100 })).toMatchObject({ exit: undefined, late: true })
    const cancel = new AbortController()
    const canceled = shell('exec sleep 60', { signal: cancel.signal })
    setTimeout(() => cancel.abort(), 50)
    await expect(canceled).rejects.toMatchObject({ code: 'CANCELED' })
  })

  it('keeps no more than the limit of what is printed, and reads it to its end', async () => {
    const ended = await shell('head -c 3000000 /dev/zero; echo end >&2', { limit: 1000 })
    expect(ended.output).toHaveLength(1000)
    expect(ended).toMatchObject({ exit: 0, complaint: 'end' })
  })
})

describe('a started program', () => {
  it('ends with its disposal, also when it heeds no word', async () => {
    const program = await startProgram('sh', ['-c', "trap '' TERM; echo ready; while :; do sleep 0.1; done"], { clock })
    await new Promise((resolve) => program.output.once('data', resolve))
    await program[Symbol.asyncDispose]()
    expect(await program.ended).toBeUndefined()
  })

  it('can be ended by its number, and being gone already is success', async () => {
    const program = await startProgram('sleep', ['60'], { clock })
    await signalProcess(program.pid, 'SIGKILL')
    expect(await program.ended).toBeUndefined()
    await signalProcess(program.pid, 'SIGKILL')
  })
})

it('programs are found where the system has them', async () => {
  expect(await findProgram('sh')).toMatch(/\/sh$/)
  expect(await findProgram('no-such-program-anywhere')).toBeUndefined()
})
