import { closeSync, existsSync, ftruncateSync, openSync } from 'node:fs'
import { GIB, MIB, type Range, SECTOR } from '../../core/index.ts'
import { ChangeLog } from './change-log.ts'
import { type ChangeTracking, trackingOf } from './change-tracking.ts'
import { type CommitOptions, commitLink } from './commit.ts'
import { createCowd } from './cowd-link.ts'
import { besidePath, fileOf } from './datastore-path.ts'
import { type Datastore, removeFile } from './datastore.ts'
import { readDescriptor, withCid, writeDescriptor } from './descriptor.ts'
import { deleteDisk, extentName } from './disk-files.ts'
import { childrenOf, type DiskInfo, diskChain, diskInfo, MAX_LINKS } from './disk-info.ts'
import { cryptoRandom, newContentId, type Random } from './disk-uuid.ts'
import { allocatedThrough, checkRange, type DiskView, readThrough } from './disk-view.ts'
import type { Link } from './link.ts'
import { openLink } from './open-link.ts'
import { createSeSparse } from './se-sparse-link.ts'
import { LabStorageError } from './storage-error.ts'

export type LabDiskOptions = { readonly random?: Random | undefined }
export type RedoLogAdded = {
  /** The new current link. */
  readonly top: string
  /** The link it froze: what a snapshot's backing names. */
  readonly frozen: string
  /** changeId of the frozen moment, when tracking is on. */
  readonly changeId?: string | undefined
}
export type HeldFile = { readonly path: string; readonly mode: 'exclusive' | 'shared' }
/** One link of an open disk. */
export type OpenLink = { readonly path: string; readonly link: Link; readonly info: DiskInfo }

const PIECE = MIB

/** A virtual disk that is attached to a VM: the one writer of its chain. One per disk and process; disposed at power-off or removal. */
export class LabDisk implements DiskView, Disposable {
  readonly datastore: Datastore
  readonly size: number
  readonly #random: Random
  #links: OpenLink[]
  #raw: Link[]
  #log: ChangeLog | undefined
  #written = false
  #disposed = false
  /** While the current link is being committed its writes go to its parent too, so that the parent ends up the same. */
  #mirrored = false
  #committing = false

  private constructor(datastore: Datastore, links: OpenLink[], log: ChangeLog | undefined, random: Random) {
    this.datastore = datastore
    this.#links = links
    this.#raw = links.map(({ link }) => link)
    this.size = links[0]?.link.capacity ?? 0
    this.#log = log
    this.#random = random
  }

  /** Opens the chain under `path` for writing; finishes what a killed commit left. FileNotFound, InvalidDisk. */
  static open(datastore: Datastore, path: string, options: LabDiskOptions = {}): LabDisk {
    const infos = diskChain(datastore, path)
    const links: OpenLink[] = []
    let log: ChangeLog | undefined
    try {
      for (const info of infos) links.push({ path: info.path, info, link: openLink(datastore, info, false) })
      healParents(datastore, infos)
      const base = infos.at(-1)
      if (base?.changeTrackPath !== undefined) {
        log = ChangeLog.open(datastore, base.changeTrackPath, base.capacityBytes, options.random ?? cryptoRandom)
      }
    } catch (error) {
      for (const { link } of links) link.close()
      throw error
    }
    return new LabDisk(datastore, links, log, options.random ?? cryptoRandom)
  }

  /** Datastore-relative path of the current link's descriptor. */
  get top(): string {
    return this.#top().path
  }

  /** Descriptor paths from the current link to the base. */
  get chain(): readonly string[] {
    return this.#links.map(({ path }) => path)
  }

  get tracking(): ChangeTracking {
    return trackingOf({
      size: this.size,
      log: () => this.#log,
      enable: () => this.#enableTracking(),
      disable: () => this.#disableTracking(),
      allocated: (range) => this.allocated(range),
    })
  }

