import { setImmediate } from 'node:timers/promises'
import { type Abortable, AgentError, type Clock, MIB, type Range, SECTOR, throwIfAborted } from '../../core/index.ts'
import { lastFinished, readSlots, recordWrites } from './record.ts'
import { findArea, type GuestDisk, makeArea, payloadRange, type RecordArea, withoutPayload } from './record-area.ts'
import { scatteredBlocks, SeededRandom, wholeSectors } from './scattered-writes.ts'
import { QuiesceError, type ToolsState } from './tools.ts'

export type GuestOptions = {
  readonly clock: Clock
  /** Any 32-bit number; the payload follows from it. Taken from the disks when they hold records already. */
  readonly seed: number
  /** 0 = writes only when told. */
  readonly recordsPerSecond: number
  readonly tools?: ToolsState | undefined
  /** Told of write errors (a full datastore) of the workload, which then pauses until `resume`, like a VM with a question. */
  readonly onError?: ((error: unknown) => void) | undefined
  /** Told when the guest begins to hold its writes back for a freeze, and when it goes on, with how long it held them, ms. */
  readonly onFreeze?: (() => void) | undefined
  readonly onThaw?: ((frozenMs: number) => void) | undefined
}

/** A frozen guest. */
export interface Frozen {
  /** Lets the guest go on. `held: false` = the limit passed or the guest let go before: raise FilesystemQuiesceFault and drop the snapshot. */
  thaw(): { readonly held: boolean }
}

export type GuestWrite =
  | { readonly records: number }
  /** Overwrites `percent` of the disk in scattered blocks of `blockBytes` with random data of `seed`, sparing records and file systems. */
  | { readonly percent: number; readonly blockBytes: number; readonly seed: number; readonly disk?: number | undefined }
  /** Overwrites exactly these areas (whole sectors) with random data, records or not. */
  | { readonly areas: readonly Range[]; readonly seed: number; readonly disk?: number | undefined; readonly unmap?: boolean | undefined }

export type GuestWritten = {
  readonly lastRecord: number
  readonly perDisk: readonly { readonly bytes: number; readonly areas: number }[]
}

type Member = { readonly disk: GuestDisk; readonly area: RecordArea | undefined }
type Write = { readonly member: number; readonly offset: number; readonly data: Uint8Array }

/** Longest single write of the guest, bytes. */
const MAX_WRITE = MIB
const MIN_TICK_MS = 5
const MAX_TICK_MS = 250

/** The workload of one VM. `disks` in the order of their device keys; one that has no room for records is left alone. */
export class Guest implements AsyncDisposable {
  tools: ToolsState
  readonly #options: GuestOptions
  #prepared = false
  #members: Member[] = []
  #seed: number
  #last = 0
  #rate: number
  /** The writes of the record in flight; what is left of it is written before any other record. */
  #flight: Generator<Write> | undefined
  #run: AbortController | undefined
  #loop: Promise<void> = Promise.resolve()
  #stuns = 0
  #frozen: { held: boolean; readonly end: AbortController } | undefined
  #freezing = false
  #frozenAt: number | undefined
  #failed = false
  #wake: (() => void)[] = []

  private constructor(options: GuestOptions) {
    this.#options = options
    this.#seed = options.seed >>> 0
    this.#rate = options.recordsPerSecond
    this.tools = options.tools ?? 'running'
  }

  /** Finds the records on the disks, or lays out new ones. */
  static open(disks: readonly GuestDisk[], options: GuestOptions): Guest {
    const guest = new Guest(options)
    guest.setDisks(disks)
    return guest
  }

  /** Last record completely written to all disks. */
  get lastRecord(): number {
    return this.#last
  }

  get frozen(): boolean {
    return this.#frozen?.held === true
  }

  /** The workload stopped at a write error, like a VM that waits for an answer about a full datastore. */
  get stalled(): boolean {
    return this.#failed
  }

