/** The upper half of code page 437, which a PC's firmware, and Linux where it is told nothing else, writes short names in. */
const CP437 =
  'ÇüéâäàåçêëèïîìÄÅÉæÆôöòûùÿÖÜ¢£¥₧ƒáíóúñÑªº¿⌐¬½¼¡«»░▒▓│┤╡╢╖╕╣║╗╝╜╛┐└┴┬├─┼╞╟╚╔╩╦╠═╬╧╨╤╥╙╘╒╓╫╪┘┌█▄▌▐▀αßΓπΣσµτΦΘΩδ∞φε∩≡±≥≤⌠⌡÷≈°∙·√ⁿ²■\u00a0'

const LOWER_BASE = 0x08
const LOWER_EXTENSION = 0x10
const LONG_PIECE_UNITS = 13
const MOST_PIECES = 20

/** The short name of an entry of 32 bytes: `NAME.EXT`, in the case that Windows NT keeps in byte 12. */
export function shortName(entry: Buffer): string {
  const flags = entry.readUInt8(12)
  const base = decoded(entry.subarray(0, 8), true)
  const extension = decoded(entry.subarray(8, 11), false)
  const whole = (flags & LOWER_BASE) === 0 ? base : base.toLowerCase()
  const end = (flags & LOWER_EXTENSION) === 0 ? extension : extension.toLowerCase()
  return end === '' ? whole : `${whole}.${end}`
}

/** Blanks at the end are none; `05` at the beginning stands for `E5`, which would mean a deleted entry. */
function decoded(bytes: Buffer, beginning: boolean): string {
  return [...bytes]
    .map((byte, index) => (beginning && index === 0 && byte === 0x05 ? 0xe5 : byte))
    .map((byte) => (byte < 0x80 ? String.fromCharCode(byte) : (CP437[byte - 0x80] ?? '_')))
    .join('')
    .replace(/ +$/, '')
}

/** What a long name's pieces are signed with: the sum of the short name's bytes that stand behind them. */
export function shortNameSum(entry: Buffer): number {
  let sum = 0
  for (const byte of entry.subarray(0, 11)) sum = (((sum & 1) << 7) + (sum >>> 1) + byte) & 0xff
  return sum
}

/** Puts together a long name, whose pieces come last one first, before the entry they belong to. */
export class LongName {
  #pieces: Buffer[] = []
  #wanted = 0
  #sum = 0

  /** What is no next piece of the name under way ends it. */
  add(entry: Buffer): void {
    const number = entry.readUInt8(0)
    const order = number & 0x3f
    if ((number & 0x40) !== 0) {
      this.#pieces = []
      this.#wanted = order > MOST_PIECES ? 0 : order
      this.#sum = entry.readUInt8(13)
    }
    if (order === 0 || order !== this.#wanted || entry.readUInt8(13) !== this.#sum) {
      this.clear()
      return
    }
    this.#wanted--
    this.#pieces.unshift(Buffer.concat([entry.subarray(1, 11), entry.subarray(14, 26), entry.subarray(28, 32)]))
  }

  clear(): void {
    this.#pieces = []
    this.#wanted = 0
  }

  /** The name, where it is whole and belongs to this entry; undefined otherwise. */
  take(entry: Buffer): string | undefined {
    const whole = this.#pieces.length > 0 && this.#wanted === 0 && this.#sum === shortNameSum(entry)
    const units = whole
      ? Buffer.concat(this.#pieces)
          .toString('utf16le')
          .slice(0, MOST_PIECES * LONG_PIECE_UNITS)
      : ''
    this.clear()
    const end = units.indexOf('\0')
    const name = end === -1 ? units : units.slice(0, end)
    return name === '' ? undefined : name
  }
}

/** A name that can stand in a directory here: what would lead elsewhere is replaced, and one that is there already gets a number. */
export function placeable(name: string, taken: { has(name: string): boolean }): string {
  const plain = name.toWellFormed().replaceAll(/[/\0]/g, '_')
  const safe = plain === '' || plain === '.' || plain === '..' ? `_${plain}` : plain
  let free = safe
  for (let again = 2; taken.has(free); again++) free = `${safe}~${again}`
  return free
}
