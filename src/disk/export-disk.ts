import { stat } from 'node:fs/promises'
import { join } from 'node:path'
import {
  type Abortable,
  AgentError,
  type BlockSource,
  fromErrno,
  openOutput,
  removeFile,
  SECTOR,
  syncDirectory,
  throwIfAborted,
  writeFileAtomic,
} from '../core/index.ts'
import { copyDisk, type ExportProgress } from './copy-disk.ts'
import type { DescriptorExtent } from './descriptor.ts'
import { formatDescriptor } from './descriptor-writer.ts'
import { createFlatDisk, type FlatFlavour, refuseExisting } from './flat-disk.ts'
import { checkNewDisk, type DiskLook, newDescriptor } from './new-descriptor.ts'
import { PIECE_BYTES, writeSparsePiece } from './sparse-piece.ts'
import { streamOptimized } from './stream-writer.ts'

/** `flat` = descriptor + raw file; `split-sparse` = twoGbMaxExtentSparse, pieces below 2 GiB; `streamOptimized` = one compressed file. */
export type ExportFormat = 'flat' | 'split-sparse' | 'streamOptimized'

export type ExportOptions = Abortable &
  DiskLook & {
    /** flat only; default hosted. */
    readonly flavour?: FlatFlavour | undefined
    /** streamOptimized only: zlib level. */
    readonly level?: number | undefined
    /** Called after each chunk, not for each block. */
    readonly onProgress?: ((progress: ExportProgress) => void) | undefined
  }

/** Names inside the directory, the descriptor first, and bytes as `stat` gives them. */
export type ExportedDisk = { readonly files: readonly { readonly name: string; readonly size: number }[] }

/**
 * Writes a complete disk as `NAME.vmdk` and its extents into an existing directory; durable when it resolves. Whatever fails, no file
 * of it stays. The caller owns `source` and makes `name` a plain file name. Errors: CONFLICT (a file exists), USAGE, CAPACITY, CONFIG,
 * CANCELED, those of the source.
 */
export async function exportDisk(
  source: BlockSource,
  directory: string,
  name: string,
  format: ExportFormat,
  options: ExportOptions = {},
): Promise<ExportedDisk> {
  checkNewDisk(name, source.size)
  await refuseExisting(join(directory, `${name}.vmdk`))
  const begun: string[] = []
  try {
    const names = await write(source, directory, name, format, options, begun)
    await syncDirectory(directory)
    const sizes = await Promise.all(names.map(async (file) => (await stat(join(directory, file))).size))
    return { files: names.map((file, index) => ({ name: file, size: sizes[index] ?? 0 })) }
  } catch (error) {
    for (const path of begun) {
      await removeFile(path).catch((left: unknown) => {
        throw new SuppressedError(left, error)
      })
    }
    throw fromErrno(error) ?? error
  }
}

async function write(
  source: BlockSource,
  directory: string,
  name: string,
  format: ExportFormat,
  options: ExportOptions,
  begun: string[],
): Promise<string[]> {
  switch (format) {
    case 'flat': {
      await using disk = await createFlatDisk(directory, name, source.size, options)
      await copyDisk(source, disk, options)
      return [`${name}.vmdk`, `${name}-flat.vmdk`]
    }
    case 'split-sparse':
      return writeSplit(source, directory, name, options, begun)
    case 'streamOptimized':
      return [await writeStream(source, directory, name, options, begun)]
    default:
      throw new AgentError('USAGE', `The export format ${JSON.stringify(format satisfies never)} is not known.`)
  }
}

async function writeSplit(
  source: BlockSource,
  directory: string,
  name: string,
  options: ExportOptions,
  begun: string[],
): Promise<string[]> {
  const extents: DescriptorExtent[] = []
  let written = 0
  const onWritten = (end: number, bytes: number): void => {
    written += bytes
    options.onProgress?.({ doneBytes: end, writtenBytes: written })
  }
  for (let offset = 0; offset < source.size; offset += PIECE_BYTES) {
    throwIfAborted(options)
    const length = Math.min(PIECE_BYTES, source.size - offset)
    const file = `${name}-s${String(extents.length + 1).padStart(3, '0')}.vmdk`
    await using output = await openOutput(join(directory, file), 'wx')
    begun.push(join(directory, file))
    await writeSparsePiece(source, { offset, length }, output, { signal: options.signal, onWritten })
    await output.sync()
    extents.push({ access: 'RW', sectors: length / SECTOR, type: 'SPARSE', file })
  }
  const descriptor = newDescriptor(name, source.size, 'twoGbMaxExtentSparse', extents, options)
  const path = join(directory, `${name}.vmdk`)
  await refuseExisting(path)
  begun.push(path)
  await writeFileAtomic(path, formatDescriptor(descriptor))
  options.onProgress?.({ doneBytes: source.size, writtenBytes: written })
  return [`${name}.vmdk`, ...extents.flatMap((extent) => extent.file ?? [])]
}

async function writeStream(source: BlockSource, directory: string, name: string, options: ExportOptions, begun: string[]): Promise<string> {
  const file = `${name}.vmdk`
  await using output = await openOutput(join(directory, file), 'wx')
  begun.push(join(directory, file))
  for await (const bytes of streamOptimized(source, name, options)) await output.write(bytes)
  await output.sync()
  return file
}