  /** Begins writing at the set rate (power-on). */
  start(): void {
    if (this.#run !== undefined) return
    const run = new AbortController()
    this.#run = run
    this.#loop = this.#work(run.signal).catch((error: unknown) => {
      if (!run.signal.aborted) this.#fail(error)
    })
  }

  /** Ends it after the write in flight (power-off, or a crash of the guest: the record in flight may be on some disks only). */
  async stop(): Promise<void> {
    this.#run?.abort(new AgentError('CANCELED', 'The guest was stopped.'))
    this.#wakeAll()
    await this.#loop
    this.#run = undefined
    this.#flight = undefined
  }

  setRate(recordsPerSecond: number): void {
    this.#rate = recordsPerSecond
    this.#wakeAll()
  }

  /** The disks changed (hot-add, removal, a revert): the workload continues with the number after the last record found on all of these. */
  setDisks(disks: readonly GuestDisk[]): void {
    this.#flight = undefined
    const found = disks.map((disk) => findArea(disk))
    this.#seed = found.find((area) => area !== undefined)?.seed ?? this.#seed
    this.#members = disks.map((disk, index) => ({ disk, area: found[index] }))
    this.#prepared = false
    const numbers = this.#numbers()
    this.#last = numbers.length === 0 ? 0 : Math.min(...numbers)
  }

  /** Last finished record of each disk that has room for records. */
  #numbers(): readonly number[] {
    return this.#members.flatMap(({ disk, area }) => (area === undefined ? [] : [lastFinished(readSlots(disk, area))]))
  }

  /**
   * Before the first write, not when the disks are opened: looking at a VM (a restored one, one that is off) must not change it. Lays out the
   * areas of disks that have none and brings a disk with fewer records up to the others, so that its ring has no gap.
   */
  #prepare(): void {
    if (this.#prepared) return
    this.#members = this.#members.map(({ disk, area }, index) => ({ disk, area: area ?? makeArea(disk, this.#seed, index) }))
    const numbers = this.#numbers()
    const newest = Math.max(0, ...numbers)
    if (newest - Math.min(newest, ...numbers) > 1) {
      for (const member of this.#members) catchUp(member, newest)
      this.#last = newest
    }
    this.#prepared = true
  }

  /** Freezes through Tools: the record in flight is finished on all disks, then nothing is written until thaw or `limitMs`. Throws QuiesceError. */
  async quiesce(limitMs: number, options: Abortable = {}): Promise<Frozen> {
    throwIfAborted(options)
    if (this.#frozen !== undefined || this.#freezing) throw new AgentError('CONFLICT', 'The guest is being quiesced already.')
    switch (this.tools) {
      case 'notInstalled':
      case 'notRunning':
        throw new QuiesceError('ToolsUnavailable', 'VMware Tools are not running in the guest.')
      case 'scriptFails':
        throw new QuiesceError('ApplicationQuiesceFault', 'The pre-freeze script in the guest ended with an error.')
      case 'vssFails':
        throw new QuiesceError('ApplicationQuiesceFault', 'A VSS writer in the guest failed (0x800423f4).')
      case 'hangs':
        await this.#options.clock.sleep(limitMs, options)
        throw new QuiesceError('FilesystemQuiesceFault', 'VMware Tools did not answer within the freeze limit.')
      case 'running':
      case 'cannotHold':
    }
    this.#freezing = true
    this.#frozenAt = this.#options.clock.monotonicMs()
    this.#options.onFreeze?.()
    try {
      // A write that fails (full datastore) or a stun in between leaves the record unfinished: then the guest is not frozen.
      for (;;) {
        if (this.#stuns > 0) await this.#woken()
        else if (!this.#step()) break
      }
    } catch (error) {
      this.#countFreeze()
      throw new QuiesceError('FilesystemQuiesceFault', 'The guest could not finish its writes before the freeze.', error)
    } finally {
      this.#freezing = false
    }
    const frozen = { held: true, end: new AbortController() }
    this.#frozen = frozen
    if (this.tools === 'cannotHold') this.#letGo(frozen)
    else void this.#expire(frozen, limitMs)
    return {
      thaw: () => {
        const { held } = frozen
        this.#letGo(frozen)
        return { held }
      },
    }
  }

  /** Stuns the VM: no write from now on until disposed, wherever the workload stands. Take all redo logs of a VM under ONE stun. */
  stun(): Disposable {
    this.#stuns++
    let stunned = true
    return {
      [Symbol.dispose]: () => {
        if (!stunned) return
        stunned = false
        this.#stuns--
        this.#wakeAll()
      },
    }
  }

  /** Goes on after a write error. */
  resume(): void {
    this.#failed = false
    this.#wakeAll()
  }

  /** Writes at once, running or not. Refused while frozen (CONFLICT). */
  async writeNow(write: GuestWrite): Promise<GuestWritten> {
    if (this.frozen || this.#freezing) throw new AgentError('CONFLICT', 'The guest is frozen and writes nothing.')
    await this.#writable()
    this.#prepare()
    const perDisk = this.#members.map(() => ({ bytes: 0, areas: 0 }))
    const note = (member: number, bytes: number): void => {
      const counted = perDisk[member]
      if (counted === undefined) return
      counted.bytes += bytes
      counted.areas++
    }
    if ('records' in write) {
      const target = this.#last + write.records
      while (this.#last < target && this.#members.some(({ area }) => area !== undefined)) {
        await this.#writable()
        this.#step(note, true)
        await setImmediate()
      }
      return { lastRecord: this.#last, perDisk }
    }
    const index = write.disk ?? 0
    const member = this.#members[index]
    if (member === undefined) throw new AgentError('USAGE', `The guest has no disk number ${index}.`)
    const random = new SeededRandom(write.seed)
    const ranges = 'areas' in write ? write.areas : scatteredOver(member, write.percent, write.blockBytes, random)
    for (const range of ranges) {
      await this.#writable()
      if ('areas' in write && write.unmap === true) member.disk.unmap(range)
      else {
        for (let done = 0; done < range.length; done += MAX_WRITE) {
          const data = new Uint8Array(Math.min(MAX_WRITE, range.length - done))
          random.into(data)
          member.disk.write(range.offset + done, data)
        }
      }
      note(index, range.length)
    }
    return { lastRecord: this.#last, perDisk }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop()
    if (this.#frozen !== undefined) this.#letGo(this.#frozen)
  }

  /** Writes the next piece of the record in flight, beginning one when `begin`; false when there is none in flight. */
  #step(note?: (member: number, bytes: number) => void, begin = false): boolean {
    if (this.#flight === undefined && begin) {
      this.#prepare()
      this.#flight = this.#recordFlight(this.#last + 1)
    }
    const next = this.#flight?.next()
    if (next === undefined) return false
    if (next.done === true) {
      this.#flight = undefined
      return false
    }
    const { member, offset, data } = next.value
    try {
      this.#members[member]?.disk.write(offset, data)
    } catch (error) {
      // The record begins again when there is room; its first writes are then done twice, alike.
      this.#flight = undefined
      throw error
    }
    note?.(member, data.length)
    return true
  }

  *#recordFlight(number: number): Generator<Write> {
    for (const [member, { area }] of this.#members.entries()) {
      if (area === undefined) continue
      for (const write of recordWrites(area, number)) yield { member, ...write }
    }
    this.#last = number
  }

  /** A record's writes are spread over its period, so that a stun at any moment may fall between two disks. */
  async #work(signal: AbortSignal): Promise<void> {
    const { clock } = this.#options
    let budget = 0
    let before = clock.monotonicMs()
    while (!signal.aborted) {
      if (this.#rate > 0 && !this.#failed && !this.#blocked()) {
        try {
          this.#prepare()
        } catch (error) {
          this.#fail(error)
        }
      }
      const perRecord = this.#members.reduce((sum, { area }) => sum + (area === undefined ? 0 : area.perRecord + 2), 0)
      if (this.#rate <= 0 || perRecord === 0 || this.#failed || this.#blocked()) {
        await this.#woken()
        before = clock.monotonicMs()
        continue
      }
      const writesPerMs = (this.#rate * perRecord) / 1000
      await clock.sleep(Math.min(MAX_TICK_MS, Math.max(MIN_TICK_MS, 1 / writesPerMs)), { signal })
      const now = clock.monotonicMs()
      budget = Math.min(budget + (now - before) * writesPerMs, perRecord + MAX_TICK_MS * writesPerMs)
      before = now
      try {
        while (budget >= 1 && !this.#blocked() && !signal.aborted) if (this.#step(undefined, true)) budget--
      } catch (error) {
        this.#fail(error)
      }
    }
  }

  #blocked(): boolean {
    return this.#stuns > 0 || this.#frozen?.held === true || this.#freezing
  }

  #fail(error: unknown): void {
    this.#failed = true
    this.#options.onError?.(error)
  }

  async #expire(frozen: { held: boolean; readonly end: AbortController }, limitMs: number): Promise<void> {
    try {
      await this.#options.clock.sleep(limitMs, { signal: frozen.end.signal })
    } catch (error) {
      if (!frozen.end.signal.aborted) throw error
    }
    this.#letGo(frozen)
  }

  #letGo(frozen: { held: boolean; readonly end: AbortController }): void {
    if (this.#frozen !== frozen) return
    frozen.held = false
    this.#frozen = undefined
    this.#countFreeze()
    frozen.end.abort(new AgentError('CANCELED', 'The guest was thawed.'))
    this.#wakeAll()
  }

  #countFreeze(): void {
    if (this.#frozenAt === undefined) return
    const frozenMs = this.#options.clock.monotonicMs() - this.#frozenAt
    this.#frozenAt = undefined
    this.#options.onThaw?.(frozenMs)
  }

  async #writable(): Promise<void> {
    while (this.#blocked()) await this.#woken()
  }

  #woken(): Promise<void> {
    return new Promise((resolve) => this.#wake.push(resolve))
  }

  #wakeAll(): void {
    const waiting = this.#wake
    this.#wake = []
    for (const resolve of waiting) resolve()
  }
}

/** Fills the ring of a disk that joined late with the records it missed, as far as they would still be there. */
function catchUp(member: Member, newest: number): void {
  const { disk, area } = member
  if (area === undefined) return
  const from = Math.max(lastFinished(readSlots(disk, area)) + 1, newest - area.slots + 1, 1)
  for (let number = from; number <= newest; number++) {
    for (const { offset, data } of recordWrites(area, number)) disk.write(offset, data)
  }
}

/** Blocks of random places in the part of the disk that is not a file system's, cut where they would hit records. */
function* scatteredOver(member: Member, percent: number, blockBytes: number, random: SeededRandom): Generator<Range> {
  const { disk, area } = member
  const unit = wholeSectors(blockBytes)
  const count = Math.max(1, Math.round((disk.size * percent) / 100 / unit))
  const whole = { offset: 0, length: Math.floor(disk.size / SECTOR) * SECTOR }
  for (const block of scatteredBlocks(area === undefined ? whole : payloadRange(area), unit, count, random)) {
    yield* area === undefined ? [block] : withoutPayload(area, block)
  }
}
