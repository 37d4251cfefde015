import { PassThrough } from 'node:stream'
import { expect, it } from 'vitest'
import { ConnectionOver, Inbox } from './inbox.ts'

const settled = async (promise: Promise<unknown>): Promise<boolean> => {
  const later = new Promise<boolean>((resolve) => setImmediate(() => setImmediate(() => resolve(false))))
  return Promise.race([promise.then(() => true), later])
}

it('leaves the rest of a record alone until the next record comes', async () => {
  const stream = new PassThrough()
  const inbox = new Inbox(stream)
  stream.write(Buffer.from('firstsecond'))
  expect((await inbox.read(5)).toString()).toBe('first')
  inbox.hideRest()
  const second = inbox.read(6)
  expect(await settled(second)).toBe(false)
  stream.write(Buffer.from('third'))
  expect((await second).toString()).toBe('second')
  expect((await inbox.read(5)).toString()).toBe('third')
  // Each in its record: nothing to wait for.
  stream.write(Buffer.from('one'))
  stream.write(Buffer.from('two'))
  expect((await inbox.read(3)).toString()).toBe('one')
  inbox.hideRest()
  expect((await inbox.read(3)).toString()).toBe('two')
})

it('puts pieces together, reads lines, and ends with the stream', async () => {
  const stream = new PassThrough()
  const inbox = new Inbox(stream)
  stream.write(Buffer.from('SESSION a'))
  stream.write(Buffer.from('b\r\nrest'))
  expect(await inbox.readLine(20)).toBe('SESSION ab')
  stream.write(Buffer.alloc(30, 120))
  await expect(inbox.readLine(20)).rejects.toThrow(ConnectionOver)
  stream.end()
  await expect(inbox.read(100)).rejects.toThrow(ConnectionOver)
})
