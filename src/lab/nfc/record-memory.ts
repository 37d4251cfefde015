/** How many records of one connection may be under way before further ones get memory of their own. */
const KEPT = 6

/** Memory for the records of one connection, used again once a record is sent: fresh pages for every megabyte cost more than sending it. */
export class RecordMemory {
  readonly #free: Buffer[] = []
  #size = 0

  /** `bytes` of memory that is not zero. */
  take(bytes: number): { readonly bytes: Buffer; readonly giveBack: () => void } {
    if (bytes > this.#size) {
      this.#size = bytes
      this.#free.length = 0
    }
    const whole = this.#free.pop() ?? Buffer.allocUnsafeSlow(this.#size)
    return {
      bytes: whole.subarray(0, bytes),
      giveBack: () => {
        if (whole.length === this.#size && this.#free.length < KEPT) this.#free.push(whole)
      },
    }
  }
}
