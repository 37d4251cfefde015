import { lstatSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { GIB, isMissing, MIB } from '../../core/index.ts'
import { formatDatastorePath } from './datastore-path.ts'
import { LabStorageError, translated } from './storage-error.ts'

export type DatastoreType = 'VMFS5' | 'VMFS6' | 'NFS'
export type DatastoreOptions = {
  readonly name: string
  readonly type: DatastoreType
  readonly directory: string
  /** Bytes; writes beyond it fail with NoDiskSpace. Default 1 TiB. */
  readonly capacityBytes?: number | undefined
}

/**
 * A directory that plays a VMFS volume or an NFS export. The caller makes one per datastore and keeps it.
 *
 * Usage is estimated upwards as disks grow and measured again (a walk of the tree) only when the estimate says full or files went.
 */
export class Datastore {
  readonly name: string
  readonly type: DatastoreType
  readonly directory: string
  /** Changes only by the lab's own command, to make it tight. */
  capacityBytes: number
  /** Injected fault: every write that needs new space fails with NoDiskSpace. */
  full = false
  #measured = 0
  #grown = 0
  #stale = true

  constructor(options: DatastoreOptions) {
    this.name = options.name
    this.type = options.type
    this.directory = options.directory
    this.capacityBytes = options.capacityBytes ?? 1024 * GIB
  }

  /** Makes the directory. */
  create(): void {
    mkdirSync(this.directory, { recursive: true })
  }

  /** Absolute path of `dir/x.vmdk`. InvalidDatastorePath for `..`, absolute, control characters, or a symbolic link on the way. */
  path(relative: string): string {
    const parts = relative.split('/').filter((part) => part !== '' && part !== '.')
    // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is being refused
    if (relative.startsWith('/') || parts.includes('..') || /[\u0000-\u001f\u007f]/.test(relative) || relative.length > 4096) {
      throw this.#invalid(relative)
    }
    let path = this.directory
    for (const part of parts) {
      path = join(path, part)
      if (lstatSync(path, { throwIfNoEntry: false })?.isSymbolicLink() === true) throw this.#invalid(relative)
    }
    return path
  }

  /** `[name] dir/x.vmdk`. */
  datastorePath(relative: string): string {
    return formatDatastorePath(this.name, relative)
  }

  /** Bytes in use: allocated blocks of thin files and redo logs, whole capacity of thick disks. */
  used(): number {
    if (this.#stale || this.#grown > 64 * MIB) this.#measure()
    return this.#measured + this.#grown
  }

  free(): number {
    return this.full ? 0 : Math.max(0, this.capacityBytes - this.used())
  }

  /** Call after files were changed behind its back (an upload): usage is measured again at the next question. */
  changed(): void {
    this.#stale = true
  }

  /** Throws NoDiskSpace when `bytes` more do not fit. Call before an upload; disks do it themselves before each growth. */
  charge(bytes: number): void {
    if (bytes <= 0) return
    if (this.full) throw this.#noSpace()
    if (this.#stale || this.#measured + this.#grown + bytes > this.capacityBytes) this.#measure()
    if (this.#measured + this.#grown + bytes > this.capacityBytes) throw this.#noSpace()
    this.#grown += bytes
  }

  #measure(): void {
    this.#measured = usageOf(this.directory)
    this.#grown = 0
    this.#stale = false
  }

  #invalid(relative: string): LabStorageError {
    return new LabStorageError('InvalidDatastorePath', `The path "${relative}" does not stay inside datastore ${this.name}.`, relative)
  }

  #noSpace(): LabStorageError {
    const message = `Datastore ${this.name} has no space left for this write.`
    return new LabStorageError('NoDiskSpace', message, this.datastorePath(''))
  }
}

function usageOf(directory: string): number {
  let bytes = 0
  for (const entry of readdirSync(directory, { withFileTypes: true })) {
    const path = join(directory, entry.name)
    if (entry.isDirectory()) {
      bytes += usageOf(path)
    } else if (entry.isFile()) {
      const stat = statSync(path, { throwIfNoEntry: false })
      if (stat !== undefined) bytes += entry.name.endsWith('-flat.vmdk') && isThick(path) ? stat.size : stat.blocks * 512
    }
  }
  return bytes
}

function isThick(flat: string): boolean {
  try {
    const descriptor = readFileSync(flat.replace(/-flat\.vmdk$/, '.vmdk'), 'latin1')
    return !/^ddb\.thinProvisioned\s*=\s*"1"/m.test(descriptor)
  } catch (error) {
    if (isMissing(error)) return false
    throw error
  }
}

/** Replaces a small file whole: a kill leaves the old or the new content. */
export function replaceFile(path: string, data: string | Uint8Array, subject: string): void {
  const temporary = `${path}~`
  translated(subject, () => {
    writeFileSync(temporary, data)
    renameSync(temporary, path)
  })
}

/** Removes a file; a missing one is no error. */
export function removeFile(path: string): void {
  rmSync(path, { force: true })
}
