import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { systemClock } from '../core/index.ts'

/** A process that waits for ever and says what its signals did. */
const PROGRAM = `
  import { listenToSignals } from ${JSON.stringify(join(import.meta.dirname, 'signals.ts'))}
  import { systemClock } from ${JSON.stringify(join(import.meta.dirname, '..', 'core', 'index.ts'))}
  const signals = listenToSignals(systemClock, (text) => void process.stdout.write(text))
  signals.canceled.addEventListener('abort', () => console.log('canceled:', signals.canceled.reason.code))
  signals.giveUp.addEventListener('abort', () => console.log('given up:', signals.giveUp.reason.message))
  console.log('ready')
  setInterval(() => undefined, 1000)
`

test('SIGHUP is the listener’s as long as there is one', async () => {
  const program = PROGRAM.replace(
    "console.log('ready')",
    `
    const listener = signals.onHangup(() => console.log('hung up'))
    process.once('SIGUSR2', () => { listener[Symbol.dispose](); console.log('let go') })
    console.log('ready')`,
  )
  const child = spawn(process.execPath, ['--input-type=module', '--eval', program], { stdio: ['ignore', 'pipe', 'inherit'] })
  let out = ''
  child.stdout.on('data', (chunk: Buffer) => (out += chunk.toString()))
  const exited = once(child, 'exit')
  const said = async (text: string): Promise<void> => {
    while (!out.includes(text) && child.exitCode === null) await systemClock.sleep(10)
    expect(out).toContain(text)
  }
  await said('ready')
  child.kill('SIGHUP')
  await said('hung up')
  expect(out).not.toContain('canceled')
  child.kill('SIGUSR2')
  await said('let go')
  child.kill('SIGHUP')
  await said('canceled: CANCELED')
  child.kill('SIGKILL')
  await exited
})

test.each(['SIGINT', 'SIGTERM', 'SIGHUP'] as const)(
  'the first %s cancels, the second gives up, the third is the default action',
  async (signal) => {
    const child = spawn(process.execPath, ['--input-type=module', '--eval', PROGRAM], { stdio: ['ignore', 'pipe', 'inherit'] })
    let out = ''
    child.stdout.on('data', (chunk: Buffer) => (out += chunk.toString()))
    const exited = once(child, 'exit')
    const said = async (text: string): Promise<void> => {
      for (let waited = 0; !out.includes(text); waited += 10) {
        if (waited > 20_000 || child.exitCode !== null) throw new Error(`never said "${text}": ${out}`)
        await systemClock.sleep(10)
      }
    }
    await said('ready')
    child.kill(signal)
    await said('canceled: CANCELED')
    expect(out).toContain(`vcb: ${signal} was received; what is held is being released. A second signal ends the waiting.`)
    // One press of Ctrl-C that arrives a second time, from a parent that hands it on, is none.
    child.kill(signal)
    await systemClock.sleep(400)
    expect(out).not.toContain('given up')
    child.kill(signal)
    await said(`given up: ${signal} was received again; nothing more is waited for.`)
    expect(child.exitCode).toBeNull()
    await systemClock.sleep(500)
    child.kill(signal)
    await exited
    expect(child.signalCode).toBe(signal)
  },
)
