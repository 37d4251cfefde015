import { readdir, realpath, stat } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { type Clock, ensureDirectory, isMissing, isThere, type LogHandle, openLogLines, removeFile, renameFile } from '../core/index.ts'

/** How large a log becomes before it goes on in a new file (bytes), and how many files there are then at most, the current one among them. */
export type LogBounds = { readonly maxBytes: number; readonly files: number }

export type LogFileOptions = {
  readonly path: string
  /** Undefined: somebody else rotates it. */
  readonly bounds: LogBounds | undefined
  readonly clock: Clock
  /** Told once when lines cannot be written, and once more after they could. */
  readonly onTrouble: (message: string) => void
  /** The line that stands where `lost` lines could not be written. */
  readonly lostLine: (lost: number) => string
}

/** So much waits to be written at most, characters: a disk that hangs costs lines and no memory. */
const MOST_WAITING = 4 * 1024 * 1024
const BATCH = 256 * 1024

/** What a full log is renamed to: its own name, the moment, and the process that did it. */
const ROTATED = /^\.\d{8}T\d{9}Z-\d+$/

/**
 * A log on disk that several processes may write at once. Each batch of whole lines is one write at the end of the file that has the name at that moment, so a log that
 * somebody else moved away (logrotate, another vcb) is followed without a signal. A full one gets another name in one step: whoever is killed in between leaves
 * nothing half, and of two that do it at once neither loses a line. docs/service.md.
 */
export class LogFile implements AsyncDisposable {
  readonly #options: LogFileOptions
  #path: string
  #lines: string[] = []
  #waiting = 0
  #lost = 0
  #open: { readonly handle: LogHandle; readonly id: string } | undefined
  #writing: Promise<void> | undefined
  #torn = false
  #troubled = false
  #stays = false
  #lastStamp = 0

  constructor(options: LogFileOptions) {
    this.#options = options
    this.#path = options.path
  }

  /** Takes one line with its end. Never waits and never fails: what cannot be written is counted. */
  append(line: string): void {
    if (this.#waiting + line.length > MOST_WAITING) {
      this.#lost++
      return
    }
    this.#lines.push(line)
    this.#waiting += line.length
    this.#writing ??= this.#writeAll()
  }

  /** Everything taken is written, or given up. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#writing
    await this.#close()
  }

  async #writeAll(): Promise<void> {
    // What one turn of the event loop says is one write.
    await Promise.resolve()
    while (this.#lines.length > 0) {
      const batch = this.#batch()
      try {
        await this.#write(batch)
      } catch (error) {
        this.#lost += batch.length
        this.#trouble(`The log ${this.#path} cannot be written: ${error instanceof Error ? error.message : String(error)}`)
        await this.#close()
      }
    }
    this.#writing = undefined
  }

  #batch(): readonly string[] {
    const most = Math.min(BATCH, this.#options.bounds?.maxBytes ?? BATCH)
    let count = 0
    for (let size = 0; count < this.#lines.length && (count === 0 || size + (this.#lines[count]?.length ?? 0) <= most); count++)
      size += this.#lines[count]?.length ?? 0
    const batch = this.#lines.splice(0, count)
    this.#waiting -= batch.reduce((sum, line) => sum + line.length, 0)
    return batch
  }

  async #write(lines: readonly string[]): Promise<void> {
    const lost = this.#lost
    const text = `${this.#torn ? '\n' : ''}${lost > 0 ? this.#options.lostLine(lost) : ''}${lines.join('')}`
    const data = Buffer.from(text)
    const handle = await this.#current(data.length)
    const { bytesWritten } = await handle.write(data)
    this.#torn = bytesWritten > 0 && data[bytesWritten - 1] !== 0x0a
    if (bytesWritten < data.length) throw new Error('no space is left')
    this.#lost -= lost
    if (this.#troubled && !this.#stays) this.#options.onTrouble(`The log ${this.#path} is written again; ${lost} lines are missing.`)
    this.#troubled = this.#stays
  }

  /** The file that has the name now, with room for so many bytes. */
  async #current(bytes: number): Promise<LogHandle> {
    for (;;) {
      this.#open ??= await this.#openNow()
      const there = await lookAt(this.#options.path)
      if (there?.id !== this.#open.id) {
        await this.#close()
        continue
      }
      const { bounds } = this.#options
      const full = bounds !== undefined && there.isFile && there.size > 0 && there.size + bytes > bounds.maxBytes
      if (!full || this.#stays) return this.#open.handle
      await this.#rotate(bounds)
    }
  }

  async #openNow(): Promise<{ readonly handle: LogHandle; readonly id: string }> {
    const { path } = this.#options
    const handle = await openLogLines(path).catch(async (error: unknown) => {
      if (!isMissing(error)) throw error
      await ensureDirectory(dirname(path))
      return openLogLines(path)
    })
    try {
      // A link is kept: what it leads to is what is rotated.
      this.#path = await realpath(path)
    } catch (error) {
      // Moved away already: that is seen before anything is written.
      if (!isMissing(error)) throw error
    }
    const { dev, ino } = await handle.stat()
    return { handle, id: `${dev}:${ino}` }
  }

  async #rotate({ files }: LogBounds): Promise<void> {
    try {
      await renameFile(this.#path, await this.#freeName())
      await this.#forgetOld(files)
    } catch (error) {
      // Another process was quicker.
      if (isMissing(error)) return
      this.#stays = true
      this.#trouble(
        `The log ${this.#path} cannot be rotated and goes on growing: ${error instanceof Error ? error.message : String(error)}`,
      )
    }
  }

  async #freeName(): Promise<string> {
    for (;;) {
      this.#lastStamp = Math.max(this.#lastStamp + 1, this.#options.clock.now().getTime())
      const stamp = new Date(this.#lastStamp).toISOString().replaceAll(/[-:.]/g, '')
      const name = `${this.#path}.${stamp}-${process.pid}`
      if (!(await isThere(name))) return name
    }
  }

  /** Names end with their moment, so their order is that of their age. */
  async #forgetOld(files: number): Promise<void> {
    const directory = dirname(this.#path)
    const own = basename(this.#path)
    const old = (await readdir(directory)).filter((name) => name.startsWith(own) && ROTATED.test(name.slice(own.length))).toSorted()
    for (const name of old.slice(0, Math.max(0, old.length - files + 1))) await removeFile(join(directory, name))
  }

  async #close(): Promise<void> {
    const open = this.#open
    this.#open = undefined
    try {
      await open?.handle.close()
    } catch (error) {
      this.#trouble(`The log ${this.#path} could not be closed: ${error instanceof Error ? error.message : String(error)}`)
    }
  }

  #trouble(message: string): void {
    if (!this.#troubled) this.#options.onTrouble(message)
    this.#troubled = true
  }
}

async function lookAt(path: string): Promise<{ readonly id: string; readonly size: number; readonly isFile: boolean } | undefined> {
  try {
    const { dev, ino, size, ...found } = await stat(path)
    return { id: `${dev}:${ino}`, size, isFile: (found.mode & 0o170000) === 0o100000 }
  } catch (error) {
    if (isMissing(error)) return undefined
    throw error
  }
}
