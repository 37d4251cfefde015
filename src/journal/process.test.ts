import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFile } from 'node:fs/promises'
import { describe, expect, it } from 'vitest'
import { type ProcessIdentity, sameProcess, systemProcesses } from './process.ts'

describe('systemProcesses', () => {
  it('knows itself', async () => {
    const self = await systemProcesses.self()
    expect(self.pid).toBe(process.pid)
    expect(await systemProcesses.isAlive(self)).toBe(true)
    expect(sameProcess(self, await systemProcesses.self())).toBe(true)
  })

  it('tells a living process from a dead one, a reused pid and another boot', async () => {
    const child = spawn('sleep', ['60'])
    await once(child, 'spawn')
    const stat = await readFile(`/proc/${child.pid}/stat`, 'utf8')
    const startTime = Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19])
    const identity: ProcessIdentity = { ...(await systemProcesses.self()), pid: child.pid ?? 0, startTime }
    expect(await systemProcesses.isAlive(identity)).toBe(true)
    expect(await systemProcesses.isAlive({ ...identity, startTime: startTime - 1 })).toBe(false)
    expect(await systemProcesses.isAlive({ ...identity, bootId: 'another' })).toBe(false)
    child.kill('SIGKILL')
    await once(child, 'close')
    expect(await systemProcesses.isAlive(identity)).toBe(false)
  })
})
