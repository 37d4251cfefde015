import { lstat } from 'node:fs/promises'
import { join } from 'node:path'
import {
  type Abortable,
  AgentError,
  type BlockSink,
  isMissing,
  type Range,
  removeFile,
  SECTOR,
  writeFileAtomic,
  type FilePlace,
} from '../core/index.ts'
import { handOver } from './byte-source.ts'
import { formatDescriptor } from './descriptor-writer.ts'
import { checkNewDisk, type DiskLook, newDescriptor } from './new-descriptor.ts'
import { createRawFile, type RawSink } from './raw-file.ts'

/** `hosted` = monolithicFlat, `vmfs` = as ESXi writes it. Both are `NAME.vmdk` and `NAME-flat.vmdk`. */
export type FlatFlavour = 'hosted' | 'vmfs'

/**
 * A new flat disk to write to in any order: descriptor and sparse flat file in an existing directory. The descriptor appears with
 * `flush`; disposed without it, nothing stays. Errors: CONFLICT (a file exists), USAGE (name, size), CAPACITY, CONFIG.
 */
export async function createFlatDisk(
  directory: string,
  name: string,
  size: number,
  options: DiskLook & { readonly flavour?: FlatFlavour | undefined } = {},
): Promise<BlockSink> {
  checkNewDisk(name, size)
  const flat = `${name}-flat.vmdk`
  const extent = { access: 'RW', sectors: size / SECTOR, file: flat } as const
  const descriptor =
    options.flavour === 'vmfs'
      ? newDescriptor(name, size, 'vmfs', [{ ...extent, type: 'VMFS' }], options)
      : newDescriptor(name, size, 'monolithicFlat', [{ ...extent, type: 'FLAT', offset: 0 }], options)
  const text = formatDescriptor(descriptor)
  const path = join(directory, `${name}.vmdk`)
  await refuseExisting(path)
  const file = await createRawFile(join(directory, flat), size)
  return handOver(file, async () => new FlatDisk(path, text, file))
}

/** Errors: CONFLICT. */
export async function refuseExisting(path: string): Promise<void> {
  const exists = await lstat(path).then(
    () => true,
    (error: unknown) => {
      if (isMissing(error)) return false
      throw error
    },
  )
  if (!exists) return
  throw new AgentError('CONFLICT', `${path} exists already.`, {
    subject: path,
    retry: 'never',
    next: 'Choose another directory or remove it.',
  })
}

class FlatDisk implements RawSink {
  readonly size: number
  readonly #path: string
  readonly #text: Uint8Array
  readonly #file: RawSink
  #state: 'open' | 'described' | 'complete' = 'open'

  constructor(path: string, text: Uint8Array, file: RawSink) {
    this.size = file.size
    this.#path = path
    this.#text = text
    this.#file = file
  }

  write(offset: number, data: Uint8Array, options?: Abortable): Promise<void> {
    return this.#file.write(offset, data, options)
  }

  writeBy(range: Range, work: (place: FilePlace) => Promise<number | undefined>, options?: Abortable): Promise<number | undefined> {
    return this.#file.writeBy(range, work, options)
  }

  zero(range: Range, options?: Abortable): Promise<void> {
    return this.#file.zero(range, options)
  }

  /** Data first: a descriptor that can be found always has its data. */
  async flush(options?: Abortable): Promise<void> {
    await this.#file.flush(options)
    await refuseExisting(this.#path)
    this.#state = 'described'
    await writeFileAtomic(this.#path, this.#text)
    this.#state = 'complete'
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#file[Symbol.asyncDispose]()
    if (this.#state === 'complete') return
    const flat = this.#path.replace(/\.vmdk$/u, '-flat.vmdk')
    for (const path of this.#state === 'described' ? [this.#path, flat] : [flat]) await removeFile(path)
  }
}
