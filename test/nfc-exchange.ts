import { readFileSync } from 'node:fs'
import { join } from 'node:path'

/** `C` is what the client sends, `S` what the host sends. */
export type Message = { readonly from: 'C' | 'S'; readonly bytes: Buffer }

/** Messages of `test/golden/nfc/NAME.txt`, in order. */
export function exchange(name: string): readonly Message[] {
  const lines = readFileSync(join(import.meta.dirname, 'golden', 'nfc', `${name}.txt`), 'utf8').split('\n')
  return lines.flatMap((line): Message[] => {
    const [from, ...tokens] = line.replace(/#.*/, '').trim().split(/\s+/)
    if (from !== 'C' && from !== 'S') return []
    let bytes = Buffer.alloc(0)
    for (const token of tokens) {
      const [, byte = '', count = ''] = /^([0-9a-f]{2})\*(\d+)$/.exec(token) ?? []
      const size = /^pad(\d+)$/.exec(token)?.[1]
      if (count !== '') bytes = Buffer.concat([bytes, Buffer.alloc(Number(count), byte, 'hex')])
      else if (size !== undefined) bytes = Buffer.concat([bytes, Buffer.alloc(Number(size) - bytes.length)])
      else bytes = Buffer.concat([bytes, Buffer.from(token, 'hex')])
    }
    return [{ from, bytes }]
  })
}
