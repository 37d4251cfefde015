/** Classic frames of 264 bytes: u32 type, arguments, zeros; some have a tail. */
export const FRAME_BYTES = 264

export const FRAME = Object.freeze({
  end: 4,
  error: 20,
  parameters: 33,
  parametersReply: 36,
  clientWord: 43,
  version: 51,
  start: 52,
  connectionData: 54,
  features: 55,
})

/** A frame with words (u32) at the given offsets. */
export function classicFrame(type: number, words: Readonly<Record<number, number>> = {}): Buffer {
  const frame = Buffer.alloc(FRAME_BYTES)
  frame.writeUInt32LE(type, 0)
  for (const [offset, word] of Object.entries(words)) frame.writeUInt32LE(word, Number(offset))
  return frame
}

/** Type 20: family, code and a text that ends with NUL. */
export function errorFrame(family: number, code: number, text: string): Buffer {
  const tail = Buffer.from(`${text}\0`, 'latin1')
  return Buffer.concat([classicFrame(FRAME.error, { 4: family, 8: code, 12: tail.length }), tail])
}

/** Text at 4, zero padded: frame 43. */
export function clientWordOf(frame: Buffer): string {
  const end = frame.indexOf(0, 4)
  return frame.toString('latin1', 4, end < 0 ? frame.length : end)
}
