import type { ServerResponse } from 'node:http'
import type { Clock, Log } from '../core/index.ts'
import type { EventFeed, FedEvent } from './event-feed.ts'

/** A line goes at least so often, so that both sides notice when the other is gone, ms. */
const BEAT_MS = 15_000
/** With so much unread, progress is left out; with so much, the reader is dropped. Bytes. */
const SLOW_BYTES = 64 * 1024
const MOST_BYTES = 1024 * 1024

export type StreamOptions = {
  readonly feed: EventFeed
  readonly clock: Clock
  readonly log: Log
  /** `Last-Event-ID` of one who comes back. */
  readonly after: string | undefined
  /** Whether the reader may still read; asked at every beat. */
  readonly isAllowed: () => Promise<boolean>
  readonly headers: Readonly<Record<string, string>>
  /** Ends the stream. */
  readonly signal: AbortSignal
  readonly beatMs?: number | undefined
}

/**
 * Server-sent events to one reader, until it goes, is not allowed any more, or reads too slowly: nothing waits for it, and what is not read yet is bounded.
 * Resolves when the connection has closed.
 */
export async function streamEvents(response: ServerResponse, options: StreamOptions): Promise<void> {
  const { feed, clock, log, after, isAllowed, headers, signal } = options
  const closed = new Promise<void>((resolve) => response.once('close', resolve))
  if (response.destroyed || signal.aborted) {
    response.destroy()
    return
  }
  response.on('error', (error) => log.debug('a reader of events is gone', { error: error.message }))
  response.writeHead(200, { ...headers, 'content-type': 'text/event-stream; charset=utf-8', 'x-accel-buffering': 'no' })
  const write = (frame: string): void => {
    if (response.destroyed || response.writableEnded) return
    if (response.writableLength > MOST_BYTES) {
      log.warn('a reader of events was too slow and is dropped', { unread: response.writableLength })
      response.destroy()
      return
    }
    response.write(frame)
  }
  const send = (fed: FedEvent | 'missed'): void => {
    if (fed === 'missed') {
      write('event: missed\ndata: {}\n\n')
      return
    }
    const { id, event } = fed
    if (event.type === 'progress' && response.writableLength > SLOW_BYTES) return
    write(`${id === undefined ? '' : `id: ${id}\n`}event: ${event.type}\ndata: ${JSON.stringify(event)}\n\n`)
  }
  write('retry: 2000\n\n')
  using _listening = feed.listen(send, after)
  let stuck = false
  const beat = async (): Promise<void> => {
    if (!(await isAllowed())) {
      response.end()
      return
    }
    if (stuck && response.writableNeedDrain) {
      log.warn('a reader of events has stopped reading and is dropped', { unread: response.writableLength })
      response.destroy()
      return
    }
    stuck = response.writableNeedDrain
    write(': beat\n\n')
  }
  using _beats = clock.every(options.beatMs ?? BEAT_MS, beat, (error) => {
    log.error('a stream of events ends: whether it is allowed cannot be told', { error: String(error) })
    response.destroy()
  })
  const stop = (): void => void response.end()
  signal.addEventListener('abort', stop, { once: true })
  try {
    await closed
  } finally {
    signal.removeEventListener('abort', stop)
  }
}
