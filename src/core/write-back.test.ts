import { describe, expect, test } from 'vitest'
import { MIB } from './bytes.ts'
import { WriteBack } from './write-back.ts'

/** A file whose syncs end when they are told to. */
class SlowFile {
  readonly done: string[] = []
  readonly #waiting: PromiseWithResolvers<void>[] = []

  sync(): Promise<void> {
    const waiting = Promise.withResolvers<void>()
    this.#waiting.push(waiting)
    return waiting.promise.then(() => void this.done.push('synced'))
  }

  forget(): void {
    this.done.push('forgotten')
  }

  get underWay(): number {
    return this.#waiting.length
  }

  /** Ends the sync that is under way, after what led to it and before what follows from it. */
  async end(error?: Error): Promise<void> {
    await turns()
    const waiting = this.#waiting.shift()
    if (waiting === undefined) throw new Error('nothing is being synced')
    if (error === undefined) waiting.resolve()
    else waiting.reject(error)
    await turns()
  }
}

async function turns(): Promise<void> {
  for (let turn = 0; turn < 20; turn++) await Promise.resolve()
}

describe('what is written to a large file', () => {
  test('is sent to the disk once in 64 MiB, one piece at a time, and forgotten', async () => {
    const file = new SlowFile()
    const back = new WriteBack(file)
    for (let written = 0; written < 63; written++) back.wrote(MIB)
    expect(file.underWay).toBe(0)
    back.wrote(MIB)
    expect(file.underWay).toBe(1)
    back.wrote(100 * MIB)
    expect(file.underWay).toBe(1)
    await file.end()
    expect(file.done).toEqual(['synced', 'forgotten'])
    back.wrote(1)
    expect(file.underWay).toBe(1)
  })

  test('is durable after a flush, which waits for what is under way', async () => {
    const file = new SlowFile()
    const back = new WriteBack(file)
    back.wrote(64 * MIB)
    let flushed = false
    const flush = back.flush().then(() => (flushed = true))
    await file.end()
    expect([file.underWay, flushed]).toEqual([1, false])
    await file.end()
    await flush
    expect(file.done).toEqual(['synced', 'forgotten', 'synced', 'forgotten'])
  })

  test('is not flushed when a piece was lost on the way, although the last sync found nothing', async () => {
    const file = new SlowFile()
    const back = new WriteBack(file)
    back.wrote(64 * MIB)
    await file.end(new Error('i/o error'))
    await back.ended()
    const flush = expect(back.flush()).rejects.toThrow('i/o error')
    await file.end()
    await flush
  })

  test('is not forgotten when it could not be written', async () => {
    const file = new SlowFile()
    const back = new WriteBack(file)
    const flush = expect(back.flush()).rejects.toThrow('no room')
    await file.end(new Error('no room'))
    await flush
    expect(file.done).toEqual([])
  })
})