  /** Any bytes inside the disk. InvalidOffset. */
  read(offset: number, into: Uint8Array): void {
    checkRange(offset, into.length, this.size)
    readThrough(this.#open(), 0, offset, into)
  }

  allocated(range: Range = { offset: 0, length: this.size }): Generator<Range> {
    return allocatedThrough(this.#open(), 0, range)
  }

  /** Whole sectors. NoDiskSpace leaves the disk as it was before the call, or with a prefix of it written. */
  write(offset: number, data: Uint8Array): void {
    checkRange(offset, data.length, this.size, true)
    if (data.length === 0) return
    this.#beforeWrite(offset, data.length)
    for (let done = 0; done < data.length; done += PIECE) {
      const piece = data.subarray(done, done + PIECE)
      for (let level = 0; level <= (this.#mirrored ? 1 : 0); level++) this.writeLevel(level, offset + done, piece)
    }
  }

  /** SCSI UNMAP of whole sectors: reads as zeros afterwards. */
  unmap(range: Range): void {
    checkRange(range.offset, range.length, this.size, true)
    if (range.length === 0) return
    this.#beforeWrite(range.offset, range.length)
    for (let level = 0; level <= (this.#mirrored ? 1 : 0); level++) this.zeroLevel(level, range)
  }

  /** For a commit: throws when the disk was closed meanwhile. */
  checkOpen(): void {
    this.#open()
  }

  /** For a commit: writes into the link `level` below the current one. */
  writeLevel(level: number, offset: number, data: Uint8Array): void {
    const links = this.#open()
    links[level]?.write(offset, data, (at, into) => readThrough(links, level + 1, at, into))
  }

  /** For a commit: makes a range read as zeros through the link `level` below the current one. */
  zeroLevel(level: number, range: Range): void {
    const links = this.#open()
    const done = links[level]?.zero?.(range.offset, range.length) ?? { offset: range.offset, length: 0 }
    const end = range.offset + range.length
    for (const [from, to] of [
      [range.offset, done.offset],
      [done.offset + done.length, end],
    ] as const) {
      if (from >= to) continue
      for (const area of allocatedThrough(links, level, { offset: from, length: to - from })) {
        const start = Math.floor(area.offset / SECTOR) * SECTOR
        for (let at = start; at < area.offset + area.length; at += PIECE) {
          this.writeLevel(level, at, new Uint8Array(Math.ceil(Math.min(PIECE, area.offset + area.length - at) / SECTOR) * SECTOR))
        }
      }
    }
  }

  /** View through any link of the chain, sharing this disk's handles; valid until that link is committed or the disk disposed. */
  view(path: string): DiskView {
    const index = (): number => {
      const found = this.#links.findIndex((link) => link.path === path)
      if (found >= 0) return found
      const subject = this.datastore.datastorePath(path)
      throw new LabStorageError('FileNotFound', `${subject} is not in the chain of this disk any more.`, subject)
    }
    const size = this.#links[index()]?.link.capacity ?? 0
    return {
      size,
      read: (offset, into) => {
        checkRange(offset, into.length, size)
        readThrough(this.#open(), index(), offset, into)
      },
      allocated: (range) => allocatedThrough(this.#open(), index(), range ?? { offset: 0, length: size }),
      [Symbol.dispose]: () => undefined,
    }
  }

  /**
   * Freezes the current link and puts a new redo log on top (COWD or SE-sparse by datastore type and size; an existing chain keeps its
   * kind). At one instant for writers. `path` default: the base's name with the next free number. With tracking on, a new epoch begins.
   */
  addRedoLog(path?: string): RedoLogAdded {
    this.#idle()
    const frozen = this.#top()
    if (this.#links.length >= MAX_LINKS) {
      const subject = this.datastore.datastorePath(frozen.path)
      throw new LabStorageError('TooManyLinks', `${subject} has ${MAX_LINKS} links already.`, subject)
    }
    frozen.link.flush()
    const top = this.#createRedoLog(frozen, path ?? this.#nextName())
    const changeId = this.#log?.changeId
    this.#log?.nextEpoch()
    this.#setLinks([top, ...this.#links])
    this.#written = false
    return changeId === undefined ? { top: top.path, frozen: frozen.path } : { top: top.path, frozen: frozen.path, changeId }
  }

  /**
   * Copies link `path` into its parent in bounded steps while writes go on, then joins the chain without it and deletes its files.
   * `persist(newTop)` is awaited when the CURRENT link changes, before its files go: save the VMX there; a kill on either side is safe.
   * Restartable: calling it again after a kill or a failure goes on; a link no longer in the chain is only deleted. The parent must
   * have no other child, and the link at most this chain's (FileLocked otherwise). One commit at a time per disk.
   */
  async commit(path: string, options: CommitOptions = {}): Promise<void> {
    this.#idle()
    const index = this.#links.findIndex((link) => link.path === path)
    if (index < 0) {
      deleteDisk(this.datastore, path)
      return
    }
    const mirror = index === 0
    this.#mirrored = mirror
    this.#committing = true
    try {
      const merged = await commitLink(this, this.#links, index, options)
      this.#setLinks([...this.#links.slice(0, index), merged, ...this.#links.slice(index + 2)].map((link) => this.#reread(link)))
    } finally {
      this.#mirrored = false
      this.#committing = false
    }
    deleteDisk(this.datastore, path)
  }

  /**
   * Revert: drops the current link (its files too, unless another link continues it) and starts a new redo log over `frozenPath`.
   * Change tracking starts anew.
   */
  revert(frozenPath: string): RedoLogAdded {
    this.#idle()
    const old = this.#links
    const infos = diskChain(this.datastore, frozenPath)
    const below: OpenLink[] = []
    const opened: OpenLink[] = []
    for (const info of infos) {
      const known = old.find((link) => link.path === info.path)
      const link = known ?? { path: info.path, info, link: openLink(this.datastore, info, false) }
      if (known === undefined) opened.push(link)
      below.push(link)
    }
    const [frozen] = below
    if (frozen === undefined || below.length >= MAX_LINKS) {
      for (const { link } of opened) link.close()
      throw new LabStorageError('TooManyLinks', `${frozenPath} has ${MAX_LINKS} links already.`, frozenPath)
    }
    const current = this.#top()
    const top = this.#createRedoLog(frozen, this.#nextName())
    this.#setLinks([top, ...below])
    this.#written = false
    for (const link of old) if (!below.includes(link)) link.link.close()
    if (!below.includes(current) && current.info.parent !== undefined && childrenOf(this.datastore, current.path).length === 0) {
      deleteDisk(this.datastore, current.path)
    }
    this.#log?.reset()
    const changeId = this.#log?.changeId
    this.#log?.nextEpoch()
    return changeId === undefined ? { top: top.path, frozen: frozenPath } : { top: top.path, frozen: frozenPath, changeId }
  }

  /** Grows the base disk and reopens it; refused (FileLocked) with redo logs. Change tracking starts anew. Returns the disk to use now. */
  grow(capacityBytes: number): LabDisk {
    this.#idle()
    const top = this.#top()
    const subject = this.datastore.datastorePath(top.path)
    if (this.#links.length > 1) throw new LabStorageError('FileLocked', `${subject} has redo logs and cannot grow.`, subject)
    checkRange(this.size, 0, capacityBytes, true)
    if (!top.info.thin) this.datastore.charge(capacityBytes - this.size)
    const descriptor = readDescriptor(this.datastore, top.path)
    const fd = openSync(this.datastore.path(top.info.extents[0] ?? ''), 'r+')
    try {
      ftruncateSync(fd, capacityBytes)
    } finally {
      closeSync(fd)
    }
    const extents = descriptor.extents.map((extent) => ({ ...extent, sectors: capacityBytes / SECTOR }))
    writeDescriptor(this.datastore, top.path, { ...descriptor, extents })
    this[Symbol.dispose]()
    // A tracking file of the old capacity starts anew by itself.
    return LabDisk.open(this.datastore, top.path, { random: this.#random })
  }

  /** Files this disk holds: extent of the current link and the change tracking file exclusive, extents of parents shared. */
  locks(): readonly HeldFile[] {
    const held: HeldFile[] = []
    for (const [index, { info }] of this.#links.entries()) {
      for (const path of info.extents) held.push({ path, mode: index === 0 ? 'exclusive' : 'shared' })
    }
    if (this.#log !== undefined) held.push({ path: this.#log.path, mode: 'exclusive' })
    return held
  }

  [Symbol.dispose](): void {
    if (this.#disposed) return
    this.#disposed = true
    for (const { link } of this.#links) link.close()
    this.#log?.close()
  }

  #open(): readonly Link[] {
    if (!this.#disposed) return this.#raw
    const subject = this.datastore.datastorePath(this.#links[0]?.path ?? '')
    throw new LabStorageError('FileNotFound', `${subject} is not open any more.`, subject)
  }

  /** The chain must not change under a commit. */
  #idle(): void {
    this.#open()
    if (!this.#committing) return
    const subject = this.datastore.datastorePath(this.top)
    throw new LabStorageError('FileLocked', `A redo log of ${subject} is being committed.`, subject)
  }

  #top(): OpenLink {
    const [top] = this.#links
    if (top === undefined) throw new LabStorageError('InvalidDisk', 'The disk has no link.', '')
    return top
  }

  #setLinks(links: OpenLink[]): void {
    this.#links = links
    this.#raw = links.map(({ link }) => link)
  }

  #reread(link: OpenLink): OpenLink {
    return { ...link, info: diskInfo(this.datastore, link.path) }
  }

  /** Marks the change before the data, and gives the link a new content id at the first write since it became current. */
  #beforeWrite(offset: number, length: number): void {
    this.#open()
    if (this.datastore.full) this.datastore.charge(1)
    this.#log?.mark(offset, length)
    if (this.#written) return
    const { cid, long } = newContentId(this.#random)
    const top = this.#top()
    writeDescriptor(this.datastore, top.path, withCid(readDescriptor(this.datastore, top.path), cid, long))
    this.#links[0] = this.#reread(top)
    this.#written = true
  }

  #nextName(): string {
    const base = this.#links.at(-1)?.path ?? ''
    const stem = base.replace(/\.vmdk$/, '')
    for (let number = 1; ; number++) {
      const path = `${stem}-${String(number).padStart(6, '0')}.vmdk`
      const files = [path, extentName(path, 'delta'), extentName(path, 'sesparse')]
      if (!files.some((file) => existsSync(this.datastore.path(file)))) return path
    }
  }

  #createRedoLog(parent: OpenLink, path: string): OpenLink {
    const subject = this.datastore.datastorePath(path)
    if (existsSync(this.datastore.path(path))) throw new LabStorageError('FileAlreadyExists', `File ${subject} already exists.`, subject)
    const { backing } = parent.info
    const large = this.datastore.type === 'VMFS6' || parent.link.capacity >= 2048 * GIB
    const seSparse = backing === 'seSparse' || (backing === 'flat' && large)
    const extent = extentName(path, seSparse ? 'sesparse' : 'delta')
    const file = this.datastore.path(extent)
    this.datastore.charge(64 * 1024)
    if (seSparse) createSeSparse(file, parent.link.capacity, subject)
    else createCowd(file, parent.link.capacity, subject)
    try {
      const from = readDescriptor(this.datastore, parent.path)
      const beside = besidePath(path, fileOf(parent.path)) === parent.path
      const ddb = new Map(from.ddb).set('ddb.thinProvisioned', '1')
      if (seSparse) ddb.set('ddb.grain', '8')
      writeDescriptor(this.datastore, path, {
        version: from.changeTrackPath === undefined ? 1 : 3,
        cid: from.cid,
        parentCid: from.cid,
        createType: seSparse ? 'seSparse' : 'vmfsSparse',
        parentHint: beside ? fileOf(parent.path) : `/vmfs/volumes/${this.datastore.name}/${parent.path}`,
        extents: [
          { access: 'RW', sectors: parent.link.capacity / SECTOR, type: seSparse ? 'SESPARSE' : 'VMFSSPARSE', file: fileOf(extent) },
        ],
        changeTrackPath: from.changeTrackPath,
        ddb,
      })
      const info = diskInfo(this.datastore, path)
      return { path, info, link: openLink(this.datastore, info, false) }
    } catch (error) {
      removeFile(file)
      removeFile(this.datastore.path(path))
      throw error
    }
  }

  #enableTracking(): void {
    if (this.#log !== undefined) return
    const base = this.#links.at(-1)?.path ?? ''
    const path = extentName(base, 'ctk')
    removeFile(this.datastore.path(path))
    const log = ChangeLog.open(this.datastore, path, this.size, this.#random)
    this.#describeTracking(fileOf(path))
    this.#log = log
  }

  #disableTracking(): void {
    const log = this.#log
    if (log === undefined) return
    this.#describeTracking(undefined)
    this.#log = undefined
    log.close()
    removeFile(this.datastore.path(log.path))
  }

  /** Base last when it is switched on, first when off: the base's descriptor is what counts. */
  #describeTracking(changeTrackPath: string | undefined): void {
    const order = changeTrackPath === undefined ? this.#links.toReversed() : this.#links
    for (const { path } of order) {
      const descriptor = readDescriptor(this.datastore, path)
      writeDescriptor(this.datastore, path, { ...descriptor, version: changeTrackPath === undefined ? 1 : 3, changeTrackPath })
    }
    this.#setLinks(this.#links.map((link) => this.#reread(link)))
  }
}

/** Completes what a kill in the last step of a commit left: the link below has this link's content and CID already. */
function healParents(datastore: Datastore, infos: readonly DiskInfo[]): void {
  for (const [index, info] of infos.entries()) {
    const parent = infos[index + 1]
    if (parent === undefined || info.parentCid === parent.cid) continue
    writeDescriptor(datastore, info.path, { ...readDescriptor(datastore, info.path), parentCid: parent.cid })
  }
}
