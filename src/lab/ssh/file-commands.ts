import { createReadStream } from 'node:fs'
import type { Command, CommandCall } from './command.ts'
import { hostFile } from './host-files.ts'

/** `dd if=FILE bs=N [skip=N] [count=N]` of busybox: whole blocks, offsets in blocks; what lies behind the end is left out without a word. */
export const dd: Command = async (call) => {
  const operands = new Map(call.words.slice(1).map((word) => [word.slice(0, word.indexOf('=')), word.slice(word.indexOf('=') + 1)]))
  const path = operands.get('if')
  const number = (name: string, otherwise: number): number => Number(operands.get(name) ?? otherwise)
  const [bs, skip, count] = [number('bs', 512), number('skip', 0), number('count', Number.MAX_SAFE_INTEGER)]
  const unknown = [...operands.keys()].find((name) => !['if', 'bs', 'skip', 'count'].includes(name))
  if (
    unknown !== undefined ||
    path === undefined ||
    ![bs, skip, count].every((each) => Number.isSafeInteger(each) && each >= 0) ||
    bs === 0
  ) {
    call.error(`dd: invalid argument '${unknown ?? ''}'\n`)
    return 1
  }
  const file = await hostFile(call.model, call.host, path, 'read')
  if (!file.ok) {
    call.error(`dd: can't open '${path}': ${file.text}\n`)
    return 1
  }
  using _read = call.model.holds.download(file.datastorePath)
  const start = bs * skip
  const end = Math.min(file.size, Math.min(Number.MAX_SAFE_INTEGER, start + bs * count))
  if (end > start && !(await send(call, file.local, start, end))) return 0
  const full = Math.floor(Math.max(0, end - start) / bs)
  const records = `${full}+${(end - start) % bs > 0 ? 1 : 0}`
  call.error(`${records} records in\n${records} records out\n`)
  return 0
}

/** `cat FILE`, for measuring. */
export const cat: Command = async (call) => {
  const path = call.words[1] ?? ''
  const file = await hostFile(call.model, call.host, path, 'read')
  if (!file.ok) {
    call.error(`cat: can't open '${path}': ${file.text}\n`)
    return 1
  }
  using _read = call.model.holds.download(file.datastorePath)
  await send(call, file.local, 0, file.size)
  return 0
}

/** `stat -L -c %s FILE`. */
export const stat: Command = async (call) => {
  const [, follow, flag, format, path = ''] = call.words
  if (follow !== '-L' || flag !== '-c' || format !== '%s') {
    call.error('stat: only -L -c %s is simulated\n')
    return 1
  }
  const file = await hostFile(call.model, call.host, path, 'look')
  if (!file.ok) {
    call.error(`stat: can't stat '${path}': ${file.text}\n`)
    return 1
  }
  await call.out(Buffer.from(`${file.size}\n`))
  return 0
}

async function send(call: CommandCall, local: string, start: number, end: number): Promise<boolean> {
  if (end <= start) return true
  for await (const piece of createReadStream(local, { start, end: end - 1, highWaterMark: 262_144 })) {
    if (call.gone.aborted || !(await call.out(piece as Buffer))) return false
  }
  return true
}
