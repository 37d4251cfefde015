import { stat } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import type { Writable } from 'node:stream'
import {
  AgentError,
  effect,
  fromErrno,
  isMissing,
  openOutput,
  type OutputFile,
  type OutputMode,
  removeFile,
  renameFile,
  type RunId,
  syncDirectory,
  WriteBack,
} from '../core/index.ts'

/** A record of a tape as GNU tar makes it: 20 blocks. Bytes. */
const RECORD = 10_240

/** Where an archive's bytes go, in order. Exactly one of `finish` and `abort` ends it. */
export interface ArchiveOutput {
  /** Resolves when the bytes may be changed again; the only back-pressure. CAPACITY, UNAVAILABLE. */
  write(bytes: Uint8Array): Promise<void>
  /** Everything durable, and visible under its name. */
  finish(): Promise<void>
  /** Nothing stays that could be taken for an archive. */
  abort(): Promise<void>
}

/** A file beside its final name, renamed when complete; `run` is in its temporary name. CONFLICT when the name is taken. */
export async function fileOutput(path: string, run: RunId): Promise<ArchiveOutput> {
  const ending = `.${run}.tar`
  const partial = join(dirname(path), `.${basename(path)}${path.endsWith(ending) ? '' : `.${run}`}.partial`)
  await refuseExisting(path)
  const file = await openForWriting(partial, 'w')
  const back = new WriteBack(file)
  return {
    async write(bytes) {
      await writeAll(file, bytes, path)
      back.wrote(bytes.length)
    },
    async finish() {
      try {
        await back.flush()
        await file.close()
        await refuseExisting(path)
        await renameFile(partial, path)
        await syncDirectory(dirname(path))
      } catch (error) {
        throw fromErrno(error, path) ?? error
      }
    },
    async abort() {
      await back.ended()
      await file.close()
      await removeFile(partial)
    },
  }
}

/** A tape or another device, or a pipe: whole records only, the last one filled up with zeros. */
export async function recordOutput(path: string): Promise<ArchiveOutput> {
  const device = await openForWriting(path, 'r+').catch(() => openForWriting(path, 'w'))
  const record = Buffer.alloc(RECORD)
  let filled = 0
  return {
    async write(bytes) {
      for (let at = 0; at < bytes.length; ) {
        const part = bytes.subarray(at, at + RECORD - filled)
        record.set(part, filled)
        filled += part.length
        at += part.length
        if (filled < RECORD) continue
        await writeAll(device, record, path)
        filled = 0
      }
    },
    async finish() {
      if (filled > 0) {
        record.fill(0, filled)
        await writeAll(device, record, path)
      }
      await device.close()
    },
    // A tape cannot be unwritten; without the commit entry and the end of the archive nobody takes what is there for complete.
    abort: () => device.close(),
  }
}

/** A stream of the caller's, which stays open: standard output. */
export function streamOutput(stream: Writable): ArchiveOutput {
  // Each write's own callback reports a broken pipe; without a listener the event would end the process first.
  stream.on('error', () => undefined)
  return {
    write: (bytes) =>
      effect(
        { kind: 'file', what: 'write', on: 'standard output' },
        () =>
          new Promise((resolve, reject) => {
            stream.write(Buffer.from(bytes), (error) => {
              if (error == null) resolve()
              else reject(fromErrno(error, 'standard output') ?? error)
            })
          }),
      ),
    finish: async () => undefined,
    abort: async () => undefined,
  }
}

async function refuseExisting(path: string): Promise<void> {
  try {
    await stat(path)
  } catch (error) {
    if (isMissing(error)) return
    throw fromErrno(error, path) ?? error
  }
  throw new AgentError('CONFLICT', `The archive ${path} exists already.`, { subject: path, next: 'Name another file.', retry: 'never' })
}

async function openForWriting(path: string, mode: OutputMode): Promise<OutputFile> {
  try {
    return await openOutput(path, mode)
  } catch (error) {
    throw fromErrno(error, path) ?? error
  }
}

async function writeAll(file: OutputFile, bytes: Uint8Array, path: string): Promise<void> {
  try {
    await file.write(bytes)
  } catch (error) {
    throw fromErrno(error, path) ?? error
  }
}
