import { type Abortable, AgentError, type AttachedDisk, type DiskRef, type TransportClaim, type TransportClaims } from '../core/index.ts'
import { appeared } from './hotadd-appear.ts'
import { attachAndFind, type Attached, type AttachParts } from './hotadd-attach.ts'
import type { GuestDisk } from './hotadd-guest.ts'
import type { ProxyVm } from './hotadd-proxy.ts'
import { uuidDigits } from './disk-uuid.ts'

/** A disk of another VM while this process has it attached, by one claim, for as many sources as are open on it. */
type Shared = { readonly claim: TransportClaim<'attachedDisk'>; readonly device: GuestDisk; users: number }

/** A use of an attached disk. Disposal ends it; the last one detaches the disk. */
export type DiskUse = AsyncDisposable & { readonly device: GuestDisk }

/**
 * The disks that one run's transport has attached. A disk that is opened again, as after a read that broke, is not attached twice: when the guest
 * still shows it, it is used on; else its claim is released before a new one is taken.
 */
export class AttachedDisks {
  readonly #parts: AttachParts
  readonly #shared = new Map<string, Shared>()
  /** Detachments under way, which never reject: the same disk is attached again only after its. */
  readonly #ending = new Map<string, Promise<void>>()

  constructor(parts: AttachParts) {
    this.#parts = parts
  }

  /** `look`: the proxy VM as it is now; called when no other use of the disk is ending any more, so that a disk of ours never counts as there before. */
  async use(
    look: () => Promise<ProxyVm>,
    vm: string,
    disk: DiskRef,
    mode: AttachedDisk['mode'],
    claims: TransportClaims | undefined,
    options?: Abortable,
  ): Promise<DiskUse> {
    await this.#ending.get(disk.fileName)
    const known = this.#shared.get(disk.fileName)
    if (known !== undefined) {
      // Counted before the look, so that the end of another use meanwhile does not detach it.
      await using stack = new AsyncDisposableStack()
      const use = stack.use(this.#useOf(disk.fileName, known))
      if (await this.#stillSeen(known, disk)) {
        stack.move()
        return use
      }
      this.#shared.delete(disk.fileName)
      await known.claim[Symbol.asyncDispose]()
    }
    // An attached disk outlives the process: without a claim nobody would ever detach it.
    if (claims === undefined) throw new AgentError('INTERNAL', `${disk.label} was to be attached without a claim.`)
    const proxy = await look()
    const args: AttachedDisk = {
      proxy: proxy.ref,
      proxyPathName: proxy.vmPathName,
      vm,
      disk: disk.label,
      fileName: disk.fileName,
      uuid: disk.uuid ?? '',
      mode,
      before: proxy.hardware.disks.map((each) => each.fileName),
    }
    let attached: Attached | undefined
    const claim = await claims.take('attachedDisk', args, async (id) => {
      attached = await attachAndFind(this.#parts, proxy, disk, args, { job: claims.job, claim: id }, options)
      return { key: attached.key }
    })
    if (attached === undefined) throw new AgentError('INTERNAL', `The claim ${claim.id} was taken without its effect.`)
    const shared: Shared = { claim, device: attached.device, users: 0 }
    this.#shared.set(disk.fileName, shared)
    return this.#useOf(disk.fileName, shared)
  }

  /** The very disk, still where it was. */
  async #stillSeen({ device }: Shared, disk: DiskRef): Promise<boolean> {
    const wanted = {
      fileName: disk.fileName,
      uuid: uuidDigits(disk.uuid) ?? '',
      capacityBytes: disk.capacityBytes,
      unit: -1,
      bus: device.bus,
    }
    const found = appeared(wanted, await this.#parts.guest.disks())
    return found?.address === device.address && found.name === device.name
  }

  #useOf(fileName: string, shared: Shared): DiskUse {
    shared.users++
    let over = false
    return {
      device: shared.device,
      [Symbol.asyncDispose]: async () => {
        if (over) return
        over = true
        shared.users--
        if (shared.users > 0) return
        if (this.#shared.get(fileName) === shared) this.#shared.delete(fileName)
        const detached = Promise.resolve(shared.claim[Symbol.asyncDispose]())
        const ended = detached.then(
          () => undefined,
          () => undefined, // told to whoever ended the use
        )
        this.#ending.set(fileName, ended)
        await detached.finally(() => {
          if (this.#ending.get(fileName) === ended) this.#ending.delete(fileName)
        })
      },
    }
  }
}
