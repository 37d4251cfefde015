import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { isAgentError, MIB, systemClock } from '../core/index.ts'
import { memorySource } from '../disk/index.ts'
import { Refusal } from './answers.ts'
import { FileAnswers } from './file-answers.ts'
import { ERRNO, LARGEST_REQUEST, OPCODE, OUT_HEADER } from './protocol.ts'
import { type FuseRequest, requests } from './requests.ts'
import { ServedFile } from './served-file.ts'

/** A request as the kernel writes it. */
function encode(opcode: number, unique: number, node: number, body: Uint8Array): Buffer {
  const head = Buffer.alloc(40)
  head.writeUInt32LE(40 + body.length, 0)
  head.writeUInt32LE(opcode, 4)
  head.writeBigUInt64LE(BigInt(unique), 8)
  head.writeBigUInt64LE(BigInt(node), 16)
  return Buffer.concat([head, body])
}

async function* inPieces(stream: Buffer, cuts: readonly number[]): AsyncGenerator<Uint8Array> {
  let at = 0
  for (const cut of [...cuts].sort((a, b) => a - b)) {
    const end = Math.min(stream.length, cut)
    if (end > at) yield stream.subarray(at, end)
    at = Math.max(at, end)
  }
  if (at < stream.length) yield stream.subarray(at)
}

describe('requests of the FUSE device', () => {
  it('are the same however the pipe cuts them', () =>
    fc.assert(
      fc.asyncProperty(
        fc.array(fc.record({ opcode: fc.nat(50), unique: fc.nat(), node: fc.nat(9), body: fc.uint8Array({ maxLength: 300 }) }), {
          maxLength: 8,
        }),
        fc.array(fc.nat(2000), { maxLength: 12 }),
        async (sent, cuts) => {
          const stream = Buffer.concat(sent.map(({ opcode, unique, node, body }) => encode(opcode, unique, node, body)))
          const got = []
          for await (const { opcode, unique, node, body } of requests(inPieces(stream, cuts))) {
            got.push({ opcode, unique: Number(unique), node, body: [...body] })
          }
          expect(got).toEqual(sent.map((each) => ({ ...each, body: [...each.body] })))
        },
      ),
      { seed: 4711 },
    ))

  it.each([0, 39, LARGEST_REQUEST + 1])('of %i bytes are none', async (length) => {
    const head = encode(OPCODE.getattr, 1, 1, new Uint8Array(0))
    head.writeUInt32LE(length, 0)
    await expect(requests(inPieces(head, [])).next()).rejects.toSatisfy((error) => isAgentError(error, 'INTEGRITY'))
  })
})

describe('answers about files', () => {
  const image = Buffer.alloc(MIB + 512, 5)
  const source = memorySource(image)
  const files = [new ServedFile({ name: 'one.raw', source, modified: new Date(0) }, 0, systemClock)]
  const answers = new FileAnswers(files, new Date(0), { user: 0, group: 0 })
  const ask = (opcode: number, node: number, body: Uint8Array = Buffer.alloc(64)) => {
    const request: FuseRequest = { opcode, unique: 1n, node, body: Buffer.from(body) }
    return answers.answer(request, {})
  }
  const refusal = (errno: number) => expect.toSatisfy((error: unknown) => error instanceof Refusal && error.errno === errno)
  const transfer = (offset: bigint, size: number): Buffer => {
    const body = Buffer.alloc(40)
    body.writeBigUInt64LE(offset, 8)
    body.writeUInt32LE(size, 16)
    return body
  }

  it('give the bytes up to the end of a file, and none behind it', async () => {
    for (const [offset, size, length] of [
      [0n, 4096, 4096],
      [BigInt(MIB), 4096, 512],
      [BigInt(MIB + 512), 4096, 0],
      [BigInt(10 * MIB), 4096, 0],
    ] as const) {
      const answer = await ask(OPCODE.read, 2, transfer(offset, size))
      expect(answer !== undefined && 'message' in answer ? answer.message.length - OUT_HEADER : undefined).toBe(length)
    }
  })

  it('refuse what is not there, and every change', async () => {
    await expect(ask(OPCODE.lookup, 1, Buffer.from('two.raw\0'))).rejects.toEqual(refusal(ERRNO.ENOENT))
    await expect(ask(OPCODE.lookup, 2, Buffer.from('x\0'))).rejects.toEqual(refusal(ERRNO.ENOTDIR))
    await expect(ask(OPCODE.getattr, 9)).rejects.toEqual(refusal(ERRNO.ENOENT))
    await expect(ask(OPCODE.read, 1, transfer(0n, 1))).rejects.toEqual(refusal(ERRNO.EISDIR))
    await expect(ask(OPCODE.read, 2, transfer(2n ** 63n, 1))).rejects.toEqual(refusal(ERRNO.EINVAL))
    await expect(ask(OPCODE.write, 2, transfer(0n, 0))).rejects.toEqual(refusal(ERRNO.EROFS))
    const forWriting = Buffer.alloc(8)
    forWriting.writeUInt32LE(1, 0)
    await expect(ask(OPCODE.open, 2, forWriting)).rejects.toEqual(refusal(ERRNO.EROFS))
    // MKNOD, UNLINK, RENAME, SETATTR and what is not known at all.
    for (const opcode of [4, 8, 10, 12, 999]) await expect(ask(opcode, 1)).rejects.toEqual(refusal(ERRNO.ENOSYS))
    expect(await ask(OPCODE.forget, 2)).toBeUndefined()
  })

  it('list the directory in parts', async () => {
    const whole = await ask(OPCODE.readdir, 1, transfer(0n, 4096))
    const rest = await ask(OPCODE.readdir, 1, transfer(2n, 4096))
    const end = await ask(OPCODE.readdir, 1, transfer(3n, 4096))
    const bodies = [whole, rest, end].map((answer) => (answer !== undefined && 'body' in answer ? answer.body : Buffer.alloc(0)))
    expect(bodies[0]?.includes('one.raw')).toBe(true)
    expect(bodies.map((body) => body.length)).toEqual([32 * 3, 32, 0])
  })
})
